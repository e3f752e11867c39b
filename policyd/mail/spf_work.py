"""The work of evaluating SPF, which is done beside the worker (processes.work.Work)."""

import time
from collections.abc import Sequence

import msgspec

from policyd.dns.questions import asking
from policyd.mail.spf import SpfQuestion
from policyd.mail.spf_query import evaluate
from policyd.processes.work import Ask


def spf(payload: bytes, _descriptors: Sequence[int], ask: Ask) -> bytes:
    """Evaluate an SpfQuestion and give the SpfEvaluation, both in MessagePack."""
    question = msgspec.msgpack.decode(payload, type=SpfQuestion)
    return msgspec.msgpack.encode(evaluate(question, asking(ask), time.monotonic))
