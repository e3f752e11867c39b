"""Limits for tests, and logins to whom they apply."""

import contextlib
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.integration.changing import rule
from tests.integration.remembering import Remembering, arriving, send, spent
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply, SmtpDialogue

SAYS: Final = "450 4.7.1 {limit}, {used} used, come back in {retry_after}"
OVERRIDES: Final = "m-more@policyd.test 5\nm-free@policyd.test unlimited\n"
"""Which of the limit `messages` some logins have."""


def limit(name: str, rate: str, key: str = "sasl_username") -> str:
    return f'[limits.{name}]\nkey = "{key}"\nrate = "{rate}"\n'


def of(prefix: str) -> str:
    """Give the condition on logins of a prefix: each has rules of its own."""
    return f"matches(sasl_username, '^{prefix}-')"


LIMITS: Final = (
    limit("messages", "3 messages per 1h")
    + 'overrides_file = "overrides.txt"\n'
    + limit("recipients", "4 recipients per 1h")
    + limit("many", "1000 messages per 1h")
    + limit("many_recipients", "5000 recipients per 1h")
    + limit("clients", "2 messages per 1h", "client_address")
)
RULES: Final = (
    rule("messages", SAYS, f"{of('m')} and exceeds('messages')")
    + rule("recipients", SAYS, f"{of('r')} and exceeds('recipients')")
    + rule("pair", SAYS, f"{of('p')} and exceeds('messages', 'recipients')")
    + rule("crowd", SAYS, f"{of('c')} and exceeds('many', 'many_recipients')")
    + rule("at-rcpt", SAYS, f"{of('t')} and exceeds('messages')")
    + rule("at-data", SAYS, f"{of('t')} and exceeds('messages')", stage="data")
    + rule("try-out", SAYS, f"{of('s')} and exceeds('messages')")
    + 'mode = "shadow"\n'
    + rule("enforced", SAYS, f"{of('s')} and exceeds('messages')")
    + rule("many", "550 5.5.3 Too many", "recipient_count > 4", stage="data")
    + rule("client", SAYS, "service == 'grey' and exceeds('clients')")
    + rule("grey", "greylisted", "service == 'grey' and greylisted()")
)
AT_THE_END: Final = (
    limit("bytes", "20 kB per 1h")
    + rule("big", "552 5.3.4 Too big", "size > '30 KiB'", stage="end-of-data")
    + rule("few", "554 5.7.1 No", "sender_local == 'few' and recipient_count == 1", "end-of-data")
    + rule("bytes", SAYS, f"{of('b')} and exceeds('bytes')", stage="end-of-data")
)
WHOLE: Final = b"From: a@x.test\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-Id: <1@x.test>\n\n"
"""With all headers that cleanup(8) would else add for some clients, and show to the milter."""
BIG: Final = b"Subject: x\n\n" + b"0123456789\n" * 3_000
SMALL: Final = b"Subject: x\n\nHello\n"
LATE: Final = "late@policyd.test"
"""A recipient that Postfix rejects after policyd has had no objection."""


class Login:
    """Somebody who has logged in to a service, under a name of their own."""

    def __init__(
        self, postfix: PostfixInstance, policyd: Remembering, service: str, name: str
    ) -> None:
        self._postfix = postfix
        self._policyd = policyd
        self._service = service
        self._name = name

    def session(self) -> contextlib.AbstractContextManager[SmtpDialogue]:
        """Open a session."""
        return arriving(self._postfix, self._service, login=self._name)

    def send(self, *recipients: str, message: bytes = SMALL) -> Reply:
        """Send a message in a session of its own."""
        with self.session() as client:
            return send(client, "a@x.test", *(recipients or ("b@policyd.test",)), message=message)

    def spent(self, limit: str, *, shadow: bool = False) -> int:
        """Tell what the account holds."""
        return spent(self._policyd, limit, self._name, shadow=shadow)


class Crowd:
    """Sessions of one login, all at once, whose messages end in every way by turns."""

    sessions = 16
    messages = 12
    """Of each session; its last breaks off."""

    def __init__(self, login: Login, ways: Sequence[str]) -> None:
        self._login = login
        self._ways = ways

    def come(self) -> tuple[int, int]:
        """Send everything; how many messages were accepted, and recipients of them."""
        with ThreadPoolExecutor(self.sessions) as pool:
            accepted = [
                each for found in pool.map(self._session, range(self.sessions)) for each in found
            ]
        return len(accepted), sum(accepted)

    def _session(self, number: int) -> list[int]:
        choose = random.Random(number)
        accepted = []
        with self._login.session() as client:
            for _ in range(self.messages):
                way = choose.choice(self._ways)
                count = choose.randrange(1, 5)
                client.mail("a@x.test")
                for index in range(count):
                    assert client.rcpt(f"{index}@policyd.test").code == 250
                    if choose.random() < 0.2:
                        assert client.rcpt(LATE).code == 554
                if way == "RSET":
                    client.rset()
                    continue
                assert client.data().code == 354, client.show()
                reply = client.body(BIG if way == "refused" else SMALL)
                assert reply.code == (552 if way == "refused" else 250)
                if way == "accepted":
                    accepted.append(count)
                else:
                    client.rset()  # smtpd(8) does not forget what its end-of-data list refused
            if "RSET" in self._ways:
                client.mail("a@x.test")
                client.rcpt("b@policyd.test")
        return accepted
