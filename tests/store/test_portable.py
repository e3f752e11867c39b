"""Entries as lines of JSON: nothing is lost, and a line that is none is named."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.store.model import Account, Client, Entry, Triplet
from policyd.store.portable import PortableError, header, line, read

NOW = 1_700_000_000_000
HEADER = header(NOW).encode()
TRIPLET = Triplet("192.0.2.0/24", "a@example.net", "b@example.org", 1, 2, True, 3)
ACCOUNT = Account("limit\x1fjo", 60_000, {7: 1}, 0.5, 1, 2)

times = st.integers(0, 2**53)
# lone surrogates are what octets that are no UTF-8 are read as
texts = st.text(st.characters(exclude_categories=()))
entries = st.one_of(
    st.builds(Triplet, texts, texts, texts, times, times, st.booleans(), times, texts),
    st.builds(
        Client,
        texts,
        times,
        allowed=st.booleans(),
        last=times,
        expires=times,
        by_hand=st.booleans(),
        instance=texts,
    ),
    st.builds(
        Account,
        texts,
        st.integers(1, 2**53),
        st.dictionaries(times, times),
        st.floats(0, 2**53),
        times,
        times,
    ),
)


def exported(*given: Entry) -> list[bytes]:
    return [HEADER, *(line(each).encode("ascii") for each in given)]


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(line(TRIPLET)) | fields).encode()


def account(**fields: Any) -> bytes:
    return json.dumps(json.loads(line(ACCOUNT)) | fields).encode()


@given(st.lists(entries, max_size=5))
def test_what_was_written_is_read_again(given: list[Entry]) -> None:
    assert list(read(exported(*given))) == given


@given(entries)
def test_an_entry_is_one_line_of_ascii_without_control_characters(entry: Entry) -> None:
    text = line(entry)
    assert text.endswith("\n")
    assert all(" " <= character <= "~" for character in text[:-1])


@given(st.binary())
def test_octets_survive_that_are_no_utf_8(octets: bytes) -> None:
    text = octets.decode("utf-8", "surrogateescape")
    (client,) = read(exported(Client(text, 0, allowed=False, last=0, expires=1)))
    assert isinstance(client, Client)
    assert client.client.encode("utf-8", "surrogateescape") == octets


@given(st.lists(st.binary() | st.sampled_from([HEADER, line(TRIPLET).encode()])))
def test_whatever_a_file_holds_it_is_read_or_refused(lines: list[bytes]) -> None:
    with contextlib.suppress(PortableError):
        assert all(isinstance(entry, Entry) for entry in read(lines))


def test_the_header_says_which_version_and_when() -> None:
    assert json.loads(header(NOW)) == {"policyd_state": 1, "exported": "2023-11-14T22:13:20+00:00"}


def test_utf_8_is_read_as_well_since_other_programs_write_it() -> None:
    (triplet,) = read([HEADER, line(TRIPLET).replace("a@exa", "ä@exä").encode()])
    assert triplet == Triplet("192.0.2.0/24", "ä@exämple.net", "b@example.org", 1, 2, True, 3)


def test_blank_lines_are_nothing() -> None:
    assert list(read([b"\n", *exported(TRIPLET), b"  \n"])) == [TRIPLET]


def test_what_stands_before_a_bad_line_has_been_given() -> None:
    found = read([*exported(TRIPLET), b"{\n"])
    assert next(found) == TRIPLET
    with pytest.raises(PortableError, match=r"^line 3: "):
        next(found)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "line 1: there is none, not even the header of an export"),
        ([line(TRIPLET).encode()], "line 1: this is no header of an export of policyd's state"),
        ([b"VERSION=3"], "line 1: this is no header of an export of policyd's state"),
        (
            [b'{"policyd_state": 2}'],
            "line 1: the export is of version 2; this policyd reads version 1",
        ),
        ([HEADER, b"{}"], "line 2: Object missing required field `type`"),
        (
            [HEADER, changed(type="quadruplet")],
            "line 2: Invalid value 'quadruplet' - at `$.type`",
        ),
        ([HEADER, changed(first="1")], "line 2: Expected `int`, got `str` - at `$.first`"),
        (
            [HEADER, b"\n", changed(last=-1)],
            "line 3: last is -1; it is from 0 to 2 to the power of 53",
        ),
        (
            [HEADER, changed(expires=2**63)],
            f"line 2: expires is {2**63}; it is from 0 to 2 to the power of 53",
        ),
        (
            [HEADER, account(level=math.nan)],
            "line 2: level is nan; it is from 0 to 2 to the power of 53",
        ),
        ([HEADER, account(window=0)], "line 2: window is 0"),
        (
            [HEADER, account(parts={"1": -1})],
            "line 2: a part's amount is -1; it is from 0 to 2 to the power of 53",
        ),
        ([HEADER, b"[" * 100_000], "line 2: it is nested too deeply"),
        (
            [HEADER, b"\xff"],
            "line 2: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
    ],
)
def test_an_error_names_the_line(lines: list[bytes], why: str) -> None:
    with pytest.raises(PortableError) as raised:
        list(read(lines))
    assert str(raised.value) == why
