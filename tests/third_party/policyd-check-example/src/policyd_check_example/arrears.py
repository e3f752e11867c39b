"""
arrears(): for how many days the customer who is logged in has owed something. Asked on the loop.

It only waits, for a service of the site's at the address in ARREARS_SERVICE: it is sent a line with
the login, and answers a line with a number of days.
"""

import asyncio
import os
from collections.abc import Mapping

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.facts.table import FactType


async def ask(facts: Mapping[str, object]) -> Answer:
    """Ask the service; without a login nobody owes anything."""
    login = str(facts["sasl_username"])
    if not login:
        return Answer(0, "paid")
    host, _, port = os.environ.get("ARREARS_SERVICE", "127.0.0.1:9").rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"{login}\n".encode())
            days = int(await reader.readline())
        finally:
            writer.close()
    except (OSError, ValueError) as error:
        raise CheckFailedError(f"the service for arrears: {error}") from error
    return Answer(days, "owing" if days else "paid", {"arrears_days": str(days)})


check = Check(
    "arrears",
    ask,
    needs=("sasl_username",),
    result=FactType.NUMBER,
    results=("paid", "owing"),
    remote=True,
    on_error="451 4.3.5 Try again later",
    values={"arrears_days": "for how many days something has been owed"},
    says="for how many days the customer has owed something",
    limit=1.0,
)
