"""
A policy server and a milter that say by rote what each cell wants: hand-written actions.

They share no code with policyd's front ends, so that a prediction is held against Postfix alone.
"""

import socketserver
import sys
from collections.abc import Callable
from pathlib import Path

import Milter  # type: ignore[import-untyped]  # pymilter carries no types

from policyd.smtp.decision import Verdict
from policyd.smtp.stage import Stage
from tests.integration.wire.cells import OUTCOMES, STAGES, TEXT, Outcome

_CONTINUE: int = Milter.CONTINUE
_REJECT: int = Milter.REJECT
_DISCARD: int = Milter.DISCARD
_TEMPFAIL: int = Milter.TEMPFAIL

_STATES = {
    "CONNECT": Stage.CONNECT,
    "EHLO": Stage.HELO,
    "MAIL": Stage.MAIL,
    "RCPT": Stage.RCPT,
    "DATA": Stage.DATA,
    "END-OF-MESSAGE": Stage.END_OF_DATA,
    "VRFY": Stage.VRFY,
    "ETRN": Stage.ETRN,
}
_BY_RCPT = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)


def read_address(address: str) -> tuple[Stage, Outcome] | None:
    """Tell the cell's stage and outcome from its client's address; None for any other client."""
    _, stage, outcome, _ = map(int, address.split("."))
    if not (1 <= stage <= len(STAGES) and 1 <= outcome <= len(OUTCOMES)):
        return None
    return STAGES[stage - 1], OUTCOMES[outcome - 1]


class PolicyServer(socketserver.ThreadingUnixStreamServer):
    """Answers each request with the action that `answer` gives for its attributes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, answer: Callable[[dict[str, str]], str]) -> None:
        super().__init__(str(path), _Requests)
        path.chmod(0o666)
        self.answer = answer


class _Requests(socketserver.StreamRequestHandler):
    server: PolicyServer

    def handle(self) -> None:
        attributes: dict[str, str] = {}
        for octets in self.rfile:
            name, _, value = octets.decode("utf-8", "surrogateescape")[:-1].partition("=")
            if name:
                attributes[name] = value
                continue
            self.wfile.write(f"action={self.server.answer(attributes)}\n\n".encode())
            attributes = {}


def action(attributes: dict[str, str]) -> str:
    """Give the action that the request's cell wants, where its stage is asked for."""
    cell = read_address(attributes["client_address"])
    if cell is None:
        return "DUNNO"
    wanted, outcome = cell
    state = _STATES[attributes["protocol_state"]]
    context = dict(
        part.split("=", 1) for part in attributes["policy_context"].split(";") if "=" in part
    )
    if "stage" in context and state not in (Stage.VRFY, Stage.ETRN):
        asked: tuple[Stage, ...] = (Stage(context["stage"]),)
    else:
        asked = _BY_RCPT if state is Stage.RCPT else (state,)
    if wanted not in asked:
        return "DUNNO"
    return _words(outcome)


def _words(outcome: Outcome) -> str:
    if outcome.reply is not None:
        reply = outcome.reply
        code = "DEFER_IF_PERMIT" if outcome.if_permitted else str(reply.code)
        return f"{code} {reply.enhanced} {reply.text}"
    words = {Verdict.DISCARD: f"DISCARD {TEXT}", Verdict.HOLD: f"HOLD {TEXT}"}
    return words.get(outcome.verdict, "DUNNO")


class ScriptedMilter(Milter.Base):  # type: ignore[misc]  # as above
    """Does at its cell's stage what the outcome says."""

    def connect(self, _name: str, _family: int, address: tuple[str, int]) -> int:
        self.cell = read_address(address[0])
        return self._do(Stage.CONNECT)

    def hello(self, _name: str) -> int:
        return self._do(Stage.HELO)

    def envfrom(self, _sender: str, *_parameters: str) -> int:
        return self._do(Stage.MAIL)

    def envrcpt(self, _recipient: str, *_parameters: str) -> int:
        return self._do(Stage.RCPT)

    def data(self) -> int:
        return self._do(Stage.DATA)

    def eom(self) -> int:
        if self.cell is not None and self.cell[1].verdict is Verdict.HOLD:
            self.quarantine(TEXT)
        return self._do(Stage.END_OF_DATA)

    def _do(self, stage: Stage) -> int:
        if self.cell is None or self.cell[0] is not stage:
            return _CONTINUE
        outcome = self.cell[1]
        if outcome.reply is None:
            discards = outcome.verdict is Verdict.DISCARD
            return _DISCARD if discards else _CONTINUE
        reply = outcome.reply
        self.setreply(str(reply.code), str(reply.enhanced), reply.text.replace("%", "%%"))
        return _TEMPFAIL if reply.code < 500 else _REJECT


def run_milter(path: str) -> None:
    """Serve on a unix socket until killed."""
    Milter.factory = ScriptedMilter
    Milter.set_flags(Milter.QUARANTINE)
    Milter.runmilter("scripted", f"unix:{path}", timeout=60)


if __name__ == "__main__":
    run_milter(sys.argv[1])
