"""
passphrase('WORD'): whether the message holds a word that is agreed upon. Asked in a process.

It may take its time and use any library: nobody waits for it but the message that it is about.
"""

from collections.abc import Mapping

from policyd.checks.interface import Answer, Check, CheckFailedError, Counting, Message
from policyd.facts.table import FactType

WORDS = Counting(
    "policyd_check_passphrase_words_total", "Words looked at.", ("place",), (("header",), ("body",))
)


def ask(facts: Mapping[str, object], word: str) -> Answer:
    """Look for the word, first in the headers, then in the body."""
    message: Message = facts["message"]  # type: ignore[assignment]  # it is what `needs` names
    if not word:
        raise CheckFailedError("an empty word is everywhere")
    headers, _, body = message.read().partition(b"\r\n\r\n")
    counts = (
        (WORDS, ("header",), float(len(headers.split()))),
        (WORDS, ("body",), float(len(body.split()))),
    )
    for place, text in (("header", headers), ("body", body)):
        if word.encode() in text:
            return Answer(True, place, {"passphrase_place": place}, counts)
    return Answer(False, "nowhere", counts=counts)


check = Check(
    "passphrase",
    ask,
    parameters=(FactType.TEXT,),
    needs=("message",),
    results=("header", "body", "nowhere"),
    values={"passphrase_place": "where the word stands: header or body"},
    says="the message holds a word that is agreed upon",
    countings=(WORDS,),
    limit=2.0,
)
