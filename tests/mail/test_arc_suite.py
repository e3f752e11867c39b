"""The validation cases of the published ARC test suite (ValiMail's), all of them."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.mail.signed import VECTORS, chained

ALREADY_FAILED = {"cv_fail_i1_as_cv_fail", "cv_fail_i2_as2_fail", "cv_fail_i2_as1_fail"}
"""
A seal that says cv=fail: the suite has no word for these chains, which nobody may seal again. RFC
8617 section 5.2 has come since, and calls them failed.
"""


def cases() -> Iterator[Any]:
    with (VECTORS / "arc-validation-tests.yml").open() as file:
        for part in yaml.safe_load_all(file):
            for name, case in part["tests"].items():
                yield pytest.param(name, case, part["txt-records"], id=name)


CASES = list(cases())


def test_the_suite_has_all_its_cases() -> None:
    assert len(CASES) == 171


@pytest.mark.parametrize(("name", "case", "records"), CASES)
def test_a_chain_of_the_suite(name: str, case: dict[str, str], records: dict[str, str]) -> None:
    message = case["message"].encode().replace(b"\n", b"\r\n")
    expected = (case["cv"] or "").strip().lower()
    if name in ALREADY_FAILED:
        assert expected == ""
        expected = "fail"
    assert chained(message, records).result == expected
