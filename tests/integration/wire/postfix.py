"""The Postfix of the matrix: an smtpd(8) service for each wiring and smtpd_delay_reject."""

from collections.abc import Mapping
from pathlib import Path

from policyd.smtp.stage import RestrictionList, Stage
from tests.integration.wire.cells import DOMAIN, HOSTNAME, Wiring, service_name
from tools.postfix_instance import PostfixInstance

_STAGES: Mapping[RestrictionList, Stage] = {
    RestrictionList.CLIENT: Stage.CONNECT,
    RestrictionList.HELO: Stage.HELO,
    RestrictionList.SENDER: Stage.MAIL,
    RestrictionList.RECIPIENT: Stage.RCPT,
    RestrictionList.DATA: Stage.DATA,
    RestrictionList.END_OF_DATA: Stage.END_OF_DATA,
    RestrictionList.ETRN: Stage.ETRN,
}


def instance(
    directory: Path, *, policy: str, milter: str, main: Mapping[str, str] | None = None
) -> PostfixInstance:
    """Set up a Postfix that asks `policy` and `milter`, endpoints in Postfix's notation."""
    services = {}
    for delay_reject in (True, False):
        delay = {"smtpd_delay_reject": "yes" if delay_reject else "no"}
        for wiring, parameters in (
            (Wiring.ONE_LINE, _one_line(policy)),
            (Wiring.A_LINE_A_LIST, _a_line_a_list(policy)),
            (Wiring.MILTER, {"smtpd_milters": milter}),
        ):
            services[service_name(wiring, delay_reject=delay_reject)] = delay | parameters
    return PostfixInstance(
        directory, services=services, hostname=HOSTNAME, main=main, mailboxes=(f"@{DOMAIN}",)
    )


def _one_line(policy: str) -> dict[str, str]:
    asks = f"check_policy_service {policy}"
    return {
        "smtpd_recipient_restrictions": asks,
        "smtpd_data_restrictions": asks,
        "smtpd_end_of_data_restrictions": asks,
        "smtpd_etrn_restrictions": asks,
    }


def _a_line_a_list(policy: str) -> dict[str, str]:
    lists = {}
    for restriction, stage in _STAGES.items():
        context = f"policy_context=stage={stage};list={restriction}"
        name = f"smtpd_{restriction.replace('-', '_')}_restrictions"
        lists[name] = f"check_policy_service {{ {policy}, {context} }}"
    return lists
