"""main.cf and master.cf of a private Postfix: what `tools.postfix_instance` writes.

Pure text; the parameters are those of postconf(5), the service table is master(5)'s.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

# Of these, smtpd(8) is written once for each service; the rest is what a receiving Postfix needs.
# No service runs in a chroot: policy and milter sockets may then stand anywhere.
_INTERNAL_SERVICES = """\
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp      unix  - - n -     - smtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
virtual   unix  - n n -     - virtual
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

# Nothing may slow down or cut off a client that is refused hundreds of times in a row.
_UNHURRIED_CLIENTS = {
    "smtpd_error_sleep_time": "0",
    "smtpd_soft_error_limit": "100000",
    "smtpd_hard_error_limit": "100000",
    "smtpd_junk_command_limit": "100000",
    "smtpd_client_connection_count_limit": "0",  # with the rate limits' default 0: no anvil(8)
    "in_flow_delay": "0",
}


def main_cf(parameters: Mapping[str, str]) -> str:
    """Write main.cf."""
    return "".join(f"{name} = {one_line(value)}\n" for name, value in parameters.items())


def master_cf(ports: Mapping[str, int], services: Mapping[str, Mapping[str, str]]) -> str:
    """Write master.cf, with an smtpd(8) on 127.0.0.1 for each service and its own parameters.

    Log lines of a service begin with `postfix/NAME/smtpd`. ValueError for a value with unbalanced
    braces, which an `-o` cannot hold: such a value goes into main.cf and is named here as `$name`.
    """
    lines = []
    for service, overrides in services.items():
        lines.append(f"127.0.0.1:{ports[service]} inet n - n - - smtpd\n")
        lines.extend(
            f"  -o {{ {name} = {_balanced(name, one_line(value))} }}\n"
            for name, value in ({"syslog_name": f"postfix/{service}"} | dict(overrides)).items()
        )
    return "".join(lines) + _INTERNAL_SERVICES


def default_parameters(
    directory: Path, hostname: str, compatibility_level: str, mailboxes: Iterable[str], owner: int
) -> dict[str, str]:
    """Return the parameters of an instance that receives on loopback and sends nothing away.

    Mail for one of the mailboxes is delivered by virtual(8), as the numeric owner, to a Maildir
    below the directory. Mail for anyone else, if it is accepted at all, is discarded. No client
    is trusted: `mynetworks` is empty, for clients may come from any address in 127.0.0.0/8.
    """
    return {
        "compatibility_level": compatibility_level,
        "queue_directory": f"{directory}/spool",
        "data_directory": f"{directory}/data",
        "maillog_file": f"{directory}/mail.log",
        "maillog_file_prefixes": str(directory),
        "mail_owner": "postfix",
        "setgid_group": "postdrop",
        "myhostname": hostname,
        "inet_interfaces": "loopback-only",
        "inet_protocols": "ipv4",
        "mynetworks": "",
        "mydestination": "",
        "alias_maps": "",
        "alias_database": "",
        "local_recipient_maps": "",
        "virtual_mailbox_domains": " ".join(sorted({domain(address) for address in mailboxes})),
        "virtual_mailbox_maps": f"texthash:{directory}/etc/mailboxes",
        "virtual_mailbox_base": f"{directory}/mail",
        "virtual_uid_maps": f"static:{owner}",
        "virtual_gid_maps": f"static:{owner}",
        "default_transport": "discard:",
        "relay_transport": "discard:",
        "fast_flush_domains": "$relay_domains, $virtual_mailbox_domains",  # ETRN is answered
        "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
        "smtpd_peername_lookup": "no",
        "disable_vrfy_command": "no",
        **_UNHURRIED_CLIENTS,
    }


def mailbox_table(mailboxes: Iterable[str]) -> str:
    """Write the texthash table from mailbox addresses (or `@domain`) to Maildirs."""
    return "".join(f"{address} {address}/\n" for address in mailboxes)


def domain(address: str) -> str:
    """Return the domain of `user@domain` or `@domain`."""
    return address.rpartition("@")[2]


def one_line(value: str) -> str:
    """Join the lines of a value that is written over several."""
    return re.sub(r"\s*\n\s*", " ", value.strip())


def _balanced(name: str, value: str) -> str:
    depth = 0
    for brace in re.findall(r"[{}]", value):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            break
    if depth != 0:
        raise ValueError(f"{name}: unbalanced braces in {value!r}: set it in main.cf, name it here")
    return value
