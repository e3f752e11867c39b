"""The result of each signature, in the words of RFC 8601, and of messages that are no good."""

import base64
import os
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail import signature_work
from policyd.mail.author import Author
from policyd.mail.dkim import (
    LARGEST,
    MOST_SHOWN,
    RESULTS,
    DkimAnswer,
    Order,
    Signature,
    Survey,
)
from tests.mail.signed import (
    ED25519_RECORD,
    KEYS,
    NOW,
    PLAIN,
    RSA,
    RSA_RECORD,
    SHORT_RSA,
    SHORT_RSA_RECORD,
    VECTORS,
    Message,
    one,
    refused,
    signed,
    surveyed,
    verified,
)

NAME = "ed._domainkey.example.org"
RFC_6376 = {
    "brisbane._domainkey.example.com": "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3S"
    "BsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947q"
    "R+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
}
RFC_8463 = {
    "brisbane._domainkey.football.example.com": ED25519_RECORD,
    "test._domainkey.football.example.com": "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKB"
    "gQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8"
    "uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
}
RAW = (
    b"v=1; a=ed25519-sha256; d=example.org; s=ed; h=from; bh="
    b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA"
)


def written(value: bytes, message: bytes = PLAIN) -> bytes:
    return b"DKIM-Signature: " + value + b"\r\n" + message


def without(tag: bytes, instead: bytes = b"") -> bytes:
    tags = [each for each in RAW.split(b"; ") if not each.startswith(tag + b"=")]
    return written(b"; ".join([*tags, instead] if instead else tags))


def test_the_signed_example_of_rfc_6376() -> None:
    signature = one((VECTORS / "rfc6376-a2.eml").read_bytes(), RFC_6376)
    assert signature == Signature(
        "example.com", "brisbane", "joe@football.example.com", "rsa-sha256", "pass", ""
    )


def test_both_signatures_of_the_example_of_rfc_8463() -> None:
    answer = verified((VECTORS / "rfc8463-a3.eml").read_bytes(), RFC_8463)
    assert [(each.algorithm, each.result) for each in answer.signatures] == [
        ("ed25519-sha256", "pass"),
        ("rsa-sha256", "pass"),
    ]
    assert answer.from_domains == ("football.example.com",)


@pytest.mark.parametrize("vector", ["rfc6376-a2.eml", "rfc8463-a3.eml"])
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Subject: Is", b"Subject: Was", "the signature does not match the header"),
        (b"the game", b"no game", "the body has been changed"),
        (b"Joe.\r\n", b"Joe.\r\nP.S.", "the body has been changed"),
        (
            b"From: Joe",
            b"From: x@evil.example\r\nFrom: Joe",
            "the signature does not match the header",
        ),
    ],
)
def test_what_has_been_changed_fails(vector: str, old: bytes, new: bytes, reason: str) -> None:
    message = (VECTORS / vector).read_bytes()
    assert old in message
    for signature in verified(message.replace(old, new), RFC_6376 | RFC_8463).signatures:
        assert (signature.result, signature.reason) == ("fail", reason)


@pytest.mark.parametrize(
    "forms", [b"simple/simple", b"simple/relaxed", b"relaxed/simple", b"relaxed/relaxed"]
)
@pytest.mark.parametrize("body", [b"", b"\r\n", b"a \t b\r\n\r\n", b"no end"])
def test_what_dkimpy_signs_is_good(forms: bytes, body: bytes) -> None:
    message = PLAIN.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    canonicalize = tuple(forms.split(b"/"))
    by_rsa = signed(
        message, selector=b"rsa", key=RSA, algorithm=b"rsa-sha256", canonicalize=canonicalize
    )
    for each in (signed(message, canonicalize=canonicalize), by_rsa):
        assert one(each).result == "pass"


@pytest.mark.parametrize(
    ("record", "result", "reason"),
    [
        ((), "permerror", "no key in the DNS"),
        ("", "permerror", "no readable key in the DNS"),
        ("v=spf1 -all", "permerror", "no readable key in the DNS"),
        ("v=DKIM2; k=ed25519; p=AAAA", "permerror", "no readable key in the DNS"),
        ((ED25519_RECORD, ED25519_RECORD), "permerror", "several keys of one name in the DNS"),
        ((ED25519_RECORD, "v=spf1 -all"), "pass", ""),
        ("k=ed25519; p=", "permerror", "the key has been revoked"),
        ("k=ed25519; p=AAAA", "permerror", "a key that cannot be read"),
        ("k=ed25519; p=AAA", "permerror", "a key that cannot be read"),
        ("k=rsa; p=AAAA", "permerror", "a key that cannot be read"),
        ("k=dsa; p=AAAA", "permerror", "a key that cannot be read"),
        (RSA_RECORD, "permerror", "the key is rsa, the signature is not"),
        (ED25519_RECORD + "; s=tlsrpt", "permerror", "the key is not for mail"),
        (ED25519_RECORD + "; s=other:email", "pass", ""),
        (ED25519_RECORD + "; h=sha1", "permerror", "the key is not for SHA-256"),
        (ED25519_RECORD + "; h=sha1 : sha256; t=s; n=note", "pass", ""),
        (ED25519_RECORD + "; t=y", "pass", "the domain is testing DKIM"),
        (ED25519_RECORD + " " * 9000, "permerror", "no readable key in the DNS"),
    ],
)
def test_what_the_key_makes_of_a_good_signature(
    record: str | tuple[str, ...], result: str, reason: str
) -> None:
    signature = one(signed(), {NAME: record})
    assert (signature.result, signature.reason) == (result, reason)


