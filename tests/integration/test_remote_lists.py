"""A served policy whose mailboxes are in PostgreSQL: answers while it is there, gone and back."""

import socket
import time
from pathlib import Path

import pytest

from tests.integration.changing import until
from tools.list_servers import PostgresServer
from tools.policyd_process import PolicydProcess, free_port

pytestmark = pytest.mark.integration

CONFIGURATION = """\
[server]
workers = 1
[policy_service]
listen = ["inet:127.0.0.1:{port}"]
[metrics]
listen = "127.0.0.1:{metrics}"
[state]
url = "sqlite:{folder}/state.sqlite"
[lists.mailboxes]
sql = "postgresql://policyd@127.0.0.1:{database}/mail"
password_file = "secret"
query = "SELECT 1 FROM mailboxes WHERE address IN :keys"
holds = "addresses"
cache = "1s"
timeout = "0.5s"
[[rule]]
name = "mailbox-unknown"
stage = "rcpt"
when = "recipient not in mailboxes"
then = "550 5.1.1 No such mailbox here"
on_error = "451 4.3.0 Mailboxes cannot be looked up now"
"""
GOES_ON = "action=DUNNO"
UNKNOWN = "action=550 5.1.1 No such mailbox here"
LATER = "action=451 4.3.0 Mailboxes cannot be looked up now"
DEPENDENCY = (("dependency", "list mailboxes"),)


def answer(port: int, recipient: str) -> tuple[str, float]:
    """Ask as Postfix does; the answer, and after how many seconds it came."""
    request = (
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
        f"client_address=192.0.2.1\nsender=a@example.net\nrecipient={recipient}\n\n"
    )
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        started = time.monotonic()
        connection.sendall(request.encode())
        return connection.recv(1000).decode().strip(), time.monotonic() - started


def test_mailboxes_in_a_database_that_goes_and_comes_back(tmp_path: Path) -> None:
    with PostgresServer() as server:
        server.fill()
        server.sql(
            "CREATE TABLE mailboxes (address text PRIMARY KEY)",
            "INSERT INTO mailboxes VALUES ('alice@example.org'), ('bob@example.org')",
            "GRANT SELECT ON mailboxes TO policyd",
        )
        port, metrics = free_port(), free_port()
        (tmp_path / "secret").write_text(server.password)
        (tmp_path / "secret").chmod(0o600)
        configuration = tmp_path / "policyd.toml"
        configuration.write_text(
            CONFIGURATION.format(port=port, metrics=metrics, folder=tmp_path, database=server.port)
        )
        with PolicydProcess(configuration, f"127.0.0.1:{metrics}") as policyd:
            assert answer(port, "Alice+tag@example.org")[0] == GOES_ON
            assert answer(port, "carol@example.org")[0] == UNKNOWN
            assert policyd.samples("policyd_dependency_up")[DEPENDENCY] == 1

            server.kill()
            time.sleep(1.1)  # what is kept has expired
            for recipient, expected in (
                ("Alice+tag@example.org", GOES_ON),  # what was known serves on
                ("carol@example.org", UNKNOWN),
                ("bob@example.org", LATER),
                ("dave@example.org", LATER),
            ):
                said, took = answer(port, recipient)
                assert said == expected
                assert took < 1
            assert policyd.samples("policyd_dependency_up")[DEPENDENCY] == 0
            assert policyd.samples("policyd_dependency_fallbacks_total")[DEPENDENCY] == 2

            server.start()
            until(lambda: answer(port, "bob@example.org")[0] == GOES_ON, 5)
            assert answer(port, "dave@example.org")[0] == UNKNOWN
            assert policyd.samples("policyd_dependency_up")[DEPENDENCY] == 1
