"""What DMARC records say, who is aligned with whom, and what is asked for a message (RFC 7489)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.dkim import Signature
from policyd.mail.dmarc import DmarcAnswer, Policy, aligned, evaluate, policy_of
from policyd.mail.spf import Identity, SpfAnswer

REJECT = Policy("example.com", "reject", "reject")


def spf(result: str, domain: str) -> SpfAnswer:
    return SpfAnswer(result, Identity.MAIL_FROM, domain)


def signature(domain: str, result: str = "pass") -> Signature:
    return Signature(domain, "s", f"@{domain}", "rsa-sha256", result)


def asked(
    policy: Policy | None,
    *signatures: Signature,
    author: str = "example.com",
    by: SpfAnswer | None = None,
    draw: float = 0.0,
) -> DmarcAnswer:
    return evaluate(author, policy, by or spf("none", ""), signatures, draw=draw)


@pytest.mark.parametrize(
    ("author", "domain", "relaxed", "strict"),
    [
        # RFC 7489 appendix B.1.1, SPF: in alignment by name, by parent, and not
        ("example.com", "example.com", True, True),
        ("example.com", "child.example.com", True, False),
        ("child.example.com", "example.com", True, False),
        ("example.com", "sample.net", False, False),
        # section 3.1.1: neither of siblings is the other's parent
        ("news.example.com", "mail.example.com", True, False),
        # a public suffix speaks for nobody below it, and nobody below speaks for it
        ("example.com", "com", False, False),
        ("com", "example.com", False, False),
        ("example.co.uk", "co.uk", False, False),
        ("a.co.uk", "b.co.uk", False, False),
        ("alice.github.io", "github.io", False, False),
        ("alice.github.io", "mallory.github.io", False, False),
        ("alice.github.io", "www.alice.github.io", True, False),
        ("co.uk", "co.uk", True, True),
        ("localhost", "localhost", True, True),
        ("notexample.com", "example.com", False, False),
        ("example.com", "", False, False),
        ("", "", False, False),
    ],
)
def test_who_speaks_for_whom(author: str, domain: str, relaxed: bool, strict: bool) -> None:
    assert aligned(author, domain, strict=False) is relaxed
    assert aligned(author, domain, strict=True) is strict


@pytest.mark.parametrize(
    ("record", "policy"),
    [
        ("v=DMARC1; p=reject", REJECT),
        ("v=DMARC1;p=reject;", REJECT),
        ("v = DMARC1 ; P = Reject ; ", REJECT),
        ("v=DMARC1; p=none; sp=quarantine", Policy("example.com", "none", "quarantine")),
        ("v=DMARC1; p=reject; adkim=s; aspf=r", Policy("example.com", "reject", "reject", True)),
        (
            "v=DMARC1; p=reject; aspf=s",
            Policy("example.com", "reject", "reject", strict_spf=True),
        ),
        ("v=DMARC1; p=reject; pct=25", Policy("example.com", "reject", "reject", percent=25)),
        # what is wrong in the rest is as if it were not there (section 6.3)
        ("v=DMARC1; p=reject; pct=lots; adkim=x; foo; =; unknown=1;; ri=ten", REJECT),
        ("v=DMARC1; p=reject; pct=999", REJECT),
        ("v=DMARC1; p=reject; pct=-1", REJECT),
        ("v=DMARC1; p=reject; pct=٣", REJECT),
        ("v=DMARC1; p=reject; p=none", REJECT),
        # the successor's test mode
        ("v=DMARC1; p=reject; t=y", Policy("example.com", "reject", "reject", percent=0)),
        ("v=DMARC1; p=reject; pct=25; t=n", Policy("example.com", "reject", "reject", percent=25)),
        # appendix B.2: what its examples publish
        (
            (
                "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; "
                "ruf=mailto:auth-reports@thirdparty.example.net"
            ),
            Policy("example.com", "none", "none"),
        ),
        (
            (
                "v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com,"
                "mailto:tld-test@thirdparty.example.net!10m; pct=25"
            ),
            Policy("example.com", "quarantine", "quarantine", percent=25),
        ),
        # without a policy that is one: only where reports go (section 6.6.3, step 6)
        ("v=DMARC1; rua=mailto:d@example.com", Policy("example.com", "none", "none")),
        ("v=DMARC1; p=ignore; rua=mailto:d@example.com", Policy("example.com", "none", "none")),
        (
            "v=DMARC1; p=reject; sp=perhaps; rua=mailto:d@example.com",
            Policy("example.com", "none", "none"),
        ),
        ("v=DMARC1; rua=nowhere", None),
        ("v=DMARC1; p=reject; sp=perhaps", None),
        ("v=DMARC1", None),
        ("v=DMARC1; p=", None),
        # not of this version, or not first
        ("v=DMARC10; p=reject", None),
        ("v=dmarc1; p=reject", None),
        ("p=reject; v=DMARC1", None),
        ("v=spf1 -all", None),
        ("", None),
        ("v=DMARC1; p=reject;" + " " * 10_000, None),
    ],
)
def test_what_a_record_says(record: str, policy: Policy | None) -> None:
    assert policy_of("example.com", [record]) == policy


def test_records_of_others_do_not_count_and_several_are_none() -> None:
    one = "v=DMARC1; p=reject"
    assert policy_of("example.com", ["v=spf1 -all", one, "google-site=1"]) == REJECT
    assert policy_of("example.com", [one, one]) is None
    assert policy_of("example.com", []) is None


@given(st.text(), st.text("=;:vp DMARC1reject\t\udc80"))
def test_any_record_is_read_or_none(before: str, after: str) -> None:
    for text in (before, after, f"v=DMARC1;p=reject;{before}", f"v=DMARC1;{after}"):
        policy = policy_of("example.com", [text])
        assert policy is None or policy.own in {"none", "quarantine", "reject"}


def test_one_aligned_pass_is_enough() -> None:
    for answer in (
        asked(REJECT, by=spf("pass", "bounce.example.com")),
        asked(REJECT, signature("example.com"), by=spf("fail", "example.com")),
        asked(REJECT, signature("other.org"), signature("example.com")),
    ):
        assert (answer.result, answer.policy, answer.domain) == ("pass", "reject", "example.com")
    both = asked(REJECT, signature("example.com"), by=spf("pass", "example.com"))
    assert (both.aligned_spf, both.aligned_dkim) == (True, True)
    assert both.reason == "SPF and DKIM aligned"


@pytest.mark.parametrize("result", ["fail", "policy", "neutral", "permerror", "none"])
def test_what_is_no_pass_or_not_aligned_does_not_count(result: str) -> None:
    answer = asked(
        REJECT,
        signature("example.com", result),
        signature("other.org"),
        by=spf("pass", "other.org"),
    )
    assert (answer.result, answer.aligned_spf, answer.aligned_dkim) == ("reject", False, False)
    assert answer.reason == "SPF pass for other.org, no aligned DKIM signature is good"


def test_softfail_and_neutral_of_spf_are_no_pass() -> None:
    for result in ("softfail", "neutral", "none", "fail", "permerror"):
        assert asked(REJECT, by=spf(result, "example.com")).result == "reject"


def test_strict_alignment_asks_for_the_same_domain() -> None:
    policy = Policy("example.com", "reject", "reject", strict_dkim=True, strict_spf=True)
    below = "mail.example.com"
    assert asked(policy, signature(below), by=spf("pass", below)).result == "reject"
    assert asked(policy, signature("example.com")).result == "pass"
    assert asked(policy, by=spf("pass", "example.com")).result == "pass"


def test_subdomains_have_the_policy_that_is_for_them_unless_they_have_their_own_record() -> None:
    policy = Policy("example.com", "reject", "none")
    assert asked(policy, author="example.com").result == "reject"
    below = asked(policy, author="sub.example.com")
    assert (below.result, below.policy) == ("none", "none")
    own = Policy("sub.example.com", "quarantine", "none")
    assert asked(own, author="sub.example.com").result == "quarantine"


@pytest.mark.parametrize(
    ("published", "percent", "draw", "result"),
    [
        ("reject", 100, 0.999, "reject"),
        ("reject", 25, 0.2499, "reject"),
        ("reject", 25, 0.25, "quarantine"),
        ("quarantine", 25, 0.25, "none"),
        ("none", 25, 0.25, "none"),
        ("reject", 0, 0.0, "quarantine"),
        ("quarantine", 0, 0.0, "none"),
    ],
)
def test_mail_that_is_not_sampled_gets_the_next_weaker(
    published: str, percent: int, draw: float, result: str
) -> None:
    policy = Policy("example.com", published, published, percent=percent)
    answer = asked(policy, draw=draw)
    assert (answer.result, answer.policy) == (result, published)


def test_a_temporary_error_counts_where_a_pass_would_have() -> None:
    assert asked(REJECT, by=spf("temperror", "example.com")).result == "temperror"
    assert asked(REJECT, signature("example.com", "temperror")).result == "temperror"
    assert asked(REJECT, signature("other.org", "temperror")).result == "reject"
    assert asked(REJECT, by=spf("temperror", "other.org")).result == "reject"
    assert (
        asked(REJECT, signature("example.com"), by=spf("temperror", "example.com")).result == "pass"
    )
    monitoring = Policy("example.com", "none", "none")
    assert asked(monitoring, by=spf("temperror", "example.com")).result == "none"


def test_without_a_record_nothing_is_asked() -> None:
    answer = asked(None, signature("example.com"))
    assert (answer.result, answer.policy) == ("none", "")
