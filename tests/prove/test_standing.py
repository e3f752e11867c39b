"""What entries say to a postmaster: whom they are about, and what it takes to pass."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.greylist import SHADOW, GreylistSettings
from policyd.checks.limits import Limit, Override, key_of
from policyd.checks.rate import Unit
from policyd.prove.standing import (
    NoClientError,
    Spending,
    client_of,
    client_outlook,
    concerns,
    mentions,
    sought,
    spending,
    triplet_outlook,
)
from policyd.store.account import charged
from policyd.store.model import Account, Charge, Client, Entry, Terms, Triplet, account_name

NOW = 1_700_000_000_000
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
SETTINGS = GreylistSettings()
TERMS = Terms()

TRIPLET = Triplet(
    "192.0.2.0/24", "bounce-#@example.net", "jo+a@example.org", NOW, NOW, False, NOW + 2 * DAY
)
CLIENT = Client("example.net", 2, allowed=False, last=NOW, expires=NOW + 35 * DAY)


def account(limit: str, *key: str, shadow: bool = False) -> Account:
    return Account(account_name(limit, key_of(key), shadow=shadow), HOUR, {}, 0.0, NOW, NOW + DAY)


# who a client is


@pytest.mark.parametrize(
    ("text", "client"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:DB8::1", "2001:db8::/64"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("Mail.Example.NET.", "example.net"),
        ("example.net", "example.net"),
        ("mail.bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_a_client_is_known_as_the_check_knows_it(text: str, client: str) -> None:
    assert client_of(text, SETTINGS) == client


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("jo@example.net", "'jo@example.net' is no address, and no host or domain of a provider"),
        ("co.uk", "'co.uk' is no address, and no host or domain of a provider"),
        ("localhost", "'localhost' is no address, and no host or domain of a provider"),
        ("192.0.2.1/24", "192.0.2.1/24 has host bits set"),
        (
            "192.0.2.0/25",
            (
                "greylisting knows networks of /24 ([greylist] client_prefix), not /25; write a "
                "rule for others: client_address in '192.0.2.0/25'"
            ),
        ),
    ],
)
def test_what_is_no_client_is_refused(text: str, why: str) -> None:
    with pytest.raises(NoClientError) as raised:
        client_of(text, SETTINGS)
    assert str(raised.value) == why


def test_a_client_goes_by_the_configured_prefixes() -> None:
    wide = GreylistSettings(ipv4=16, ipv6=48)
    assert client_of("192.0.2.77", wide) == "192.0.0.0/16"
    assert client_of("2001:db8:1:2::3", wide) == "2001:db8:1::/48"


# whom an entry is about

SHADOWED = msgspec.structs.replace(CLIENT, client=SHADOW + "example.net")
NULL = msgspec.structs.replace(TRIPLET, sender="")
BARE = msgspec.structs.replace(TRIPLET, sender="#", client="198.51.100.0/24")


@pytest.mark.parametrize(
    ("entry", "texts"),
    [
        (
            TRIPLET,
            (
                "192.0.2.9",
                "192.0.2.0/24",
                "bounce-17@example.net",
                "bounce-#@EXAMPLE.net",
                "JO+a@example.org",
            ),
        ),
        (NULL, ("<>",)),
        (CLIENT, ("example.net", "mail.example.net")),
        (SHADOWED, ("example.net",)),
        (account("per_login", "jo@example.org"), ("jo@example.org", "Jo@Example.org")),
        (account("per_login", "jo", shadow=True), ("jo",)),
        (account("pair", "jo", "192.0.2.9"), ("jo", "192.0.2.9")),
        (account("per_client", "2001:db8::1"), ("2001:db8::1", "2001:0DB8::0:1")),
    ],
)
def test_an_entry_is_of_whom_it_names(entry: Entry, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert concerns(entry, sought(text, SETTINGS)), text


@pytest.mark.parametrize(
    ("entry", "texts"),
    [
        (TRIPLET, ("192.0.3.9", "example.net", "jo@example.org", "jo+a", "<>", "192.0.2.0/25")),
        (CLIENT, ("example.com", "net", "xample.net")),
        (account("per_login", "jo@example.org"), ("jo", "per_login", "example.org")),
        (account("per_login", "joe"), ("jo", "<>")),
        (BARE, ("192.0.2.7", "42")),
    ],
)
def test_an_entry_is_of_nobody_that_it_names_in_part(entry: Entry, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert not concerns(entry, sought(text, SETTINGS)), text


@given(st.text(min_size=1))
def test_whatever_somebody_looks_for_is_found_under_its_own_key(text: str) -> None:
    assert concerns(account("any", text), sought(text, SETTINGS))


def test_a_text_is_found_anywhere_in_any_key() -> None:
    assert mentions(TRIPLET, "EXAMPLE.org")
    assert mentions(TRIPLET, "2.0/2")
    assert mentions(CLIENT, "ample")
    assert mentions(account("per_login", "jo"), "login")
    assert not mentions(TRIPLET, "example.com")


# what it takes


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (NOW, "a retry passes in 5m; forgotten in 2d"),
        (NOW + 2 * MINUTE, "a retry passes in 3m; forgotten in 2d"),
        (NOW + 5 * MINUTE, "a retry passes now; forgotten in 2d"),
    ],
)
def test_a_triplet_that_waits_says_how_long(at: int, says: str) -> None:
    assert triplet_outlook(TRIPLET, TERMS, at) == says


def test_a_triplet_that_passed_passes() -> None:
    passed = msgspec.structs.replace(TRIPLET, passed=True)
    assert triplet_outlook(passed, TERMS, NOW) == "passes; forgotten in 2d unless it is seen"


@pytest.mark.parametrize(
    ("changes", "terms", "says"),
    [
        ({}, TERMS, "greylisted until 3 more of its messages passed; forgotten in 35d"),
        (
            {"successes": 9},
            TERMS,
            "greylisted until 1 more of its messages passed; forgotten in 35d",
        ),
        ({}, Terms(auto_allow_after=0), "greylisted; forgotten in 35d"),
        ({"allowed": True}, TERMS, "not greylisted; forgotten in 35d unless it is seen"),
        ({"allowed": True, "by_hand": True}, TERMS, "never greylisted: allowed by hand"),
        (
            {"allowed": True, "last": NOW + DAY, "expires": NOW + DAY},
            TERMS,
            "not greylisted for 1d: allowed by hand",
        ),
    ],
)
def test_a_client_says_whether_it_waits(
    changes: dict[str, object], terms: Terms, says: str
) -> None:
    client = msgspec.structs.replace(CLIENT, **changes)
    assert client_outlook(client, terms, NOW) == says


PER_LOGIN = Limit(
    "per_login",
    Unit.RECIPIENTS,
    500,
    HOUR,
    overrides={"list": Override(1000), "free": Override()},
    key=("sasl_username",),
)
PAIR = Limit("pair", Unit.MESSAGES, 2, HOUR, key=("sasl_username", "client_address"))
LIMITS = {"per_login": PER_LOGIN, "pair": PAIR}


def spent(limit: Limit, amount: int, *key: str, shadow: bool = False) -> Account:
    name = account_name(limit.name, key_of(key), shadow=shadow)
    return charged(None, Charge(limit.name, name, amount, limit.most, limit.window), NOW)


def test_what_is_spent_stands_beside_the_configured_rate() -> None:
    found = spending(spent(PER_LOGIN, 12, "jo"), LIMITS, NOW)
    assert found == Spending("per_login", "jo", False, 12, "500 recipients per 1h")
    assert found.outlook == "admitted"


def test_what_is_exceeded_says_when_it_is_admitted_again() -> None:
    found = spending(spent(PER_LOGIN, 500, "jo"), LIMITS, NOW)
    assert found.waits > 0
    assert found.outlook.startswith("exceeded; retry after 1h")


def test_what_has_left_the_window_is_not_spent() -> None:
    assert spending(spent(PER_LOGIN, 500, "jo"), LIMITS, NOW + 2 * HOUR).used == 0


def test_a_key_may_have_a_rate_of_its_own_or_none() -> None:
    assert spending(spent(PER_LOGIN, 600, "list"), LIMITS, NOW).rate == "1000 recipients per 1h"
    free = spending(spent(PER_LOGIN, 600, "free"), LIMITS, NOW)
    assert (free.rate, free.outlook) == ("without limit", "admitted")


def test_the_parts_of_a_key_and_the_shadow_are_told_apart() -> None:
    assert spending(spent(PAIR, 1, "jo", "shadow"), LIMITS, NOW).shadow is False
    both = spending(spent(PAIR, 1, "jo", "192.0.2.9", shadow=True), LIMITS, NOW)
    assert (both.key, both.shadow) == ("jo 192.0.2.9", True)
    one = spending(spent(PER_LOGIN, 1, "shadow"), LIMITS, NOW)
    assert (one.key, one.shadow) == ("shadow", False)
    assert spending(spent(PER_LOGIN, 1, "shadow", shadow=True), LIMITS, NOW).shadow is True


def test_a_limit_that_is_configured_no_more_shows_what_was_spent() -> None:
    found = spending(spent(PER_LOGIN, 7, "jo", shadow=True), {}, NOW)
    assert found == Spending("per_login", "jo", True, 7)
    assert found.outlook == "no such limit in the configuration"
