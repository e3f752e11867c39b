"""A `policyd serve` that keeps state, and Postfix clients that come from wherever a test says."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from policyd.store.model import account_name
from policyd.store.opening import open_store
from policyd.store.place import StateSettings
from tests.integration.changing import PATIENCE, Changing, until
from tools.policyd_process import free_port
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply, SmtpDialogue

XCLIENT: Final = {
    "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
    "inet_protocols": "all",  # for clients that come by IPv6
}
"""What main.cf says so that clients may name another address than theirs (XCLIENT_README)."""

_HEAD: Final = """\
[server]
workers = {workers}
drain_timeout = "1s"
[metrics]
listen = "{metrics}"
[log]
format = "json"
[state]
url = "{url}"
"""


class Remembering(Changing):
    """A policyd with state; `policy` and `milter` are the stages of a front end, None for none."""

    def __init__(
        self,
        directory: Path,
        body: str,
        *,
        policy: Sequence[str] | None = (),
        milter: Sequence[str] | None = None,
        url: str = "",
        workers: int = 2,
    ) -> None:
        super().__init__(directory, "", workers=workers)
        self.url = url or f"sqlite:{directory}/state.sqlite"
        self.milter_port = free_port()
        self.head = _HEAD.format(workers=workers, metrics=self.metrics, url=self.url)
        if policy is not None:
            self.head += f'[policy_service]\nlisten = ["inet:127.0.0.1:{self.port}"]\n'
            self.head += _stages(policy)
        if milter is not None:
            self.head += f'[milter]\nlisten = ["inet:127.0.0.1:{self.milter_port}"]\n'
            self.head += _stages(milter)
        self.write(body)

    def asked(self, service: str = "") -> str:
        """Give the restriction that asks it over policy delegation, of a service if named."""
        endpoint = f"inet:127.0.0.1:{self.port}"
        if not service:
            return f"check_policy_service {endpoint}"
        return f"check_policy_service {{ {endpoint}, policy_context=service={service} }}"

    @property
    def filters(self) -> str:
        """Give the value of smtpd_milters."""
        return f"inet:127.0.0.1:{self.milter_port}"

    def restart(self) -> None:
        """Stop it as systemd would, and start it again."""
        assert self.stop() == 0
        self.__enter__()

    def until_all_up(self) -> None:
        """Wait until every worker serves."""
        until(lambda: len(self.worker_pids()) == self.workers and self.all_up())

    def counted(self, name: str, **labels: str) -> float:
        """Sum the series of a metric that have these labels."""
        return sum(
            value
            for found, value in self.samples(name).items()
            if labels.items() <= dict(found).items()
        )


def _stages(stages: Sequence[str]) -> str:
    return f"stages = {list(stages)}\n" if stages else ""


@contextlib.contextmanager
def arriving(
    postfix: PostfixInstance,
    service: str,
    address: str = "192.0.2.1",
    name: str = "[UNAVAILABLE]",
    *,
    login: str = "",
    destination: str = "",
) -> Iterator[SmtpDialogue]:
    """
    Open a session as the client of that address and confirmed name, perhaps logged in.

    `destination` is the address that it has come to, if not that of the service.
    """
    told = {"ADDR": address, "NAME": name, "REVERSE_NAME": name}
    told |= {"LOGIN": login, "DESTADDR": destination}
    with SmtpDialogue(postfix.ports[service], timeout=PATIENCE) as client:
        assert client.banner().code == 220
        client.ehlo()
        attributes = (f" {key}={_written(value)}" for key, value in told.items() if value)
        assert client.command("XCLIENT", *attributes).code == 220, client.show()
        assert client.ehlo("client.test").code == 250
        yield client


def _written(value: str) -> str:
    return f"IPV6:{value}" if ":" in value else value


def send(
    client: SmtpDialogue, sender: str, *recipients: str, message: bytes = b"Subject: x\n\nHello\n"
) -> Reply:
    """Send a message: the reply at its end, or the first before that is a refusal."""
    for reply in (client.mail(sender), *map(client.rcpt, recipients)):
        if reply.code != 250:
            client.rset()
            return reply
    reply = client.data()
    if reply.code != 354:
        client.rset()
        return reply
    return client.body(message)


def said(reply: Reply) -> str:
    """Give a reply on one line."""
    return f"{reply.pair} {reply.text}"


def spent(policyd: Remembering, limit: str, key: str, *, shadow: bool = False) -> int:
    """Look up what a key has spent of a limit, reserved or for good."""

    async def looked_up() -> int:
        store = open_store(StateSettings(url=policyd.url))
        try:
            name = account_name(limit, key, shadow=shadow)
            account = await store.account(name, round(time.time() * 1000))
        finally:
            await store.close()
        return 0 if account is None else sum(account.parts.values())

    return asyncio.run(looked_up())
