"""
The catalogue holds every row of the five tables of reply codes that it was begun from.

They are typed here as the documents give them, with their numbers (`catalogue.DOCUMENTS`);
mended are only words that copying had broken ("act ion"), and rows that a document repeats are
given once.
"""

import re

import pytest

from policyd.smtp.catalogue import BASIC, COMMANDS, DOCUMENTS, ENHANCED, Status

BASIC_ROWS = {
    0: """
        200 (nonstandard success response)
        211 System status, or system help reply
        214 Help message
        220
        221
        250 Requested mail action okay, completed
        251 User not local; will forward to
        354 Start mail input; end with
        421
        450 Requested mail action not taken: mailbox unavailable
        451 Requested action aborted: local error in processing
        452 Requested action not taken: insufficient system storage
        500 Syntax error, command unrecognised
        501 Syntax error in parameters or arguments
        502 Command not implemented
        503 Bad sequence of commands
        504 Command parameter not implemented
        521
        530 Access denied
        550 Requested action not taken: mailbox unavailable
        551 User not local; please try
        552 Requested mail action aborted: exceeded storage allocation
        553 Requested action not taken: mailbox name not allowed
        554 Transaction failed
    """,
    1: """
        500 Syntax error, command unrecognized (command line too long)
        501 Syntax error in parameters or arguments
        502 Command not implemented
        503 Bad sequence of commands
        504 Command parameter not implemented
        211 System status, or system help reply
        214 Help message
        220 <domain> Service ready
        221 <domain> Service closing transmission channel
        421 <domain> Service not available, closing transmission channel
        250 Requested mail action okay, completed
        251 User not local; will forward to <forward-path>
        450 Requested mail action not taken: mailbox unavailable (e.g. mailbox busy)
        550 Requested action not taken: mailbox unavailable (e.g. mailbox not found, no access)
        451 Requested action aborted: error in processing
        551 User not local; please try <forward-path>
        452 Requested action not taken: insufficient system storage
        552 Requested mail action aborted: exceeded storage allocation
        553 Requested action not taken: mailbox name not allowed (e.g. mailbox syntax incorrect)
        354 Start mail input; end with <CRLF>.<CRLF>
        554 Transaction failed
    """,
    2: """
        200 (nonstandard success response)
        211 System status, or system help reply
        214 Help message
        220 domain Service ready
        221 <domain> Service closing transmission channel
        250 Requested mail action okay, completed
        251 User not local; will forward to <forward-path>
        354 Start mail input; end with <CRLF>.<CRLF>
        421 <domain> Service not available, closing transmission channel
        450 Requested mail action not taken: mailbox unavailable
        451 Requested action aborted: local error in processing
        452 Requested action not taken: insufficient system storage
        500 Syntax error, command unrecognized
        501 Syntax error in parameters or arguments
        502 Command not implemented
        503 Bad sequence of commands
        504 Command parameter not implemented
        521 <domain> does not accept mail
        550 Requested action not taken: mailbox unavailable
        551 User not local; please try <forward-path>
        552 Requested mail action aborted: exceeded storage allocation
        553 Requested action not taken: mailbox name not allowed
        554 Transaction failed
    """,
    3: """
        211 System status or system help reply
        214 Help message
        220 Service ready
        221 Service closing transmission channel
        250 Requested mail action okay
        251 User not local will forward to
        252 Cannot VRFY user but will take message and attempt delivery
        253 messages pending for node started
        354 Start mail input end with
        355 Octet-offset is the transaction offset
        421 Service not available
        432 A password transition is needed
        450 Requested mail action not taken: mailbox unavailable
        451 Requested action aborted: local error in processing
        452 Requested action not taken: insufficient system storage
        453 You have no mail
        454 TLS not available due to temporary reason
        458 Unable to queue messages for node node
        459 Node node not allowed: reason
        500 Syntax error
        501 Syntax error in parameters or arguments
        502 Command not implemented
        503 Bad sequence of commands
        504 Command parameter not implemented
        521 Machine does not accept mail
        530 Must issue a STARTTLS command first
        550 Requested action not taken: mailbox unavailable
        551 User not local please try forwardpath
        552 Requested mail action aborted: exceeded storage allocation
        553 Requested action not taken: mailbox name not allowed
        554 Transaction failed
    """,
    4: """
        211 System status, or system help reply
        214 Help message
        220 <domain> Service ready
        221 <domain> Service closing transmission channel
        250 Requested mail action okay, completed
        251 User not local; will forward to <forward-path>
        252 Cannot VRFY user, but will accept message and attempt delivery
        354 Start mail input; end with <CRLF>.<CRLF>
        421 <domain> Service not available, closing transmission channel
        450 Requested mail action not taken: mailbox unavailable (e.g., mailbox busy)
        451 Requested action aborted: local error in processing
        452 Requested action not taken: insufficient system storage
        500 Syntax error, command unrecognized (command line too long)
        501 Syntax error in parameters or arguments
        502 Command not implemented
        503 Bad sequence of commands
        504 Command parameter not implemented
        550 Requested action not taken: mailbox unavailable (e.g., mailbox not found, no access,
            or command rejected for policy reasons)
        551 User not local; please try <forward-path>
        552 Requested mail action aborted: exceeded storage allocation
        553 Requested action not taken: mailbox name not allowed (e.g., mailbox syntax incorrect)
        554 Transaction failed (Or, connection-opening response, "No SMTP service here")
    """,
}

