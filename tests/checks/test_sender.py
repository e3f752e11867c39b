"""Senders made for one message meet the next message of the same sender."""

import re
from email.utils import make_msgid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policyd.checks.sender import folded

SAME = [
    # people
    ("joe@example.org", ["joe@example.org", "Joe@Example.ORG", "joe+news@example.org"]),
    ("joe.smith@example.org", ["joe.smith@example.org", "joe.smith+a=b.example+c@example.org"]),
    ("jürgen@xn--bcher-kva.example", ["JÜRGEN@bücher.example", "jürgen@xn--bcher-kva.example"]),
    # BATV: draft-levine-smtp-batv, SparkPost, an early draft, Barracuda
    ("joe@example.org", ["prvs=0123abcdef=joe@example.org", "prvs=9456fedcba=joe@example.org"]),
    ("joe@example.org", ["joe@example.org", "prvs=joe=0123abcdef@example.org"]),
    ("joe@example.org", ["btv1==12345678abc==joe@example.org", "BTV1==9ab==joe@example.org"]),
    (
        "bounces-#@bounces.example.org",
        [
            "msprvs1=17654abcXYZ=bounces-12345-12@bounces.example.org",
            "msprvs1=18001defUVW=bounces-12345-13@bounces.example.org",
        ],
    ),
    # SRS: once, twice, with BATV within, Exchange Online's, Gmail's forwarding
    (
        "srs0=#=#=example.org=joe@forwarder.example",
        [
            "SRS0=Ab3x=KL=example.org=joe@forwarder.example",
            "srs0=zz/9=QM=example.org=joe@forwarder.example",
            "SRS0+q1w2=7A=example.org=joe@forwarder.example",
            "SRS0=Ab3x=KL=example.org=prvs=0123abcdef=joe@forwarder.example",
        ],
    ),
    (
        "srs1=#=first.example==#=#=example.org=joe@second.example",
        [
            "SRS1=8+mN=first.example==Ab3x=KL=example.org=joe@second.example",
            "SRS1=0oPq=first.example==zz/9=QM=example.org=joe@second.example",
        ],
    ),
    (
        "bounces@tenant.example",
        ["bounces+SRS=44ldt=IX@tenant.example", "bounces+SRS=aBc1d=IY@tenant.example"],
    ),
    (
        "joe@gmail.com",
        ["joe+caf_=jane=example.org@gmail.com", "joe@gmail.com"],
    ),
    # mailing lists: Mailman, ezmlm, Google Groups
    (
        "list-bounces@lists.example.org",
        ["list-bounces+jane=example.com@lists.example.org", "list-bounces@lists.example.org"],
    ),
    (
        "list-return-#@example.org",
        [
            "list-return-1234-jane=example.com@example.org",
            "list-return-1299-jane=example.com@example.org",
        ],
    ),
    (
        "group@googlegroups.com",
        [
            "group+bncBCQ2V6XU4MBBBK6Y3OKQMGQEXAMPLE@googlegroups.com",
            "group+bncBDXYZ12ABIDBBDNF4SUAMGQEANOTHER@googlegroups.com",
        ],
    ),
    # senders of bulk: Amazon SES, SendGrid, Mailchimp, Mailgun, Marketo, Salesforce
    (
        "#@amazonses.com",
        [
            "0100018c1a2b3c4d-5e6f7a8b-9c0d-1e2f-3a4b-5c6d7e8f9a0b-000000@amazonses.com",
            "0100018f0f1e2d3c-deadbeef-cafe-beef-feed-abcdefabcdef-000000@amazonses.com",
        ],
    ),
    (
        "#@eu-west-#.amazonses.com",
        [
            "0102018c1a2b3c4d-5e6f7a8b-9c0d-1e2f-3a4b-5c6d7e8f9a0b-000000@eu-west-1.amazonses.com",
            "0102018f0f1e2d3c-aabbccdd-eeff-aabb-ccdd-eeff00112233-000000@eu-west-1.amazonses.com",
        ],
    ),
    (
        "bounces@em#.example.org",
        [
            "bounces+123-abcd-jane=example.com@em4321.example.org",
            "bounces+123-ef01-jane=example.com@em1234.example.org",
        ],
    ),
    (
        "bounce-mc.us#@mail#.atl#.rsgsv.net",
        [
            "bounce-mc.us12_12345678.1234567-a1b2c3d4e5@mail123.atl11.rsgsv.net",
            "bounce-mc.us12_12345678.7654321-0f9e8d7c6b@mail7.atl91.rsgsv.net",
        ],
    ),
    (
        "bounce@mg.example.org",
        [
            "bounce+d27d86.7f8c9a-jane=example.com@mg.example.org",
            "bounce+0a1b2c.7f8c9a-jane=example.com@mg.example.org",
        ],
    ),
    (
        "#-abc-#@em-sj-#.mktomail.com",
        [
            "123-ABC-456.0.12345.0.0.6789.9.1234567@em-sj-77.mktomail.com",
            "123-ABC-456.0.23456.0.0.7890.9.7654321@em-sj-77.mktomail.com",
        ],
    ),
    # Google's own notices, GitHub's
    (
        "#@gaia.bounces.google.com",
        [
            "3WXYZZggKBcQpvzvcvcZsjx.ItrmxxR-QfxmmC.Htr@gaia.bounces.google.com",
            "3kF8XYwgKAPoLmNoPqRsT-UvWxYz.AbcdEf.Qwe@gaia.bounces.google.com",
        ],
    ),
    ("noreply@github.com", ["noreply@github.com", "NOREPLY@GITHUB.COM"]),
    (
        "bounces@sgmail.github.com",
        [
            "bounces+848413-1234-jane=example.com@sgmail.github.com",
            "bounces+848413-99ab-jane=example.com@sgmail.github.com",
        ],
    ),
    # names of hosts
    ("root@web#.example.org", ["root@web1.example.org", "root@web22.example.org"]),
    ("news@163.com", ["news@163.com"]),
]

