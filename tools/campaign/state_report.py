"""The document's sections on state: what befalls the store, and how exact it is. Pure."""

from typing import Final

from tools.campaign.state_results import BACK, LONGEST, Exactness, Faults
from tools.campaign.tables import judgement, table


def faults(result: Faults) -> str:
    """Write the section on what befalls the store."""
    rows = [
        (
            one.store,
            one.fault,
            one.times,
            one.asked,
            one.lost,
            one.otherwise,
            one.fallbacks,
            one.counted,
            f"{one.longest:,.0f} ({one.lag:,.0f})",
            f"{one.noticed:.1f}" if one.noticed >= 0 else "",
            f"{one.back:.1f}",
        )
        for one in result.suffered
    ]
    head = (
        *("store", "what befell it", "times", "requests", "unanswered", "otherwise"),
        *("by on_error", "counted", "longest ms (own timer)", "shown after s", "normal after s"),
    )
    return "\n\n".join(
        [
            "## The store fails\n\n`python -m tools.campaign faults --write`",
            (
                f"{result.connections} connections that together ask {result.rate} times a second."
                f" {judgement(list(result.bars()))}"
            ),
            table(head, rows),
            _FAULTS_NOTES.format(longest=LONGEST, back=BACK),
        ]
    )


def exactness(result: Exactness) -> str:
    """Write the section on limits and triplets that many ask about at once."""
    rows = [
        (
            one.store,
            one.what,
            one.killed,
            one.lost,
            one.asked,
            one.may,
            one.admitted,
            one.kept if one.kept >= 0 else "",
            one.changed,
            one.rate,
        )
        for one in result.found
    ]
    head = (
        *("store", "what", "workers killed", "connections lost", "requests", "may pass"),
        *("passed", "charged", "otherwise afterwards", "requests/s"),
    )
    return "\n\n".join(
        [
            "## Exactly so many\n\n`python -m tools.campaign exactness --write`",
            (
                f"{result.workers} workers, {result.connections} connections that ask at once."
                f" {judgement(list(result.bars()))}"
            ),
            table(head, rows),
            _EXACTNESS_NOTES,
        ]
    )


_FAULTS_NOTES: Final = """\
A quarter of the requests each: a first attempt, greylisted by the store and let pass by on_error
(`skip`); a message of a login, under its limit by the store and `451 4.3.0` by on_error; that
message's end; one that needs no store. **otherwise**: an answer that is neither. **by on_error**:
what clients were answered so, beside policyd_dependency_fallbacks_total (**counted**). **shown
after**: until policyd_dependency_up was 0, where it was. **normal after**: from the store's return
(the server answers, a replica is promoted, the lock is let go, there is room, the file is moved
away) to the last answer by on_error. The most of all times. The bars: nothing unanswered or
otherwise, {longest:g} s for the longest wait, {back:g} s to normal service."""

_EXACTNESS_NOTES: Final = """\
A limit: twice as many messages of a login as it may send; all are asked about once more when all
have their answer (**otherwise afterwards**: those that got another), and **charged** is what the
store itself says then. A triplet: many attempts, none of which may pass, and as many when its
delay is over. Killed (SIGKILL) are workers in the midst of that; what was on their connections is
asked again, as Postfix does, and so is what the store did not answer in time."""
