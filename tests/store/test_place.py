"""The url of a state: its forms, what is wrong with others, and that no password is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.store.place import Kind, Place, PlaceError, StateSettings, read_place

FILE = "sqlite:/var/lib/policyd/state.sqlite"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("memory:", Place(Kind.MEMORY, "memory:")),
        (FILE, Place(Kind.SQLITE, FILE, path="/var/lib/policyd/state.sqlite")),
        ("sqlite:/a b?c#d@e", Place(Kind.SQLITE, "sqlite:/a b?c#d@e", path="/a b?c#d@e")),
        ("redis://localhost",
         Place(Kind.REDIS, "redis://localhost", hosts=(("localhost", 6379),))),
        ("redis://localhost/",
         Place(Kind.REDIS, "redis://localhost", hosts=(("localhost", 6379),))),
        ("redis://[2001:db8::1]:7000/15",
         Place(Kind.REDIS, "redis://[2001:db8::1]:7000/15", hosts=(("2001:db8::1", 7000),),
               database=15)),
        ("rediss://jo:p%40%2Fs@r.example.org/1",
         Place(Kind.REDIS, "rediss://r.example.org/1", tls=True, hosts=(("r.example.org", 6379),),
               database=1, username="jo", password="p@/s")),
        ("redis://:s:e@r", Place(Kind.REDIS, "redis://r", hosts=(("r", 6379),), password="s:e")),
        ("redis://jo@r", Place(Kind.REDIS, "redis://r", hosts=(("r", 6379),), username="jo")),
        ("redis+sentinel://:x@a,b:1,[::1]/mail-1.x/3",
         Place(Kind.SENTINEL, "redis+sentinel://a,b:1,[::1]/mail-1.x/3",
               hosts=(("a", 26379), ("b", 1), ("::1", 26379)), master="mail-1.x", database=3,
               password="x")),
        ("rediss+sentinel://a/m",
         Place(Kind.SENTINEL, "rediss+sentinel://a/m", tls=True, hosts=(("a", 26379),),
               master="m")),
        ("redis+cluster://10.0.0.1:7000,10.0.0.2",
         Place(Kind.CLUSTER, "redis+cluster://10.0.0.1:7000,10.0.0.2",
               hosts=(("10.0.0.1", 7000), ("10.0.0.2", 6379)))),
        ("rediss+cluster://a/",
         Place(Kind.CLUSTER, "rediss+cluster://a", tls=True, hosts=(("a", 6379),))),
    ],
)  # fmt: skip
def test_a_url_says_where_state_is(url: str, place: Place) -> None:
    assert read_place(url) == place


@pytest.mark.parametrize(
    ("url", "what", "mend"),
    [
        ("", "it is no place", "memory:"),
        ("memory", "it is no place", "memory:"),
        ("memory:x", "nothing after it", '"memory:"'),
        ("mysql://localhost/x", '"mysql:" is no place', "redis://"),
        ("redisss://localhost", '"redisss:" is no place', "rediss is redis with TLS"),
        ("SQLITE:/x", '"SQLITE:" is no place', "sqlite:/path"),
        ("sqlite:state.sqlite", "no file by an absolute path", "sqlite:/path"),
        ("sqlite:///var/lib/x", "no file by an absolute path", "sqlite:/path"),
        ("sqlite:/", "no file by an absolute path", "sqlite:/path"),
        ("sqlite:/var/", "no file by an absolute path", "sqlite:/path"),
        ("sqlite:/a\0b", "control characters", "sqlite:/path"),
        ("memory: ", "blanks at its ends", "memory:"),
        ("redis:localhost", "names no host", "redis://"),
        ("redis://", "names no host", "redis://"),
        ("redis:///0", "names no host", "redis://"),
        ("redis://:6379", "no name or address with a port", "host[:6379]"),
        ("redis://host:port", "no name or address with a port", "host[:6379]"),
        ("redis://[::1", "no name or address with a port", "host[:6379]"),
        ("redis://::1", "no name or address with a port", "host[:6379]"),
        ("redis://host:0", "0 is no port", "from 1 to 65535"),
        ("redis://host:65536", "65536 is no port", "from 1 to 65535"),
        ("redis://a,b", "redis: names 2 hosts", "redis+sentinel://"),
        ("rediss://a,b", "rediss: names 2 hosts", "rediss+cluster://"),
        ("redis://a/b", "the database is no number", "[/database]"),
        ("redis://a/-1", "the database is no number", "[/database]"),
        ("redis://a/0/1", "the database is no number", "[/database]"),
        ("redis://a?db=1", "stands where none can", "%3F"),
        ("redis://a#1", "stands where none can", "%23"),
        ("redis+sentinel://a", "names no master", "host…/master"),
        ("redis+sentinel://a/", "names no master", "host…/master"),
        ("redis+sentinel://a/m n", "names no master", "host…/master"),
        ("redis+sentinel://a,/m", "names no host", "redis+sentinel://"),
        ("redis+cluster://a/0", "has no databases", "redis+cluster://"),
    ],
)
def test_a_url_of_no_known_form_is_refused_with_the_mend(url: str, what: str, mend: str) -> None:
    with pytest.raises(PlaceError) as caught:
        read_place(url)
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@",
        "redsi://:hunter2@host",
        "redis://:hunter2/hunter2@host",
        "redis://jo:hunter2@b@host",
        "redis://jo:hunter2?@host",
        "redis://jo:hunter2",
        "redis://:hunter2@host:x",
        "redis+sentinel://:hunter2@host",
        "redis+cluster://:hunter2@host/1",
        "hunter2:jo@host",
        "redis:hunter2@host",
        "redis://:hunter2@a,b",
        "redis://:hunter2@host:99999",
    ],
)
def test_what_is_wrong_is_told_without_the_password(url: str) -> None:
    with pytest.raises(PlaceError) as caught:
        read_place(url)
    assert "hunter2" not in str(caught.value)


def test_a_place_shows_no_password() -> None:
    place = read_place("redis://jo:hunter2@host/1")
    assert repr(place) == "Place('redis://host/1')"
    assert "hunter2" not in f"{place}{place.url}"


def test_settings_show_no_password() -> None:
    given = StateSettings("redis://host/1", username="jo", password="hunter2")
    assert repr(given) == "StateSettings('redis://host/1')"
    assert repr(StateSettings("redis://jo:hunter2@host/1")) == repr(given)


@given(st.text(), st.sampled_from(["", "redis://", "redis+sentinel://a,", "redis+cluster://"]))
def test_any_text_is_a_place_or_refused_and_its_url_is_the_same_place(text: str, form: str) -> None:
    try:
        place = read_place(form + text)
    except PlaceError:
        return
    again = read_place(place.url)
    assert (again.kind, again.hosts, again.path) == (place.kind, place.hosts, place.path)
    assert (again.username, again.password) == ("", "")
