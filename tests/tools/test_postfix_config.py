"""The private Postfix's configuration files say what they are told to, in Postfix's syntax."""

import pytest

from tools import postfix_config


def test_a_value_over_several_lines_becomes_one() -> None:
    value = """
        check_client_access texthash:/x,
          reject  two blanks
    """

    assert postfix_config.one_line(value) == "check_client_access texthash:/x, reject  two blanks"


def test_each_service_has_its_port_and_its_parameters() -> None:
    services = {"one": {}, "two": {"smtpd_banner": "a b", "syslog_name": "x"}}

    text = postfix_config.master_cf({"one": 11, "two": 12}, services)

    assert text.startswith(
        "127.0.0.1:11 inet n - n - - smtpd\n"
        "  -o { syslog_name = postfix/one }\n"
        "127.0.0.1:12 inet n - n - - smtpd\n"
        "  -o { syslog_name = x }\n"
        "  -o { smtpd_banner = a b }\n"
        "pickup "
    )


@pytest.mark.parametrize("value", ["{", "}", "}{", "{ { }"])
def test_unbalanced_braces_cannot_stand_in_a_service(value: str) -> None:
    with pytest.raises(ValueError, match="smtpd_banner: unbalanced braces"):
        postfix_config.master_cf({"a": 1}, {"a": {"smtpd_banner": value}})


def test_the_domains_of_the_mailboxes_are_received() -> None:
    table = postfix_config.mailbox_table(["@b.test", "user@a.test"])

    assert table == "@b.test @b.test/\nuser@a.test user@a.test/\n"
    assert postfix_config.domain("user@a.test") == "a.test"
