"""What the largest messages take of a helper's memory and time: a piece of them, and seconds."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from policyd.mail.arc import ArcAnswer
from policyd.mail.dkim import DkimAnswer, Order
from tests.mail.signed import KEYS, NOW, PLAIN, known, sealed, signed

SIZE = 100 * 1024 * 1024
MOST_MEMORY = 48 * 1024 * 1024
"""Octets at the peak; it is 32 MiB, of which Python and the libraries take 30."""
MOST_TIME = 10.0
"""Seconds of the processor for all the work; it takes 1 to 3."""
HELPER = r"""
import json, re, sys, time
from policyd.mail import signature_work
order, started = bytes.fromhex(sys.argv[1]), time.process_time()
with open(sys.argv[2], "rb") as file:
    answers = [work(order, [file.fileno()], None).hex() for work in (
        signature_work.survey, signature_work.dkim, signature_work.arc)]
took = time.process_time() - started
with open("/proc/self/status") as status:
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024
print(json.dumps([peak, took, answers]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("unit", [b"0123456789" * 7 + b"\r\n", b"a\t "])
def test_a_body_of_100_mib_is_verified_in_seconds_and_in_little_memory(
    unit: bytes, tmp_path: Path
) -> None:
    head, _, _ = PLAIN.partition(b"\r\n\r\n")
    end = b"the end\r\n"
    # dkimpy would take all of a body: what it signs is as short as what it hashes to
    path = tmp_path / "message"
    with path.open("wb") as file:
        for form in (b"simple", b"relaxed"):
            empty = signed(head + b"\r\n\r\n", canonicalize=(form, form))
            file.write(empty.partition(b"From:")[0])
        file.write(sealed(head + b"\r\n\r\n" + end, 1).partition(b"From:")[0])
        file.write(head + b"\r\n\r\n")
        for _ in range(100):
            file.write((unit * (SIZE // 100 // len(unit) + 1))[: SIZE // 100])
        file.write(end)
    order = msgspec.msgpack.encode(Order(NOW, known(KEYS)))
    done = subprocess.run(
        [sys.executable, "-c", HELPER, order.hex(), path],
        capture_output=True,
        text=True,
        check=True,
    )
    memory, took, answers = json.loads(done.stdout)
    dkim = msgspec.msgpack.decode(bytes.fromhex(answers[1]), type=DkimAnswer)
    assert [each.reason for each in dkim.signatures] == ["the body has been changed"] * 2
    assert msgspec.msgpack.decode(bytes.fromhex(answers[2]), type=ArcAnswer).result == "fail"
    assert memory < MOST_MEMORY
    assert took < MOST_TIME
