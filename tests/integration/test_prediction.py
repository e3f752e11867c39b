"""
The prediction against a real Postfix: what the client sees is what `predict` says, in each cell.

A scripted policy server and milter stand in for policyd, so nothing but Postfix is judged.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from policyd.protocol.postfix import LINE_LIMIT, Setting, predict, room
from policyd.protocol.text import fit
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.reply import EnhancedCode, Reply
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage
from tests.integration.wire import postfix, scripted
from tests.integration.wire.cells import DOMAIN, HOSTNAME, Wiring, cells, service_name
from tests.integration.wire.dialogue import talk_through, wrong_dialogues
from tests.integration.wire.effects import effects, wrong_effects
from tools.smtp_dialogue import SmtpDialogue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Give a directory that Postfix's users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="wire-") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


@contextmanager
def serving(path: Path, answer: Callable[[dict[str, str]], str]) -> Iterator[str]:
    with scripted.PolicyServer(path, answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def policy(directory: Path) -> Iterator[str]:
    with serving(directory / "policy.sock", scripted.action) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def milter(directory: Path) -> Iterator[str]:
    path = directory / "milter.sock"
    command = [sys.executable, "-m", "tests.integration.wire.scripted", str(path)]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        deadline = time.monotonic() + 20
        while not path.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        path.chmod(0o666)
        yield f"unix:{path}"
        process.kill()  # libmilter would take five seconds to stop


def test_every_cell_shows_the_client_what_is_predicted(
    directory: Path, policy: str, milter: str
) -> None:
    with postfix.instance(directory / "usual", policy=policy, milter=milter) as mta:
        talks = talk_through(mta, [cell for cell in cells() if not cell.refused_because])
        assert list(wrong_dialogues(talks)) == []
        assert list(wrong_effects(effects(mta, talks))) == []


def test_every_cell_is_softened_as_predicted(directory: Path, policy: str, milter: str) -> None:
    main = {"soft_bounce": "yes"}
    with postfix.instance(directory / "soft", policy=policy, milter=milter, main=main) as mta:
        refusals = [cell for cell in cells() if cell.outcome.reply is not None]
        assert list(wrong_dialogues(talk_through(mta, refusals), soft_bounce=True)) == []


NAMES = [
    ("plain", "client.test", "user@a.example", f"user@{DOMAIN}"),
    ("null sender", "[127.0.0.1]", "", f"User.Name@{DOMAIN}"),
    ("quoted", "two words", '"a b=c\\"d"@a.example', f'"q q"@{DOMAIN}'),
    ("routed", "-", "@relay.example:u@a.example", f"@relay.example:u@{DOMAIN}"),
    ("no domain", "x", "noat", f"a'b+c@{DOMAIN}"),
    ("utf-8", "caf\u00e9.example", "caf\u00e9@a.example", f"\u65e5\u672c@{DOMAIN}"),
    ("control characters", "a\x01b\x7fc", '"a\x01b"@a.example', f'"a\tb"@{DOMAIN}'),
    ("punctuation", "<a;b>(c)\\@d", "a{b}@a.example", f"$x`y`{{z}}@{DOMAIN}"),
    ("long", "h" * 300, f"{'s' * 300}@a.example", f"{'r' * 300}@{DOMAIN}"),
    ("endless", "h" * 1000, f"{'s' * 1000}@a.example", f"{'r' * 1000}@{DOMAIN}"),
]
LISTS = (
    RestrictionList.CLIENT,
    RestrictionList.HELO,
    RestrictionList.SENDER,
    RestrictionList.RECIPIENT,
)


@dataclass
class Filler:
    """Answers the list that the client's address names with a text that fills the line."""

    request: Mapping[str, str]
    reply: Reply

    def answer(self, attributes: dict[str, str]) -> str:
        context = dict(part.split("=") for part in attributes["policy_context"].split(";"))
        wanted = LISTS[int(attributes["client_address"].split(".")[2])]
        if RestrictionList(context["list"]) is not wanted:
            return "DUNNO"
        left = room(550, EnhancedCode(5, 1, 1), wanted, attributes)
        self.request = attributes
        self.reply = Reply(550, 1, 1, fit("Filled to the brim " + "x" * LINE_LIMIT, left))
        return str(self.reply)


@pytest.mark.parametrize("delay_reject", [True, False])
def test_names_of_every_kind_stand_in_the_line_as_predicted(
    directory: Path, milter: str, delay_reject: bool
) -> None:
    service = service_name(Wiring.A_LINE_A_LIST, delay_reject=delay_reject)
    filler = Filler({}, Reply(550, 1, 1, "never asked"))
    name = f"names-{delay_reject}"
    with (
        serving(directory / f"{name}.sock", filler.answer) as policy,
        postfix.instance(directory / name, policy=policy, milter=milter) as mta,
    ):
        for kind, helo, sender, recipient in NAMES:
            for number, restriction in enumerate(LISTS):
                source = f"127.100.{number}.1"
                last = last_reply(mta.ports[service], source, helo, sender, recipient)
                assert last == predicted(filler, restriction), kind
                assert len(last.encode()) <= LINE_LIMIT or kind == "endless"


def last_reply(port: int, source: str, helo: str, sender: str, recipient: str) -> str:
    """Talk until the first refusal, and give it."""
    with SmtpDialogue(port, source=source) as client:
        for take in (
            client.banner,
            lambda: client.ehlo(helo),
            lambda: client.mail(sender, "SMTPUTF8"),
            lambda: client.rcpt(recipient),
        ):
            reply = take()
            if reply.code >= 400:
                break
        return "\n".join(reply.lines)


def predicted(filler: Filler, restriction: RestrictionList) -> str:
    decision = Decision(
        id="", verdict=Verdict.REJECT, stage=None, source=Source.RULE, reply=filler.reply
    )
    stage = {"CONNECT": Stage.CONNECT, "EHLO": Stage.HELO, "MAIL": Stage.MAIL, "RCPT": Stage.RCPT}
    setting = Setting(
        FrontEnd.POLICY, stage[filler.request["protocol_state"]], restriction, hostname=HOSTNAME
    )
    return str(predict(decision, filler.request, setting).lines[0])
