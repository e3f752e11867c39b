"""Rates are read as they are written, and what is wrong is told with what would do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.rate import (
    LARGEST,
    LONGEST_WINDOW,
    Amount,
    Rate,
    RateError,
    Unit,
    amount_text,
    parse_amount,
    parse_rate,
    spent_text,
)

M, R, B = Unit.MESSAGES, Unit.RECIPIENTS, Unit.BYTES


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500 recipients per 1h", Rate(500, R, 3_600_000)),
        ("20 messages per 1m", Rate(20, M, 60_000)),
        ("1 message per 90s", Rate(1, M, 90_000)),
        ("1 recipient per 1h30m", Rate(1, R, 5_400_000)),
        ("100 MiB per 1d", Rate(100 << 20, B, 86_400_000)),
        ("100 MiB bytes per 1d", Rate(100 << 20, B, 86_400_000)),
        ("100MiB per 1d", Rate(100 << 20, B, 86_400_000)),
        ("1000000 bytes per 1h", Rate(1_000_000, B, 3_600_000)),
        ("  5  Messages  PER  1w ", Rate(5, M, 604_800_000)),
        ("1 message per 366d", Rate(1, M, LONGEST_WINDOW)),
        ("1 message per 1s", Rate(1, M, 1000)),
    ],
)
def test_a_rate_is_an_amount_of_a_unit_in_a_window(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("500 per 1h", '"500 per 1h" does not say what is counted',
         'write "500 messages per 1h" or "500 recipients per 1h"'),
        ("500 recipients", '"500 recipients" is no rate',
         'write it as "500 recipients per 1h", "20 messages per 1m" or "100 MiB per 1d"'),
        ("500 recipients/1h", '"500 recipients/1h" has a slash',
         'write "500 recipients per 1h"'),
        ("500 recipients / h", "'h' is no duration", 'write "per 1h"'),
        ("500 recipients per hour", "'hour' is no duration", 'write "per 1h"'),
        ("500 recipients per 2 Days", "'2 Days' is no duration", 'write "per 2d"'),
        ("500 recipients per 60", "'60' is no duration", 'write "per 60s" if seconds are meant'),
        ("500 recipients per", "'' is no duration",
         'write "per 1m", "per 1h", "per 1d" or the like'),
        ("500 recipients per month", "'month' is no duration",
         'write "per 1m", "per 1h", "per 1d" or the like'),
        ("500 recipients per 1m1h",
         "the units of '1m1h' do not stand from large to small, each once",
         'write "per 1m", "per 1h", "per 1d" or the like'),
        ("500 recipients per 0s", '"per 0s" is no time at all', 'write at least "per 1s"'),
        ("500 recipients per 367d", '"per 367d" is too long', 'write at most "per 366d"'),
        ("0 messages per 1h", '"0 messages" admits nothing',
         "write at least 1; a rule alone refuses what is never to pass"),
        ("20 mails per 1h", '"mails" is not what a limit counts', 'write "20 messages"'),
        ("20 rcpt per 1h", '"rcpt" is not what a limit counts', 'write "20 recipients"'),
        ("20messages per 1h", '"messages" is not what a limit counts', 'write "20 messages"'),
        ("20 connections per 1h", '"connections" is not what a limit counts',
         "messages, recipients and bytes (kB, MB, GB, KiB, MiB, GiB) are"),
        ("1 MiB messages per 1h", '"1 MiB" is no number of messages',
         'write digits: "500 messages"'),
        ("-5 messages per 1h", '"-5" is no number of messages', 'write digits: "500 messages"'),
        ("1,5 GB per 1h", '"1,5 GB" is no amount',
         'write it as "500 recipients per 1h", "20 messages per 1m" or "100 MiB per 1d"'),
        ("messages per 1h", '"messages" is no amount',
         'write it as "500 recipients per 1h", "20 messages per 1m" or "100 MiB per 1d"'),
        ("2000 TB per 1h", '"2000 TB" is too much to be counted',
         f"write at most {LARGEST}, or leave the limit out"),
        ("٣ messages per 1h", '"٣" is no number of messages', 'write digits: "500 messages"'),
        ("", '"" is no rate',
         'write it as "500 recipients per 1h", "20 messages per 1m" or "100 MiB per 1d"'),
    ],
)  # fmt: skip
def test_what_is_no_rate_is_told_with_what_would_do(text: str, what: str, mend: str) -> None:
    with pytest.raises(RateError) as raised:
        parse_rate(text)
    assert (raised.value.what, raised.value.mend) == (what, mend)


_RATES = st.builds(
    Rate,
    st.integers(1, LARGEST) | st.integers(1, 4000).map(lambda n: n << 20),
    st.sampled_from(Unit),
    st.integers(1, LONGEST_WINDOW // 1000).map(lambda seconds: seconds * 1000),
)


@given(_RATES)
def test_a_rate_as_it_is_shown_is_the_same_rate(rate: Rate) -> None:
    assert parse_rate(str(rate)) == rate


@given(st.text(alphabet="0123456789 /per.messagsrciptbyMGiBhd,-\t") | st.text())
def test_a_text_is_a_rate_or_has_a_mend(text: str) -> None:
    fault = None
    try:
        rate = parse_rate(text)
        assert parse_rate(str(rate)) == rate
    except RateError as error:
        fault = error
    assert fault is None or (fault.what and fault.mend)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("50", (50, None)), ("50 recipients", (50, R)), ("10 MB", (10_000_000, B)), ("1 b", (1, B))],
)
def test_an_amount_may_leave_the_unit_open(text: str, amount: Amount) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize(
    ("amount", "unit", "exact", "spent"),
    [
        (1, M, "1 message", "1"),
        (500, R, "500 recipients", "500"),
        (0, B, "0 bytes", "0 bytes"),
        (1, B, "1 byte", "1 byte"),
        (10_240_000, B, "10000 KiB", "9.8 MiB"),
        (3 << 30, B, "3 GiB", "3.0 GiB"),
        (1023, B, "1023 bytes", "1023 bytes"),
    ],
)
def test_amounts_are_shown_as_people_read_them(
    amount: int, unit: Unit, exact: str, spent: str
) -> None:
    assert amount_text(amount, unit) == exact
    assert spent_text(amount, unit) == spent
