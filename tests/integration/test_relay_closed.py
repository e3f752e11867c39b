"""However the rules read and whatever list asks, policyd opens no relay and loses no recipient."""

from collections.abc import Callable, Iterator

import pytest

from policyd.smtp.stage import Stage
from tools.policyd_process import PolicydProcess, free_port
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import SmtpDialogue

pytestmark = pytest.mark.integration

VERBS = {
    "accept": "accept",
    "pass": "pass",
    "score": "score -1000",
    "warn": "warn looks fine",
    "prepend": "prepend X-Seen: yes",
    "hold": "hold look",
    "discard": "discard",
    "redirect": "redirect inside@policyd.test",
    "bcc": "bcc inside@policyd.test",
    "filter": "filter discard:nowhere",
    "if_permitted": "if_permitted 450 4.7.1 later",
    "template": "warn OK permit {client_name}",
}
LISTS = ("client", "helo", "sender", "relay", "recipient")
STAGES = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)


def _rules() -> str:
    """One rule for each verb at each stage, chosen by the client's address: 127.8.STAGE.VERB."""
    rules = []
    for i, stage in enumerate(STAGES):
        for j, (name, then) in enumerate(VERBS.items()):
            rules.append(
                f"[[rule]]\nname = '{stage}-{name}'\nstage = '{stage}'\n"
                f"when = \"client_address == '127.8.{i}.{j + 1}'\"\nthen = '{then}'\n"
                + ("whole_message = true\n" if name in WHOLE and stage is Stage.RCPT else "")
            )
    return "\n".join(rules)


WHOLE = ("hold", "discard", "redirect", "bcc", "filter")


@pytest.fixture(scope="module")
def wired(
    tmp_path_factory: pytest.TempPathFactory, postfix_factory: Callable[..., PostfixInstance]
) -> Iterator[tuple[PostfixInstance, PolicydProcess]]:
    port, metrics = free_port(), f"127.0.0.1:{free_port()}"
    service = f"check_policy_service inet:127.0.0.1:{port}"
    configuration = tmp_path_factory.mktemp("relay") / "policyd.toml"
    configuration.write_text(
        f"[policy_service]\nlisten = ['inet:127.0.0.1:{port}']\n"
        f"[metrics]\nlisten = '{metrics}'\n{_rules()}"
    )
    guarded = dict.fromkeys(LISTS, service)
    guarded["relay"] = f"{service}, reject_unauth_destination"
    guarded["recipient"] = f"{service}, reject_unauth_destination"
    services = {
        f"{which}-{delay}": {
            f"smtpd_{which}_restrictions": guarded[which],
            "smtpd_delay_reject": delay,
            "smtpd_relay_before_recipient_restrictions": "no",
            **(
                {"smtpd_relay_restrictions": "reject_unauth_destination"}
                if which != "relay"
                else {}
            ),
        }
        for which in LISTS
        for delay in ("yes", "no")
    }
    # with relay control in the recipient list alone, nothing but ours stands before it
    services["alone"] = {
        "smtpd_relay_restrictions": "",
        "smtpd_recipient_restrictions": guarded["recipient"],
    }
    main = {"default_transport": "error:relayed", "relay_domains": ""}
    with PolicydProcess(configuration, metrics) as process:
        yield postfix_factory(services=services, main=main), process


@pytest.mark.parametrize("service", [f"{w}-{d}" for w in LISTS for d in ("yes", "no")] + ["alone"])
def test_no_verb_in_any_list_opens_a_relay(
    wired: tuple[PostfixInstance, PolicydProcess], service: str
) -> None:
    postfix, policyd = wired
    before = len(policyd.decisions())
    for i in range(len(STAGES)):
        for j, verb in enumerate(VERBS):
            source = f"127.8.{i}.{j + 1}"
            with SmtpDialogue(postfix.ports[service], "127.0.0.1", source=source) as smtp:
                smtp.banner()
                smtp.ehlo("client.example")
                smtp.mail("s@example.net")
                reply = smtp.rcpt("victim@elsewhere.example")
                # a discarded message is claimed to be delivered (access(5)), and goes nowhere
                discarded = verb == "discard" and reply.code == 250
                assert discarded or reply.code // 100 in (4, 5), (source, smtp.show())
    asked = policyd.decisions()[before:]
    assert len(asked) >= len(STAGES) * len(VERBS)
    assert {decision["rule"].partition("-")[2] for decision in asked if "rule" in decision}