# Documents 0 and 2 give the same pairs; "received data" is end-of-data here.
COMMAND_ROWS = """
    connect      220 421
    HELO         250 500 501 504 521 421
    EHLO         250 550 500 501 504 421
    MAIL         250 552 451 452 500 501 421
    RCPT         250 251 550 551 552 553 450 451 452 500 501 503 521 421
    DATA         354 451 554 500 501 503 421
    end-of-data  250 552 554 451 452
    RSET         200 250 500 501 504 421
    SEND         250 552 451 452 500 501 502 421
    SOML         250 552 451 452 500 501 502 421
    SAML         250 552 451 452 500 501 502 421
    VRFY         250 251 550 551 553 500 501 502 504 421
    EXPN         250 550 500 501 502 504 421
    HELP         211 214 500 501 502 504 421
    NOOP         200 250 500 421
    QUIT         221 500
    TURN         250 502 500 503
"""

# Document 3, its x.1.0 and so on.
ENHANCED_ROWS = """
    1.0 Other address status
    1.1 Bad destination mailbox address
    1.2 Bad destination system address
    1.3 Bad destination mailbox address syntax
    1.4 Destination mailbox address ambiguous
    1.5 Destination mailbox address valid
    1.6 Mailbox has moved
    1.7 Bad sender's mailbox address syntax
    1.8 Bad sender's system address
    2.0 Other or undefined mailbox status
    2.1 Mailbox disabled, not accepting messages
    2.2 Mailbox full
    2.3 Message length exceeds administrative limit
    3.0 Other or undefined mail system status
    3.1 Mail system full
    3.2 System not accepting network messages
    3.3 System not capable of selected features
    3.4 Message too big for system
    4.0 Other or undefined network or routing status
    4.1 No answer from host
    4.2 Bad connection
    4.3 Routing server failure
    4.4 Unable to route
    4.5 Network congestion
    4.6 Routing loop detected
    4.7 Delivery time expired
    5.0 Other or undefined protocol status
    5.1 Invalid command
    5.2 Syntax error
    5.3 Too many recipients
    5.4 Invalid command arguments
    5.5 Wrong protocol version
    6.0 Other or undefined media error
    6.1 Media not supported
    6.2 Conversion required and prohibited
    6.3 Conversion required but not supported
    6.4 Conversion with loss performed
    6.5 Conversion failed
"""


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def _basic_rows() -> list[tuple[int, int, str]]:
    return [
        (number, int(code), text)
        for number, table in BASIC_ROWS.items()
        for code, text in re.findall(r"^ {8}(\d{3})((?:.|\n {12})*)$", table, re.MULTILINE)
    ]


