"""Parameters and file names: each way to write them, well-formed or not, and how long it takes."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.protocol.mime.fields import described, kind_of, names, parameter, text_of


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("x; filename=a.exe", ("a.exe",)),
        ("x; FileName = a.exe ; y", ("a.exe",)),
        ('x; filename="a;b.exe"', ("a;b.exe",)),
        (r'x; filename="a\"b.exe"', ('a"b.exe',)),
        ('x; filename="a.exe', ("a.exe",)),
        ('x; filename="', ("",)),
        ("x; filename=", ("",)),
        ("x; filename", ()),
        ("filename=a.exe", ()),  # it stands where the value itself does
        ("x;; ;filename=a.exe", ("a.exe",)),
        ("x; filename=a.txt; filename=a.exe", ("a.txt", "a.exe")),
        ("x; filename*=utf-8'en'%e2%82%ac.exe", ("€.exe",)),
        ("x; filename*=iso-8859-1''%A4.exe", ("¤.exe",)),
        ("x; filename*=no-such-charset''%C3%A9.exe", ("é.exe",)),
        ("x; filename*=a%2Eexe", ("a.exe",)),
        ("x; filename*=utf-8''%zz.exe", ("%zz.exe",)),
        ("x; filename*=punycode''a.exe", ("a.exe",)),
        ("x; filename*0=a; filename*1=.exe", ("a.exe",)),
        ("x; filename*1=.exe; filename*0=a", ("a.exe",)),
        ("x; filename*0*=utf-8''%41; filename*1=%41; filename*2*=%41", ("A%41A",)),
        ("x; filename=a.txt; filename*=utf-8''a.exe", ("a.txt", "a.exe")),
        ("x; filename*=utf-8''a.txt; filename*0=a.exe", ("a.txt", "a.exe")),
        ("x; filename*99999999999999999999=a", ()),
        ("x; name=a.exe", ()),
    ],
)
def test_a_parameter_has_all_values_that_somebody_may_take_for_it(
    value: str, found: tuple[str, ...]
) -> None:
    assert parameter(value, "filename") == found


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"content-disposition": ("attachment; filename=a.exe",)}, ("a.exe",)),
        ({"content-disposition": ("x; filename=a",), "content-type": ("x/y; name=b",)}, ("a", "b")),
        ({"content-disposition": ("x; filename=a",), "content-type": ("x/y; name=a",)}, ("a",)),
        ({"content-disposition": ("x; filename=a", "x; filename=b")}, ("a", "b")),
        ({"content-type": ('x/y; name="=?utf-8?q?a=2Eexe?="',)}, ("a.exe",)),
        ({"content-type": ('x/y; name="=?x?q?a.?= =?utf-8?b?ZXhl?="',)}, ("a.exe",)),
        ({"content-type": ('x/y; name="=?utf-8?b?!?="',)}, ("=?utf-8?b?!?=",)),
        ({"content-type": ("x/y; name=a\0b\r.exe",)}, ("a b .exe",)),
        ({"content-type": ("x/y; name=a\u202egpj.exe",)}, ("a?gpj.exe",)),
        ({"content-type": ("x/y; name=\udcff.exe",)}, ("?.exe",)),
        ({"content-type": ("x/y; name=' '",)}, ("' '",)),
        ({"content-type": ('x/y; name=" "',)}, ()),
    ],
)
def test_names_are_fit_to_be_shown(
    fields: dict[str, tuple[str, ...]], found: tuple[str, ...]
) -> None:
    assert names(fields) == found
    assert described(fields, "text/plain") == ((*found, "text/plain") if found else ())


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("Text/HTML; charset=x", "text/html"),
        ("image/png", "image/png"),
        ("text", "text/plain"),
        ("a/b/c", "text/plain"),
        ("", "text/plain"),
    ],
)
def test_a_type_that_is_none_is_plain_text(value: str, kind: str) -> None:
    assert kind_of({"content-type": (value,)}) == kind


def test_a_part_without_a_type_has_its_containers_default() -> None:
    assert kind_of({}, "message/rfc822") == "message/rfc822"


LONG = 65_536


@pytest.mark.parametrize(
    "value",
    [
        'x; filename="' + ";" * LONG,
        'x;"' + '\\";' * (LONG // 3),
        "x" + ";" * LONG,
        "x" + ";a=b" * (LONG // 4),
        "x" + "".join(f";filename*{n}=b" for n in range(9999)),
        "x; filename=" + "=?utf-8?q?a?=" * (LONG // 13),
        "x; filename=" + "=?" * (LONG // 2),
        f"x; filename*=punycode''{'a' * LONG}",
        f"x; filename*=idna''{'a' * LONG}",
        "x; filename*" + "9" * LONG + "=b",
    ],
)
def test_a_long_field_is_read_in_a_moment(value: str) -> None:
    started = time.process_time()
    names({"content-disposition": (value,)})
    assert time.process_time() - started < 0.5


@given(st.text(st.characters(exclude_categories=[]), max_size=100))
def test_any_value_has_names_and_none_breaks_a_line(value: str) -> None:
    octets = value.encode("utf-8", "replace").decode("utf-8", "surrogateescape")
    for name in names({"content-disposition": (f"attachment; filename{octets}",)}):
        assert name.isprintable()


@given(st.binary(max_size=50), st.text(max_size=20))
def test_any_charset_decodes_anything(octets: bytes, charset: str) -> None:
    assert isinstance(text_of(octets, charset), str)