def test_a_key_that_cannot_be_looked_up_is_a_temporary_error() -> None:
    signature = one(signed(), failing=(NAME,))
    assert signature.result == "temperror"
    assert signature.reason == "the key cannot be looked up: SERVFAIL"


def test_a_test_key_makes_a_failure_as_good_as_no_signature() -> None:
    signature = one(signed() + b"more\r\n", {NAME: ED25519_RECORD + "; t=y"})
    assert signature.result == "neutral"
    assert signature.reason == "the body has been changed; the domain is testing DKIM"


def test_a_key_for_the_domain_itself_is_not_for_subdomains() -> None:
    message = signed(identity=b"a@sub.example.org")
    assert one(message).result == "pass"
    assert one(message, {NAME: ED25519_RECORD + "; t=s"}).result == "permerror"


def test_rsa_keys_of_fewer_than_1024_bits_are_against_policy() -> None:
    message = signed(selector=b"short", key=SHORT_RSA, algorithm=b"rsa-sha256")
    signature = one(message, {"short._domainkey.example.org": SHORT_RSA_RECORD})
    assert (signature.result, signature.reason) == ("policy", "an RSA key of 512 bits")


def test_keys_that_would_take_long_are_not_tried() -> None:
    def record(modulus: int, exponent: int) -> str:
        def der(tag: int, content: bytes) -> bytes:
            size = len(content).to_bytes(3, "big")
            return bytes([tag, 0x83]) + size + content

        numbers = (
            der(2, b"\0" + n.to_bytes((n.bit_length() + 7) // 8, "big"))
            for n in (modulus, exponent)
        )
        return "p=" + base64.b64encode(der(0x30, b"".join(numbers))).decode()

    message = signed(selector=b"rsa", key=RSA, algorithm=b"rsa-sha256")
    name = "rsa._domainkey.example.org"
    started = time.process_time()
    for modulus, exponent in ((2**16384 + 1, 65537), (2**2048 + 1, 2**2040 + 1), (2**2048, 1)):
        assert one(message, {name: record(modulus, exponent)}).result == "policy"
    for modulus, exponent in ((2**8191 + 1, 2**63 + 1), (2**2047 + 1, 65537)):
        assert one(message, {name: record(modulus, exponent)}).result == "fail"
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("message", "result", "reason"),
    [
        (without(b"v"), "neutral", "no v= in the signature"),
        (without(b"a"), "neutral", "no a= in the signature"),
        (without(b"b"), "neutral", "no b= in the signature"),
        (without(b"bh"), "neutral", "no bh= in the signature"),
        (without(b"d"), "neutral", "no d= in the signature"),
        (without(b"h"), "neutral", "no h= in the signature"),
        (without(b"s"), "neutral", "no s= in the signature"),
        (without(b"v", b"v=2"), "neutral", "a version of DKIM that is not known"),
        (without(b"a", b"a=rsa-sha1"), "permerror", "SHA-1 is no longer good for signatures"),
        (without(b"a", b"a=rsa-md5"), "neutral", "an algorithm that is not known"),
        (without(b"d", b"d=exa mple.org"), "neutral", "d= or s= is no domain"),
        (without(b"d", b"d=" + b"x." * 200), "neutral", "d= or s= is no domain"),
        (without(b"s", b"s=a..b"), "neutral", "d= or s= is no domain"),
        (without(b"s", b"s=" + b"x." * 120 + b"x"), "neutral", "the name of the key is too long"),
        (without(b"h", b"h=to:subject"), "permerror", "the signature is not over From"),
        (without(b"h", b"h=from" + b":x" * 300), "policy", "a signature over more than 256 fields"),
        (without(b"b", b"b=***"), "neutral", "a signature that is not base64"),
        (without(b"bh", b"bh=AAA"), "neutral", "a signature that is not base64"),
        (written(RAW + b"; i=a@example.com"), "permerror", "i= is not within d="),
        (written(RAW + b"; i=a@notexample.org"), "permerror", "i= is not within d="),
        (written(RAW + b"; i=example.org"), "permerror", "i= is not within d="),
        (written(RAW + b"; q=http"), "neutral", "its key is not in the DNS"),
        (written(RAW + b"; c=nowsp"), "neutral", "a canonicalisation that is not known"),
        (written(RAW + b"; c=simple/x"), "neutral", "a canonicalisation that is not known"),
        (written(RAW + b"; l=-1"), "neutral", "l= is no number"),
        (written(RAW + b"; t=soon"), "neutral", "t= is no time"),
        (written(RAW + b"; x=" + b"9" * 5000), "neutral", "x= is no time"),
        (written(RAW + b"; t=100; x=100"), "neutral", "the signature expires before it is made"),
        (written(RAW + b"; x=1799999699"), "permerror", "the signature has expired"),
        (written(RAW + b"; t=1800000301"), "policy", "the signature is of the future"),
        (written(RAW + b"; d=example.com"), "neutral", "a signature that cannot be read"),
        (written(b""), "neutral", "no v= in the signature"),
        (written(b";;;"), "neutral", "a signature that cannot be read"),
        (written(b"\0"), "neutral", "a signature that cannot be read"),
        (written(RAW + b"; z=\xff\xfe"), "fail", "the signature does not match the header"),
        (
            written(RAW + b"; x=1799999700; t=1800000300"),
            "neutral",
            "the signature expires before it is made",
        ),
        (written(RAW + b"; x=1799999700"), "fail", "the signature does not match the header"),
        (written(RAW + b"; q=http:dns/txt"), "fail", "the signature does not match the header"),
        (written(RAW + b"; z=" + b"x" * 9000), "neutral", "a signature that cannot be read"),
        (written(b"\r\n " * 600 + RAW), "neutral", "a signature that cannot be read"),
    ],
)
def test_what_is_wrong_with_a_signature(message: bytes, result: str, reason: str) -> None:
    signature = one(message)
    assert (signature.result, signature.reason) == (result, reason)


def test_a_signature_that_leaves_out_a_part_of_the_body_is_against_policy() -> None:
    message = signed(length=True)
    assert one(message).result == "pass"
    more = one(message + b"An advertisement\r\n")
    assert more.result == "policy"
    assert more.reason == "l= leaves 20 octets of the body unsigned"
    less = one(message.removesuffix(b"this is it. \r\n\r\n"))
    assert (less.result, less.reason) == (
        "fail",
        "the body has been cut: it is shorter than l= says",
    )
    changed = one(message.replace(b"Hello  Bob", b"Hello  Rob"))
    assert (changed.result, changed.reason) == ("fail", "the body has been changed")


def test_a_line_that_is_of_no_field_keeps_all_signatures_from_being_verified() -> None:
    signature = one(signed().replace(b"\r\nTo:", b"\r\nwhat is this\r\nTo:"))
    assert signature.result == "neutral"
    assert signature.reason.startswith("line ")
    assert signature.reason.endswith(" of its header is of no field")


def test_only_the_newest_ten_are_verified() -> None:
    message = PLAIN
    for _ in range(11):
        message = signed(message)
    results = [each.result for each in verified(message).signatures]
    assert results == ["pass"] * 10 + ["policy"]


def test_a_hundred_signatures_take_no_longer_than_ten() -> None:
    message = b"".join([written(RAW, b"")] * 150) + PLAIN + b"x\r\n" * 1_000_000
    started = time.process_time()
    answer = verified(message, KEYS)
    assert time.process_time() - started < 1
    assert [each.result for each in answer.signatures] == ["fail"] * 10 + ["policy"] * 90
    assert len(answer.signatures) == MOST_SHOWN
    assert surveyed(message).dkim_keys == (NAME,)


@pytest.mark.parametrize(
    "filling", [b"X-%d: y\r\n", b"X-%d: " + b" z" * 300 + b"\r\n", b"X-%d:\r\n \r\n"]
)
def test_headers_beyond_64_kib_are_verified(filling: bytes) -> None:
    fields = b"".join(filling % number for number in range(1500))
    message = signed(fields + PLAIN, include_headers=[b"from", b"x-7", b"x-1499", b"x-2000"])
    started = time.process_time()
    assert one(message).result == "pass"
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("filling", "reason"),
    [
        (b"X: " + b"y" * 90 + b"\r\n", "a header of more than 1 MiB"),
        (b"X:\r\n", "more than 5000 fields"),
    ],
)
def test_more_header_than_that_is_against_policy_and_tells_no_author(
    filling: bytes, reason: str
) -> None:
    message = signed()[:-1].replace(b"From:", filling * 15_000 + b"From:", 1)
    started = time.process_time()
    answer = verified(message)
    assert time.process_time() - started < 1
    assert [(each.result, each.reason) for each in answer.signatures] == [("policy", reason)]
    assert answer.author == Author("", reason)