def _command_rows() -> list[tuple[str, int]]:
    lines = (line.split() for line in COMMAND_ROWS.strip().splitlines())
    return [(command, int(code)) for command, *codes in lines for code in codes]


def _enhanced_rows() -> list[tuple[int, int, str]]:
    rows = re.findall(r"(\d)\.(\d+) (.+)", ENHANCED_ROWS)
    return [(int(subject), int(detail), name) for subject, detail, name in rows]


def test_the_tables_typed_here_are_complete() -> None:
    lengths = [sum(1 for row in _basic_rows() if row[0] == number) for number in range(5)]
    assert lengths == [24, 21, 23, 31, 22]
    assert len(_command_rows()) == 111
    assert len(_enhanced_rows()) == 38
    assert len(DOCUMENTS) == len(BASIC_ROWS)


@pytest.mark.parametrize(("number", "code", "text"), _basic_rows())
def test_a_basic_code_of_a_document_is_found_with_its_words(
    number: int, code: int, text: str
) -> None:
    entry = BASIC[code]
    assert number in entry.seen_in
    assert _words(text) <= _words(" ".join((entry.text, *entry.also_worded, entry.note)))


@pytest.mark.parametrize(("command", "code"), _command_rows())
def test_a_command_s_code_of_documents_0_and_2_is_found(command: str, code: int) -> None:
    entry = COMMANDS[command][code]
    assert entry.seen_in == (0, 2)
    assert entry.command == command
    assert entry.code == code


def test_the_failure_reply_to_ehlo_is_known_by_its_old_words() -> None:
    assert "Not implemented" in COMMANDS["EHLO"][550].note
    assert "Not implemented" in BASIC[550].also_worded


@pytest.mark.parametrize(("subject", "detail", "name"), _enhanced_rows())
def test_an_enhanced_code_of_document_3_is_found_with_its_words(
    subject: int, detail: int, name: str
) -> None:
    entry = ENHANCED[subject, detail]
    assert entry.seen_in == (3,)
    assert _words(name) <= _words(" ".join((entry.name, *entry.also_worded)))


def test_nothing_claims_to_be_in_a_document_that_is_not() -> None:
    basic = {(number, code) for number, code, _ in _basic_rows()}
    assert {(number, each.code) for each in BASIC.values() for number in each.seen_in} == basic
    commands = [row for codes in COMMANDS.values() for row in codes.values() if row.seen_in]
    assert {(row.command, row.code) for row in commands} == set(_command_rows())
    enhanced = {(subject, detail) for subject, detail, _ in _enhanced_rows()}
    assert {key for key, each in ENHANCED.items() if each.seen_in} == enhanced


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (200, Status.NONSTANDARD),
        (253, Status.CURRENT),
        (355, Status.NONSTANDARD),
        (432, Status.CURRENT),
        (453, Status.CURRENT),
        (454, Status.CURRENT),
        (458, Status.CURRENT),
        (459, Status.CURRENT),
        (521, Status.CURRENT),
        (530, Status.CURRENT),
    ],
)
def test_a_rare_code_of_the_documents_is_marked(code: int, status: Status) -> None:
    assert BASIC[code].status is status


@pytest.mark.parametrize("command", ["SEND", "SOML", "SAML", "TURN"])
def test_a_deprecated_command_is_obsolete_with_all_its_codes(command: str) -> None:
    assert {row.status for row in COMMANDS[command].values()} == {Status.OBSOLETE}


@pytest.mark.parametrize("command", ["HELO", "RCPT"])
def test_521_as_rfc_1846_had_it_is_obsolete(command: str) -> None:
    assert COMMANDS[command][521].status is Status.OBSOLETE
    assert "RFC 1846" in COMMANDS[command][521].source


@pytest.mark.parametrize("command", ["RSET", "NOOP"])
def test_200_is_nonstandard_for_its_commands(command: str) -> None:
    assert COMMANDS[command][200].status is Status.NONSTANDARD
