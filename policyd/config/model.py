"""
The tables of the configuration file and their keys, with their defaults.

Each table is a frozen model that takes what TOML gives and nothing else: no key that it does not
know, no number for a text.
"""

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
)

from policyd.checks.rate import Amount, Rate
from policyd.config import units
from policyd.config.problem import choose_from
from policyd.config.units import WrongValueError
from policyd.mail.stamping import Method
from policyd.smtp.decision import Mode
from policyd.smtp.stage import TRANSACTION, Stage

LONGEST_NAME: Final = 64
LONGEST_WAIT: Final = {"policy_service": 100.0, "milter": 30.0}
"""
Seconds that Postfix waits for an answer by default: smtpd_policy_service_timeout and
milter_command_timeout (postconf(5)).
"""
MOST_SERVERS: Final = 100
"""Processes of smtpd(8) that Postfix runs by default: default_process_limit (postconf(5))."""

# What people write for a stage, from Postfix's and milter's words.
_STAGE_WORDS: Final = {
    "ehlo": "helo",
    "lhlo": "helo",
    "client": "connect",
    "sender": "mail",
    "envfrom": "mail",
    "recipient": "rcpt",
    "envrcpt": "rcpt",
    "end_of_data": "end-of-data",
    "end-of-message": "end-of-data",
    "end_of_message": "end-of-data",
    "eom": "end-of-data",
    "eod": "end-of-data",
}


def _list_of(what: str, example: str) -> BeforeValidator:
    def read(value: object) -> tuple[object, ...]:
        if isinstance(value, list):
            return tuple(value)
        raise WrongValueError(
            f"{units.describe(value)} is no list of {what}", f"write it as {example}"
        )

    return BeforeValidator(read)


def _text(example: str) -> BeforeValidator:
    return BeforeValidator(partial(units.read_text, example=example))


def _stage(value: object) -> Stage:
    text = units.read_text(value, '"rcpt"')
    if text in set(Stage):
        return Stage(text)
    near = _STAGE_WORDS.get(text.lower(), text)
    raise WrongValueError(f'there is no stage "{text}"', choose_from(near, tuple(Stage)))


def read_stages(value: object) -> tuple[Stage, ...]:
    """Read one stage or a list of them; WrongValueError for any that is none."""
    given = value if isinstance(value, list) else [value]
    if not given:
        raise WrongValueError("it names no stage", f"name some of: {', '.join(Stage)}")
    stages = tuple(map(_stage, given))
    twice = next((stage for index, stage in enumerate(stages) if stage in stages[:index]), None)
    if twice is not None:
        raise WrongValueError(f"it names stage {twice} twice", "name each stage once")
    return stages


def _milter_stages(value: object) -> tuple[Stage, ...]:
    stages = read_stages(value)
    foreign = [stage for stage in stages if stage not in TRANSACTION]
    if foreign:
        what = f"Postfix tells a milter nothing of {' and '.join(foreign)}"
        raise WrongValueError(what, "leave that to [policy_service]")
    return stages


def _one_of(what: str, words: tuple[str, ...]) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = units.read_text(value, f'"{words[0]}"')
        if text in words:
            return text
        raise WrongValueError(f'"{text}" is no {what}', choose_from(text, words))

    return read


def _mode(value: object) -> Mode:
    return Mode(_one_of("mode of a rule", tuple(Mode))(value))


def _methods(value: object) -> tuple[Method, ...]:
    """Read methods of authentication, in any order; they are written in their own."""
    if not isinstance(value, list):
        raise WrongValueError(
            f"{units.describe(value)} is no list of methods", 'write it as ["spf", "dkim"]'
        )
    read = _one_of("method of authentication", tuple(Method))
    named = set(map(read, value))
    return tuple(method for method in Method if method in named)


def _name(value: object) -> str:
    text = units.read_text(value, '"mailbox-unknown"')
    if len(text) > LONGEST_NAME:
        raise WrongValueError(
            f"the name has {len(text)} characters", f"it has at most {LONGEST_NAME}; shorten it"
        )
    if not text.isprintable() or text != text.strip() or set(text) & set("\"'`\\"):
        raise WrongValueError(
            f"{text!r} cannot be a name: it is a metric label",
            "write printable characters, no quotes, no backslash, no blank at its ends",
        )
    return text