@pytest.mark.parametrize(
    "value", [b" b" * 4000, b"; b=" + b"\t \r\n " * 1600, b" b \r\n" * 1300, b"A= " * 2700]
)
def test_no_signature_takes_long(value: bytes) -> None:
    message = b"".join([written((RAW + b"; z=" + value)[:8190], b"")] * 10) + PLAIN
    started = time.process_time()
    verified(message)
    assert time.process_time() - started < 2


def test_a_message_that_is_too_large_is_not_verified_but_has_an_author() -> None:
    with Message(signed()) as message:
        os.ftruncate(message.descriptor(), LARGEST + 1)
        order = msgspec.msgpack.encode(Order(NOW))
        survey = msgspec.msgpack.decode(
            signature_work.survey(order, [message.descriptor()], refused), type=Survey
        )
        answer = msgspec.msgpack.decode(
            signature_work.dkim(order, [message.descriptor()], refused), type=DkimAnswer
        )
    assert survey.dkim_keys == ()
    assert [each.result for each in answer.signatures] == ["policy"]
    assert answer.signatures[0].reason == "a message of more than 128 MiB"
    assert answer.author.domain == "example.org"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\r\n",
        b"\n",
        b"body alone",
        b"\r\nbody",
        b": x\r\n\r\n",
        b" folded\r\n\r\n",
        b"From",
        b"\0" * 99,
    ],
)
def test_what_is_hardly_a_message_is_not_signed(message: bytes) -> None:
    assert verified(message) == DkimAnswer((), Author(problem="no From field"))
    assert not surveyed(message).signed


