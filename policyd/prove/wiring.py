"""The lines of main.cf that bring Postfix to ask what the configuration decides."""

from collections.abc import Mapping, Sequence
from typing import Final

from policyd.rules import nodes
from policyd.rules.policy import AT_RCPT, Policy
from policyd.smtp.stage import FrontEnd, Stage

_OWN_LISTS: Final[Mapping[Stage, str]] = {
    Stage.DATA: "smtpd_data_restrictions",
    Stage.END_OF_DATA: "smtpd_end_of_data_restrictions",
    Stage.ETRN: "smtpd_etrn_restrictions",
}
_QUEUE: Final = "/var/spool/postfix/"


def main_cf(policy: Policy, service: Sequence[str], milter: Sequence[str]) -> tuple[str, ...]:
    """
    Give the lines for each stage that has rules, by the front ends' endpoints.

    One service in smtpd_recipient_restrictions is enough for connect to rcpt and for vrfy. The
    end of data is asked for as well where something that was reserved is settled there.
    """
    lines: list[str] = []
    ruled = dict.fromkeys(rule.stage for rule in policy.rules)
    if policy.reserving and Stage.END_OF_DATA in policy.owners:
        ruled[Stage.END_OF_DATA] = None
    decided = [stage for stage in ruled if policy.owners[stage] is FrontEnd.POLICY]
    if service and decided:
        asked = f"check_policy_service {in_queue(service[0])}"
        if set(decided) & {*AT_RCPT, Stage.VRFY}:
            lines += [
                "smtpd_recipient_restrictions =",
                "    reject_unlisted_recipient,",
                f"    {asked}",
            ]
        lines += [f"{name} = {asked}" for stage, name in _OWN_LISTS.items() if stage in decided]
        lines.append("smtpd_policy_service_default_action = 451 4.3.5 Policy service unavailable")
    if milter and len(decided) < len(ruled):
        lines += [
            f"smtpd_milters = {in_queue(milter[0])}",
            "non_smtpd_milters = $smtpd_milters",
            "milter_default_action = tempfail",
        ]
    return tuple(lines)


def settling(policy: Policy) -> str:
    """Say when limits and successes of clients count; empty if no rule reserves anything."""
    asks = any(
        call.site is not None
        for rule in policy.rules
        if rule.condition is not None
        for call in nodes.calls_of(rule.condition)
    )
    if not asks:
        return ""
    owner = policy.owners.get(Stage.END_OF_DATA)
    if owner is None:
        return (
            "limits count when they are asked: no front end decides end-of-data, "
            "so what is refused later or abandoned counts too"
        )
    if owner is FrontEnd.MILTER:
        return (
            "limits are reserved when they are asked and settled at end-of-data by the milter: "
            "what is refused or abandoned does not count"
        )
    return (
        "limits are reserved when they are asked and settled at end-of-data, where "
        "smtpd_end_of_data_restrictions has to ask: what is refused does not count; what is "
        "abandoned does, since Postfix tells only a milter of it"
    )


def in_queue(endpoint: str) -> str:
    """Name a unix socket as Postfix sees it: by its path from the queue directory, its chroot."""
    return endpoint.replace(f"unix:{_QUEUE}", "unix:/", 1)
