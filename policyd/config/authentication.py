"""From `[authentication]` to what a policy is to write above messages."""

from collections.abc import Mapping

from policyd.config.model import Config
from policyd.mail.stamping import Stamping
from policyd.smtp.stage import FrontEnd, Stage


def stamping_of(config: Config, owners: Mapping[Stage, FrontEnd]) -> Stamping | None:
    """Give what the milter is to write; None without the table, or without a milter to do it."""
    table = config.authentication
    if table is None or owners.get(Stage.END_OF_DATA) is not FrontEnd.MILTER:
        return None
    return Stamping(table.authserv_id, table.results, table.received_spf, table.skip_logins)
