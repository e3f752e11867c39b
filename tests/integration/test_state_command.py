"""`policyd state` on a policyd that serves: on the memory of its worker, and on a file."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from policyd.cli import main
from policyd.store.model import Triplet
from policyd.store.portable import header, line
from tests.integration.changing import Asking, Changing, rule, until

pytestmark = pytest.mark.integration

WAITS = "450 4.2.0 Greylisted, please try again later"
POLICY = (
    '[state]\nurl = "memory:"\n'
    '[greylist]\ndelay = "1h"\n'
    '[limits.per_login]\nkey = "sasl_username"\nrate = "2 messages per 1h"\n'
    + rule("greylist", "greylisted: Greylisted, please try again later", "greylisted()")
    + rule("limit", "450 4.7.1 Too many", "exceeds('per_login')")
)


@pytest.fixture
def policyd(tmp_path: Path) -> Iterator[Changing]:
    with Changing(tmp_path, POLICY, workers=1) as running:
        until(lambda: state(running, "stats") != "")
        yield running


def state(policyd: Changing, *arguments: str, given: str = "") -> str:
    """Run a command of `policyd state`; what it says if it ends with 0, else nothing."""
    command, *rest = arguments
    arguments = ("state", command, "-c", str(policyd.configuration), *rest)
    result = CliRunner().invoke(main, arguments, input=given)
    return result.stdout if result.exit_code == 0 else ""


class Sending(Asking):
    """A connection that asks about mail with a sender."""

    def about(self, instance: str, login: str = "", client: str = "192.0.2.1") -> str:
        self.socket.sendall(
            (
                "request=smtpd_access_policy\nprotocol_state=RCPT\n"
                f"client_address={client}\nclient_name=unknown\nsasl_username={login}\n"
                f"instance={instance}\nsender=jo@example.net\nrecipient=me@example.org\n\n"
            ).encode()
        )
        return self.receive()


def test_what_a_worker_remembers_is_shown_and_changed_while_it_serves(policyd: Changing) -> None:
    with Sending(policyd.port) as mail:
        assert mail.about("1") == WAITS
        shown = json.loads(state(policyd, "show", "192.0.2.99", "--json"))["entries"]
        assert [(each["sender"], each["passed"]) for each in shown] == [("jo@example.net", False)]
        state(policyd, "allow", "192.0.2.99")
        assert mail.about("2") == "DUNNO"
        assert state(policyd, "forget", "192.0.2.99") == "forgotten: 1 triplets, 1 clients\n"
        assert mail.about("3") == WAITS

        assert [mail.about(each, login="eve") for each in "456"][-1] == "450 4.7.1 Too many"
        (spent,) = json.loads(state(policyd, "show", "eve", "--json"))["entries"]
        assert (spent["used"], spent["rate"]) == (2, "2 messages per 1h")
        assert state(policyd, "forget", "eve") == "forgotten: 1 limits\n"
        assert mail.about("7", login="eve") == "DUNNO"


def test_an_export_outlives_the_process(policyd: Changing) -> None:
    with Sending(policyd.port) as mail:
        mail.about("1")
        assert [mail.about(each, login="eve") for each in "23"] == ["DUNNO", "DUNNO"]
    state(policyd, "allow", "198.51.100.1")
    exported = state(policyd, "export")
    policyd.stop()
    with policyd, Sending(policyd.port) as mail:
        assert mail.about("4", client="198.51.100.1") == WAITS
        until(lambda: state(policyd, "import", "-", given=exported) != "")
        assert mail.about("5", client="198.51.100.1") == "DUNNO"
        assert mail.about("6", login="eve") == "450 4.7.1 Too many"
        assert json.loads(state(policyd, "stats", "--json"))["triplets"] == 2


@pytest.mark.parametrize("url", ["memory:", "sqlite:{}/state.sqlite"])
def test_nobody_waits_for_an_import_or_an_export(tmp_path: Path, url: str) -> None:
    policy = POLICY.replace("memory:", url.format(tmp_path))
    with Changing(tmp_path, policy, workers=1) as policyd:
        until(lambda: state(policyd, "stats") != "")
        _moves(policyd)


def _moves(policyd: Changing) -> None:
    now = round(time.time() * 1000)
    many = header(now) + "".join(
        line(Triplet("192.0.2.0/24", f"{n}@example.net", "me", now, now, False, now + 600_000))
        for n in range(10_000)
    )
    longest = 0.0
    said: list[str] = []

    def move() -> None:
        said.append(state(policyd, "import", "-", given=many))
        said.append(state(policyd, "export"))

    mover = threading.Thread(target=move)
    with Sending(policyd.port) as mail:
        mail.about("1", login="adam")
        mover.start()
        while mover.is_alive():
            began = time.perf_counter()
            mail.about("1", login="adam")
            longest = max(longest, time.perf_counter() - began)
            time.sleep(0.001)
        mover.join()
    assert said[0].startswith("taken in: 10000 triplets")
    assert len(said[1].splitlines()) >= 10_001
    assert longest < 0.25
