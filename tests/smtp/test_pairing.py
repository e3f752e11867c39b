"""What is found fault with in a reply, and the mend that is offered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.smtp.catalogue import BASIC, NAMED, named
from policyd.smtp.pairing import Finding, default_pair, judge, judge_named
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import Stage

C, H, M, R, D, E, V, T = Stage


def _errors(code: int, enhanced: str, text: str, *stages: Stage) -> list[Finding]:
    return [each for each in judge(code, enhanced, text, stages) if each.severity == "error"]


def _warnings(code: int, enhanced: str, text: str, *stages: Stage) -> list[Finding]:
    return [each for each in judge(code, enhanced, text, stages) if each.severity == "warning"]


def _pair(code: int) -> str:
    return str(default_pair(code) or f"{code // 100}.0.0")


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "stage"),
    [
        (450, "4.2.0", "Greylisted; please try again in a few minutes", R),
        (450, "4.2.1", "Please try again later", R),
        (451, "4.3.0", "Temporary lookup failure", M),
        (451, "4.7.24", "SPF cannot be evaluated", E),
        (421, "4.4.2", "Timeout exceeded", C),
        (550, "5.1.1", "No such mailbox here: {recipient}", R),
        (550, "5.7.1", "Refused", M),
        (550, "5.7.23", "SPF validation failed; do not retry", M),
        (550, "5.2.1", "Correct the address and try again", R),
        (552, "5.3.4", "Too big", E),
        (554, "5.6.0", "Malformed", E),
        (556, "5.1.10", "Null MX", R),
        (521, "5.3.2", "No mail here", C),
        (530, "5.7.0", "Log in", V),
        (530, "5.7.0", "Log in", M),
        (459, "4.5.0", "Not yours", T),
        (501, "5.1.3", "Syntax", R),
        (503, "5.5.0", "Pipelining", D),
        (504, "5.5.4", "Not qualified", H),
    ],
)
def test_a_right_reply_is_found_no_fault_with(
    code: int, enhanced: str, text: str, stage: Stage
) -> None:
    assert judge(code, enhanced, text, [stage]) == ()


# Errors


@pytest.mark.parametrize(
    ("code", "enhanced", "mend"),
    [
        (550, "4.2.1", 'write "450 4.2.1" (try again) or "550 5.2.1" (final)'),
        (450, "5.2.1", 'write "450 4.2.1" (try again) or "550 5.2.1" (final)'),
        (450, "5.2.2", 'write "450 4.2.2" (try again) or "552 5.2.2" (final)'),
        (550, "4.7.24", 'write "451 4.7.24" (try again) or "550 5.7.24" (final)'),
        (452, "5.2.2", 'write "452 4.2.2" (try again) or "552 5.2.2" (final)'),
        (550, "2.1.0", 'write "550 5.1.0"'),
        (450, "2.1.5", 'write "450 4.1.5"'),
    ],
)
def test_codes_of_different_classes_are_an_error(code: int, enhanced: str, mend: str) -> None:
    (finding,) = judge(code, enhanced, "text", [R])
    assert finding.severity == "error"
    assert "different classes" in finding.what
    assert finding.mend == mend


@pytest.mark.parametrize("code", [-1, 0, 99, 200, 211, 250, 251, 334, 354, 399, 600, 999, 45000])
def test_a_code_that_neither_defers_nor_rejects_is_an_error(code: int) -> None:
    (finding,) = judge(code, "2.0.0", "text", Stage)
    assert finding.severity == "error"
    assert f"{code} is not a 4yz or 5yz code" in finding.what
    assert '"accept" or "pass"' in finding.mend


@pytest.mark.parametrize(
    ("code", "enhanced", "stage", "mend"),
    [
        (499, "4.2.1", R, '"450 4.2.1"'),
        (499, "4.2.1", M, '"451 4.2.1"'),
        (400, "4.7.0", C, '"421 4.7.0"'),
        (599, "5.7.1", R, '"550 5.7.1"'),
        (511, "5.1.1", R, '"550 5.1.1"'),
        (571, "5.7.1", D, '"554 5.7.1"'),
        (441, "4.4.1", E, '"450 4.4.1"'),
    ],
)
def test_a_code_of_no_specification_is_an_error(
    code: int, enhanced: str, stage: Stage, mend: str
) -> None:
    (finding,) = _errors(code, enhanced, "text", stage)
    assert f"{code} is a code of no specification" in finding.what
    assert mend in finding.mend


@pytest.mark.parametrize(
    ("code", "enhanced", "mend"),
    [
        (550, "", '"550 5.7.1"'),
        (450, "", '"450 4.2.0"'),
        (550, "5.7", '"550 5.7.1"'),
        (550, "5.07.23", '"550 5.7.23"'),
        (450, "4,2,1", '"450 4.2.1"'),
        (450, "4.2.1.", '"450 4.2.1"'),
        (450, " 4.2.1", '"450 4.2.1"'),
        (450, "X.2.1", '"450 4.2.0"'),
        (550, "5.7.٣", '"550 5.7.1"'),
        (550, "5.7.1234", '"550 5.7.1"'),
        (554, "policy", '"554 5.7.1"'),
    ],
)
def test_a_malformed_enhanced_code_is_an_error(code: int, enhanced: str, mend: str) -> None:
    (finding,) = judge(code, enhanced, "text", [R] if code != 554 else [E])
    assert finding.severity == "error"
    assert "enhanced code" in finding.what
    assert mend in finding.mend


@pytest.mark.parametrize(
    ("code", "enhanced", "mend"),
    [
        (550, "5.7.31", '"550 5.7.0"'),
        (550, "5.7.509", '"550 5.7.0"'),
        (450, "4.2.122", '"450 4.2.0"'),
        (550, "5.1.20", '"550 5.1.0"'),
        (550, "5.8.1", '"550 5.7.1"'),
        (550, "5.999.999", '"550 5.7.1"'),
    ],
)
def test_an_unregistered_enhanced_code_is_an_error(code: int, enhanced: str, mend: str) -> None:
    (finding,) = judge(code, enhanced, "text", [R])
    assert finding.severity == "error"
    assert "not a registered enhanced code" in finding.what
    assert mend in finding.mend


def test_the_deprecated_code_is_an_error() -> None:
    (finding,) = judge(550, "5.6.10", "text", [V])
    assert finding.severity == "error"
    assert "deprecated" in finding.what
    assert "550 5.6.8" in finding.mend


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize(
    ("code", "home"),
    [
        (422, "AUTH"),
        (430, "no command"),
        (432, "AUTH"),
        (453, "ATRN"),
        (454, "AUTH, STARTTLS"),
        (523, "AUTH"),
        (524, "AUTH"),
        (525, "AUTH"),
        (533, "no command"),
        (534, "AUTH"),
        (535, "AUTH"),
        (538, "AUTH"),
    ],
)
def test_a_code_of_auth_starttls_or_atrn_is_an_error_everywhere(
    code: int, home: str, stage: Stage
) -> None:
    (finding,) = _errors(code, _pair(code), "text", stage)
    assert f"{code} cannot be given at {stage}" in finding.what
    assert home in finding.what
    assert _offered(finding, stage)


# o: right, w: warning, x: error; in the order of the stages, connect to etrn.
STAGES = {
    458: "xxxxxxxo",
    459: "xxxxxxxo",
    455: "xxwwxxxx",  # the parser's, where it is listed
    500: "xwwwwxww",
    502: "xwxxxxwx",
    555: "xxwwxxxx",
    501: "xooooxoo",
    503: "xwoooxxw",  # RFC 1869 had it for EHLO, Postfix has it for ETRN
    504: "xowwxxox",  # Postfix has it for MAIL and RCPT
    530: "xxoooxoo",  # RFC 4954 section 6
    551: "xxxwxxww",  # it discloses an address; for ETRN a misprint
    552: "xxooxoxx",
    # at every stage; a warning where RFC 5321 (for ETRN RFC 1985) does not list them
    421: "oooooooo",
    450: "wwwowoww",
    451: "wwoowoww",
    452: "wwoowoww",
    521: "owwwwwww",
    550: "wooowoow",
    553: "wwoowwow",
    554: "owwwooww",
    556: "wwwowwww",
}


@pytest.mark.parametrize(
    ("code", "stage", "sign"),
    [
        (code, stage, sign)
        for code, signs in STAGES.items()
        for stage, sign in zip(Stage, signs, strict=True)
    ],
)
def test_a_code_is_judged_by_the_stage_it_is_given_at(code: int, stage: Stage, sign: str) -> None:
    unwarned = {421: "4.4.2", 455: "4.0.0", 502: "5.5.2", 553: "5.7.6", 554: "5.6.0"}
    findings = judge(code, unwarned.get(code, _pair(code)), "text", [stage])
    assert [each.severity for each in findings] == {
        "o": [],
        "w": ["warning"],
        "x": ["error"],
    }[sign]
    assert all(str(stage) in each.what and _offered(each, stage) for each in findings)


def _offered(finding: Finding, stage: Stage) -> bool:
    """Say whether the pair that a mend begins with has no fault at the stage."""
    code, enhanced = finding.mend.removeprefix('write "').split('"')[0].split(" ")
    return not any(
        each.severity == "error" or str(stage) in each.what
        for each in judge(int(code), enhanced, "text", [stage])
    )


@pytest.mark.parametrize(
    ("code", "enhanced", "stage", "mend"),
    [
        (535, "5.7.8", R, 'write "550 5.7.1"'),  # 5.7.8 is of AUTH
        (521, "5.3.2", R, 'write "550 5.7.1", or keep it'),  # 5.3.2 is 521's
        (552, "5.3.4", C, 'write "554 5.3.4"'),
        (450, "4.7.15", M, 'write "451 4.7.15", or keep it: clients go by the first digit'),
    ],
)
def test_a_mend_keeps_the_enhanced_code_unless_it_is_bound_to_the_code(
    code: int, enhanced: str, stage: Stage, mend: str
) -> None:
    (finding,) = judge(code, enhanced, "text", [stage])
    assert finding.mend == mend


def test_the_registry_s_code_is_not_offered_where_the_stage_does_not_list_it() -> None:
    (finding,) = judge(421, "4.7.0", "text", [C])
    assert finding.mend.startswith("keep it, a usual pair: ")


def test_each_stage_of_a_rule_is_judged() -> None:
    findings = judge(552, "5.3.4", "text", [C, M, E, V])
    assert [each.what.split(":")[0] for each in findings] == [
        "552 cannot be given at connect",
        "552 cannot be given at vrfy",
    ]


def test_without_a_stage_none_is_judged() -> None:
    assert judge(535, "5.7.8", "text", ()) == ()


@pytest.mark.parametrize("text", ["", " ", "\t", "\n"])
def test_no_text_is_an_error(text: str) -> None:
    (finding,) = judge(450, "4.2.1", text, [R])
    assert finding == Finding(
        "error", "the reply has no text", "write after the codes what the sender can do"
    )


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "a\x07b", "a\tb", "a\x85b", "a\ud800b"])
def test_a_text_that_cannot_go_on_the_wire_is_an_error(text: str) -> None:
    (finding,) = judge(450, "4.2.1", text, [R])
    assert finding.severity == "error"
    assert "cannot go on the wire" in finding.what


# Warnings


@pytest.mark.parametrize(
    ("code", "enhanced", "mend"),
    [
        (450, "4.1.8", "keep it, a usual pair, or write"),
        (553, "5.1.8", 'keep it if it is what you mean, or write "501 5.1.8"'),
        (450, "4.4.3", 'keep it if it is what you mean, or write "451 4.4.3"'),
        (450, "4.7.25", "keep it if it is what you mean: "),
        (452, "4.5.3", 'keep it, a usual pair, or write "451 4.5.3"'),
        (550, "5.3.4", 'keep it if it is what you mean, or write "552 5.3.4"'),
        (452, "4.7.17", "keep it if it is what you mean: "),
    ],
)
def test_other_basic_codes_than_the_registry_s_are_a_warning(
    code: int, enhanced: str, mend: str
) -> None:
    (finding,) = judge(code, enhanced, "text", [R])
    assert finding.severity == "warning"
    assert "the registry names other basic codes for X" in finding.what
    assert finding.mend.startswith(mend)


@pytest.mark.parametrize(
    ("code", "enhanced", "mend"),
    [
        (451, "4.1.1", 'write "550 5.1.1", or keep it as others do'),
        (450, "4.1.2", 'write "550 5.1.2", or keep it as others do'),
        (450, "4.1.6", 'write "550 5.1.6", or keep it'),
        (451, "4.7.1", 'write "550 5.7.1", or keep it as others do'),
        (552, "5.2.2", 'write "452 4.2.2", or keep it as others do'),
        (550, "5.4.3", 'write "451 4.4.3", or keep it as others do'),
        (450, "4.6.1", 'write "550 5.6.1", or keep it'),
        (450, "4.7.3", 'write "550 5.7.3", or keep it'),
        (550, "5.1.9", "keep it"),
    ],
)
def test_a_class_of_little_use_for_the_detail_is_a_warning(
    code: int, enhanced: str, mend: str
) -> None:
    (finding,) = judge(code, enhanced, "text", [R])
    assert finding.severity == "warning"
    assert f"{enhanced} is of a class of little use" in finding.what
    assert finding.mend == mend


PERMANENT_ONLY = "1.1 1.2 1.3 1.6 2.3 3.4 5.1 5.2 5.4 6.1 7.1 7.2 7.3 7.4".split()  # noqa: SIM905
TRANSIENT_ONLY = "2.2 3.1 4.1 4.2 4.3 4.5 4.6 7.12".split()  # noqa: SIM905 -- reads as the RFC
EITHER = "2.1 2.4 3.2 4.4 5.6 6.5 6.6 7.7 7.15 7.24".split()  # noqa: SIM905


@pytest.mark.parametrize(
    ("detail", "useless"),
    [
        *((detail, {4}) for detail in PERMANENT_ONLY),
        *((detail, {5}) for detail in TRANSIENT_ONLY),
        *((detail, set()) for detail in EITHER),
        *((detail, {4, 5}) for detail in ("1.5", "1.9")),
        ("6.4", {4}),
    ],
)
def test_the_classes_that_rfc_3463_limits_are_warned_of(detail: str, useless: set[int]) -> None:
    warned = {
        class_
        for class_, code in ((4, 450), (5, 550))
        if any("little use" in each.what for each in judge(code, f"{class_}.{detail}", "text", []))
    }
    assert warned == useless


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Please try again later", "try again later"),
        ("Try later", "Try later"),
        ("please TRY  AGAIN\u0020in 5 minutes", "TRY AGAIN in 5"),
        ("Please retry", "retry"),
        ("Retry in {retry_after}", "Retry"),
        ("Wait {retry_after}", "{retry_after}"),
        ("Temporary failure", "Temporary"),
        ("temporarily blocked", "temporarily"),
        ("a transient failure", "transient"),
        ("You are greylisted", "greylisted"),
        ("come back later", "come back later"),
        ("correct it and try again later", "try again later"),
    ],
)
def test_a_5yz_reply_that_says_try_again_is_a_warning(text: str, said: str) -> None:
    (finding,) = judge(550, "5.7.1", text, [R])
    assert finding.severity == "warning"
    assert f'the text says "{said}", but 550 is final' in finding.what
    assert "a 4yz pair" in finding.mend


@pytest.mark.parametrize(
    "text",
    [
        "Do not retry",
        "Don't try again later",
        "this is not temporary",
        "Correct the address and try again",
        "{retry}",
        "retryable",
        "contemporary",
        "the latest mail",
        "Sent later than allowed",
    ],
)
def test_a_5yz_reply_may_say_what_only_looks_like_it(text: str) -> None:
    assert judge(550, "5.7.1", text, [R]) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Permanently refused", "Permanently"),
        ("a PERMANENT failure", "PERMANENT"),
        ("We never take this", "never"),
        ("Do not retry", "Do not retry"),
        ("please don't try again", "don't try"),
        ("no retries please", "no retries"),
        ("Give up", "Give up"),
        ("blocked forever", "forever"),
    ],
)
def test_a_4yz_reply_that_says_it_is_final_is_a_warning(text: str, said: str) -> None:
    (finding,) = judge(450, "4.2.0", text, [R])
    assert finding.severity == "warning"
    assert f'the text says "{said}", but 450 asks the client to try again' in finding.what
    assert "a 5yz pair" in finding.mend


@pytest.mark.parametrize(
    "text",
    [
        "not permanent",
        "Nevertheless, please wait",
        "{never}",
        "Please do not retry before {retry_after}",
        "Do not try again for an hour",
        "impermanent",
    ],
)
def test_a_4yz_reply_may_say_what_only_looks_like_it(text: str) -> None:
    assert judge(450, "4.2.0", text, [R]) == ()


# The whole


@given(
    st.integers(),
    st.text(),
    st.text(st.characters()),
    st.lists(st.sampled_from(Stage), max_size=8),
)
def test_judging_never_fails(code: int, enhanced: str, text: str, stages: list[Stage]) -> None:
    assert all(each.what and each.mend for each in judge(code, enhanced, text, stages))


@given(
    st.one_of(st.sampled_from(sorted(BASIC)), st.integers(400, 599)),
    st.builds("{}.{}.{}".format, st.integers(0, 9), st.integers(0, 12), st.integers(0, 40)),
    st.text(st.sampled_from("retry not {}again\r\n\0\ud800é"), max_size=30),
    st.lists(st.sampled_from(Stage), max_size=8),
)
def test_a_reply_without_error_is_a_registered_pair_of_one_class(
    code: int, enhanced: str, text: str, stages: list[Stage]
) -> None:
    if _errors(code, enhanced, text, *stages):
        return
    assert code in BASIC
    assert code // 100 in (4, 5)
    assert EnhancedCode.parse(enhanced).class_ == code // 100
    assert text.strip()
    assert text.isprintable()


@given(st.sampled_from(sorted(BASIC)), st.sampled_from(Stage))
def test_the_default_pair_of_a_code_is_no_error_but_for_its_stage(code: int, stage: Stage) -> None:
    if code // 100 in (4, 5):
        wrong = _errors(code, _pair(code), "text", stage)
        assert all(str(stage) in each.what for each in wrong)


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        (250, "2.0.0"),
        (421, "4.3.2"),
        (450, "4.2.0"),
        (451, "4.3.0"),
        (452, "4.3.1"),
        (501, "5.5.4"),
        (521, "5.3.2"),
        (530, "5.7.0"),
        (550, "5.7.1"),
        (552, "5.3.4"),
        (553, "5.1.3"),
        (554, "5.7.1"),
        (556, "5.1.10"),
    ],
)
def test_a_code_has_a_default_pair(code: int, enhanced: str) -> None:
    assert str(default_pair(code)) == enhanced


@pytest.mark.parametrize("code", [334, 354, 355, 499, 600, -1])
def test_intermediate_and_unknown_codes_have_no_default_pair(code: int) -> None:
    assert default_pair(code) is None


# Named replies


def test_a_named_reply_at_another_stage_is_judged_as_its_pair_is_there() -> None:
    (unlisted,) = judge_named(named("greylisted"), "text", [R, H])
    assert "does not list 450 at helo" in unlisted.what
    (illegal,) = judge_named(named("message-too-big"), "text", [M, V])
    assert illegal.severity == "error"
    assert "552 cannot be given at vrfy" in illegal.what


def test_a_named_reply_at_another_stage_that_can_take_it_is_a_warning() -> None:
    (finding,) = judge_named(named("greylisted"), "text", [E])
    assert finding.severity == "warning"
    assert finding.what == "greylisted is meant for rcpt, not for end-of-data"


def test_a_named_reply_s_own_text_is_judged() -> None:
    (finding,) = judge_named(named("spam"), "Please retry later", [E])
    assert 'the text says "retry"' in finding.what
    assert judge_named(named("greylisted"), "", [R])[0].severity == "error"


@pytest.mark.parametrize("stage", Stage)
def test_no_named_reply_breaks_a_judgement(stage: Stage) -> None:
    for reply in NAMED.values():
        assert all(each.mend for each in judge_named(reply, reply.text, [stage]))