def test_a_message_whose_lines_end_in_lf_is_read_as_if_they_ended_in_cr_lf() -> None:
    assert one(signed().replace(b"\r\n", b"\n")).result == "pass"


def test_nul_bare_cr_and_octets_beyond_ascii_are_signed_like_others() -> None:
    message = PLAIN.replace(b"Subject: ", b"Subject: \xe9\0\r\xff") + b"\0\r\xff\r\r\n"
    assert one(signed(message)).result == "pass"
    assert one(signed(message).replace(b"\0", b"")).result == "fail"


TAGS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"v", b"a", b"b", b"bh", b"d", b"h", b"i", b"l", b"q", b"s", b"t", b"x", b"c"]
        ),
        st.sampled_from(
            [
                b"1",
                b"rsa-sha256",
                b"ed25519-sha256",
                b"AAAA",
                b"example.org",
                b"from",
                b"@",
                b"rsa",
                b"ed",
            ]
        )
        | st.binary(max_size=20)
        | st.integers(-1, 10**20).map(lambda n: str(n).encode()),
    ),
    max_size=14,
)


@given(TAGS, st.binary(max_size=60), st.booleans())
def test_any_signature_has_a_result(
    tags: list[tuple[bytes, bytes]], garbage: bytes, fair: bool
) -> None:
    value = b"; ".join(b"%b=%b" % tag for tag in tags)
    names = {name for name, _ in tags}
    if fair:
        value = b"; ".join([part for part in RAW.split(b"; ") if part[:1] not in names] + [value])
    for message in (written(value), written(garbage), written(value, garbage), garbage + PLAIN):
        for keys in (KEYS, {}, dict.fromkeys(KEYS, RSA_RECORD)):
            answer = verified(message, keys)
            assert {each.result for each in answer.signatures} <= set(RESULTS)
            assert "pass" not in {each.result for each in answer.signatures}


@given(st.text("vkpsht=;: DKIM1rsaed25519email*yA\xe9", max_size=80), st.binary(max_size=90))
def test_any_key_is_read_or_is_none(text: str, data: bytes) -> None:
    body = base64.b64encode(data).decode()
    for record in (text, f"k=rsa; p={body}", f"k=ed25519; p={body}", f"p={body}; {text}"):
        assert one(signed(), {NAME: record}).result in RESULTS


def test_the_best_signature_is_the_one_that_passes() -> None:
    results = ("neutral", "permerror", "fail", "temperror", "pass", "policy")
    of = tuple(Signature(f"{each}.example", "s", "", "", each) for each in results)
    answer = DkimAnswer(of, Author("fail.example"))
    assert answer.best().result == "pass"
    assert DkimAnswer(of[:4], Author()).best().result == "temperror"
    assert DkimAnswer(of[:3], Author()).best().result == "fail"
    assert answer.best("policy.example").result == "policy"
    assert answer.best("other.example").result == "none"
    assert answer.aligned().result == "fail"
    assert DkimAnswer((), Author()).best().result == "none"
    assert DkimAnswer(of, Author()).aligned().result == "none"