EVERY = [sender for _, senders in SAME for sender in senders]
CUT_BY_POSTGREY = re.compile(r"SRS[01][^@+]*\+")  # of these it keeps what stands before the +

APART = [
    ("joe@example.org", "jane@example.org"),
    ("joe@example.org", "joe@example.com"),
    ("joe@example.org", "joe@example1.org"),
    ("joe@example1.org", "joe@example2.org"),
    ("joe@example.org", "joe"),
    ("joe@example.org", ""),
    ("a-list@example.org", "another-list@example.org"),
    (
        "SRS0=Ab3x=KL=example.org=joe@forwarder.example",
        "SRS0=Ab3x=KL=example.org=jane@forwarder.example",
    ),
    (
        "SRS0=Ab3x=KL=example.org=joe@forwarder.example",
        "SRS0=Ab3x=KL=example.com=joe@forwarder.example",
    ),
    ("prvs=0123abcdef=joe@example.org", "prvs=0123abcdef=jane@example.org"),
    ("feedback@example.org", "facade@example.org"),
]

FORMS = st.sampled_from(
    [
        "{local}@{domain}",
        "prvs=0123abcdef={local}@{domain}",
        "btv1==0123abcdef=={local}@{domain}",
        "SRS0=Ab3x=KL={domain}={local}@forwarder.example",
        "SRS1=8mN+=first.example==Ab3x=KL={domain}={local}@second.example",
        "{local}-return-12-jane=example.com@{domain}",
        "bounces+12-{local}={domain}@em12.esp.example",
        "{local}=@={domain}",
    ]
)
PIECES = st.text("abcdefgx0123456789-._=+#/ @\x1f\x80é\udce9", max_size=40) | st.text(max_size=20)


@pytest.mark.parametrize(("to", "senders"), SAME)
def test_senders_of_the_same_mail_are_one(to: str, senders: list[str]) -> None:
    assert [folded(sender) for sender in senders] == [to] * len(senders)


@pytest.mark.parametrize(("one", "other"), APART)
def test_senders_of_different_people_stay_apart(one: str, other: str) -> None:
    assert folded(one) != folded(other)


@pytest.mark.parametrize("sender", [each for each in EVERY if not CUT_BY_POSTGREY.match(each)])
def test_what_postgrey_remembers_of_a_sender_is_the_same_sender(sender: str) -> None:
    local, _, domain = sender.lower().partition("@")
    kept = re.sub(r"\b[0-9]+\b", "#", local.partition("+")[0])  # postgrey(8)
    assert folded(f"{kept}@{domain}") == folded(sender)


def test_the_null_sender_stays_null_and_nothing_else_becomes_it() -> None:
    assert folded("") == ""
    assert all(folded(text) for text in (" ", "@", "\x1f", "+", "#", "0", "=@=", "+@", "-a=b.c"))


@given(FORMS, PIECES, PIECES)
@example("{local}@{domain}", "prvs=0123abcdef=+a+b", "x.example")
def test_folding_again_changes_nothing_and_case_does_not_matter(
    form: str, local: str, domain: str
) -> None:
    sender = form.format(local=local, domain=domain)
    once = folded(sender)
    assert folded(once) == once
    assert once.isprintable()
    if sender.isascii():
        assert folded(sender.upper()) == once


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_counters_do_not_matter(one: int, other: int) -> None:
    forms = ("news-{}@example.org", "n{}x{}@example.org", "bounce_{}_0a@mx{}.example.org")
    for form in forms:
        assert folded(form.format(one, one)) == folded(form.format(other, other))


def test_random_identifiers_do_not_matter() -> None:
    ids = [make_msgid().strip("<>").partition("@")[0] for _ in range(20)]
    assert len({folded(f"{each}@example.org") for each in ids}) == 1