def _key_parts(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else [value]
    if not parts:
        raise WrongValueError("it is empty", 'write it as "sasl_username"')
    return tuple(units.read_text(part, '"sasl_username"') for part in parts)


def _file_name(value: object) -> str:
    text = units.read_text(value, '"mailboxes.txt"')
    if "\0" in text:
        raise WrongValueError("it is no name of a file", "leave the NUL character out")
    return text


def _somewhere(endpoints: tuple[str, ...]) -> tuple[str, ...]:
    if not endpoints:
        raise WrongValueError("it is empty", 'write it as ["inet:127.0.0.1:10040"]')
    return endpoints


def _one_endpoint(endpoints: tuple[str, ...]) -> tuple[str, ...]:
    if len(endpoints) > 1:
        raise WrongValueError(
            f"{len(endpoints)} endpoints: libmilter listens on one",
            "name one; several smtpd_milters may point to it",
        )
    return endpoints


def _some_servers(servers: tuple[str, ...]) -> tuple[str, ...]:
    if not servers:
        mend = "name one, or leave it out for those of resolv.conf(5)"
        raise WrongValueError("it is empty, so nobody could be asked", mend)
    return servers


def _some_networks(
    networks: tuple[IPv4Network | IPv6Network, ...],
) -> tuple[IPv4Network | IPv6Network, ...]:
    if not networks:
        mend = "name networks, or leave it out if all may connect"
        raise WrongValueError("it is empty, so nobody could connect over TCP", mend)
    return networks


_Stages = tuple[Stage, ...]
_Endpoints = Annotated[
    tuple[Annotated[str, BeforeValidator(units.read_endpoint)], ...],
    _list_of("endpoints", '["inet:127.0.0.1:10040"]'),
    AfterValidator(_somewhere),
]
_Networks = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(units.read_network)], ...],
    _list_of("networks", '["127.0.0.0/8", "2001:db8::/32"]'),
    AfterValidator(_some_networks),
]
_Connections = Annotated[int, Field(ge=1, le=1_000_000)]
_Entries = Annotated[tuple[str, ...], _list_of("entries", '["first", "second"]')]
_NameServers = Annotated[
    tuple[Annotated[str, BeforeValidator(units.read_name_server)], ...],
    _list_of("addresses", '["192.0.2.53"]'),
    AfterValidator(_some_servers),
]
_FileName = Annotated[str, BeforeValidator(_file_name)]
_SocketMode = Annotated[int, BeforeValidator(units.read_mode)]
_SocketGroup = Annotated[str, BeforeValidator(units.read_group)]


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Server(Table):
    """
    `[server]`: processes, seconds for all checks of one decision together and for a stop.

    A stop waits so long for open milter sessions to end.
    """

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    decision_timeout: Annotated[float, BeforeValidator(units.read_duration)] = 8.0
    drain_timeout: Annotated[
        float, BeforeValidator(partial(units.read_bounded_duration, longest="10m"))
    ] = 30.0


class PolicyService(Table):
    """
    `[policy_service]`: the policy delegation front end; no `stages`: see owners().

    `allow` names who may connect over TCP, None for everybody; a unix socket has its mode.
    `max_connections` are those of all workers together.
    """

    listen: _Endpoints
    stages: Annotated[_Stages, BeforeValidator(read_stages)] = ()
    socket_mode: _SocketMode = 0o660
    socket_group: _SocketGroup = ""
    allow: _Networks | None = None
    max_connections: _Connections = 10_000


class Milter(Table):
    """
    `[milter]`: the milter front end; no `stages`: see owners().

    `max_connections` are the sessions of each worker. libmilter accepts by itself, so the bound is
    not of all together, and there is no list of who may connect.
    """

    listen: Annotated[_Endpoints, AfterValidator(_one_endpoint)]
    stages: Annotated[_Stages, BeforeValidator(_milter_stages)] = ()
    socket_mode: _SocketMode = 0o660
    socket_group: _SocketGroup = ""
    max_connections: _Connections = 1_000


class Metrics(Table):
    """`[metrics]`: the HTTP listener, `host:port`. Without the table there is none."""

    listen: Annotated[str, BeforeValidator(units.read_address)] = "127.0.0.1:9741"


class State(Table):
    """
    `[state]`: where greylist and limit state lives; seconds for one operation.

    What follows `timeout` is for Redis alone. Files are relative to the file that names them until
    it is loaded (state.read_state_files), which also keeps the `password` that is in one of them.
    """

    # It may hold a password, so no representation shows it.
    url: Annotated[str, BeforeValidator(units.read_state_url), Field(repr=False)] = (
        "sqlite:/var/lib/policyd/state.sqlite"
    )
    timeout: Annotated[
        float,
        BeforeValidator(partial(units.read_split_seconds, least=0.1, most=5.0)),
    ] = 1.0
    prefix: Annotated[str, BeforeValidator(units.read_key_prefix)] = "policyd:"
    password_file: _FileName | None = None
    ca_file: _FileName | None = None
    _password: str = PrivateAttr("")

    @property
    def password(self) -> str:
        """What the password file said when it was loaded."""
        return self._password

    def loaded(self, password: str, files: Mapping[str, str]) -> Self:
        """Give it with the password that was read and the paths of files from the root."""
        state = self.model_copy(update=dict(files))
        state._password = password  # noqa: SLF001  its own, of a copy
        return state


