"""A configuration for the commands to read."""

from pathlib import Path

import pytest

CONFIGURATION = """
[policy_service]
listen = ["unix:/var/spool/postfix/policyd/policy.sock"]
[milter]
listen = ["inet:127.0.0.1:10041"]
[lists.mailboxes]
addresses = ["jo@example.org"]

[[rule]]
name = "helo"
stage = "helo"
when = "helo_name == 'localhost'"
then = "550 5.7.1 Fix your HELO"
[[rule]]
name = "friend"
stage = "mail"
when = "sender == 'friend@example.net'"
then = "accept"
[[rule]]
name = "unknown"
stage = "rcpt"
when = "recipient not in mailboxes"
then = "mailbox-unknown: No {recipient} here"
[[rule]]
name = "odd"
stage = "rcpt"
when = "size > '1 MiB'"
then = "450 4.7.1 Too big for now"
mode = "shadow"
[[rule]]
name = "spam"
stage = "end-of-data"
when = "header('Subject') == 'spam' and score >= 0"
then = "550 5.7.1 No spam"
"""


@pytest.fixture
def configuration(tmp_path: Path) -> str:
    file = tmp_path / "policyd.toml"
    file.write_text(CONFIGURATION)
    return str(file)