class Dns(Table):
    """
    `[dns]`: the name servers that are asked, in order; no `servers`: resolv.conf(5)'s.

    `timeout` is in seconds, for one question; `most_at_once` are the questions of each worker.
    """

    servers: _NameServers = ()
    timeout: Annotated[
        float,
        BeforeValidator(partial(units.read_split_seconds, least=0.1, most=30.0)),
    ] = 3.0
    most_at_once: Annotated[int, Field(ge=1, le=10_000)] = 256


class Log(Table):
    """`[log]`: the form of log lines, and whether each decision is one."""

    format: Annotated[
        Literal["auto", "json", "console"],
        BeforeValidator(_one_of("format of a log", ("auto", "json", "console"))),
    ] = "auto"
    decisions: bool = True


class Replies(Table):
    """`[replies]`: whether a text ends with the decision id, and whether it may leave ASCII."""

    show_id: bool = False
    utf8: bool = False


class Addresses(Table):
    """`[addresses]`: Postfix's recipient_delimiter (postconf(5)); empty for none."""

    recipient_delimiter: str = "+"


class ListTable(Table):
    """`[lists.NAME]`: entries in place and in files, of one kind or several."""

    addresses: _Entries | None = None
    addresses_file: _FileName | None = None
    domains: _Entries | None = None
    domains_file: _FileName | None = None
    networks: _Entries | None = None
    networks_file: _FileName | None = None
    patterns: _Entries | None = None
    patterns_file: _FileName | None = None


class LimitTable(Table):
    """`[limits.NAME]`: what is counted together, and how much of it in a window and at once."""

    key: Annotated[tuple[str, ...], BeforeValidator(_key_parts)]
    rate: Annotated[InstanceOf[Rate], BeforeValidator(units.read_rate)]
    burst: Annotated[InstanceOf[Amount] | None, BeforeValidator(units.read_amount)] = None
    overrides_file: _FileName | None = None


_Long = Annotated[float, BeforeValidator(units.read_long_duration)]


class Greylist(Table):
    """
    `[greylist]`, in seconds: how long to wait, to come again, and to be remembered.

    After `auto_allow_after` messages that were accepted a client waits no more; 0 for never.
    """

    delay: _Long = 300.0
    retry_window: _Long = 172_800.0
    lifetime: _Long = 3_024_000.0
    client_prefix: Annotated[InstanceOf[units.Prefixes], BeforeValidator(units.read_prefixes)] = (
        units.Prefixes()
    )
    auto_allow_after: Annotated[int, Field(ge=0, le=1_000_000)] = 5


class Authentication(Table):
    """`[authentication]`: what is written above messages about who they are from."""

    authserv_id: Annotated[str, BeforeValidator(units.read_authserv_id)] = ""
    results: Annotated[tuple[Method, ...], BeforeValidator(_methods)] = tuple(Method)
    received_spf: bool = True
    skip_logins: bool = True


class RuleTable(Table):
    """A `[[rule]]`; what its texts mean is judged when the policy is built."""

    name: Annotated[str, BeforeValidator(_name)]
    stage: Annotated[_Stages, BeforeValidator(read_stages)]
    when: Annotated[str, _text('"client_address in partners"')] = ""
    then: Annotated[str, _text('"550 5.7.1 Not here"')]
    mode: Annotated[Mode, BeforeValidator(_mode)] = Mode.ENFORCE
    on_error: Annotated[str, _text('"skip" or a reply')] = ""
    whole_message: bool = False


class Config(BaseModel):
    """All tables but lists, limits and rules; of the optional ones, None is an absent one."""

    model_config = ConfigDict(strict=True, frozen=True)

    server: Server = Server()
    policy_service: PolicyService | None = None
    milter: Milter | None = None
    metrics: Metrics | None = None
    state: State = State()
    dns: Dns = Dns()
    log: Log = Log()
    replies: Replies = Replies()
    addresses: Addresses = Addresses()
    greylist: Greylist = Greylist()
    authentication: Authentication | None = None


TABLES: Final[dict[str, type[Table]]] = {
    "server": Server,
    "policy_service": PolicyService,
    "milter": Milter,
    "metrics": Metrics,
    "state": State,
    "dns": Dns,
    "log": Log,
    "replies": Replies,
    "addresses": Addresses,
    "greylist": Greylist,
    "authentication": Authentication,
}
"""The tables that stand once in a configuration."""
