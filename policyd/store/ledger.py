"""
The operations of a store over a book: what memory and SQLite have in common.

A book is looked up and written to within one transaction, so nothing here waits or is interrupted.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from policyd.store import account as accounts
from policyd.store import greylist
from policyd.store.model import (
    SETTLED_WITHIN,
    SHADOW,
    Account,
    Charge,
    Client,
    Credit,
    Entry,
    GreylistAsk,
    GreylistFound,
    Message,
    Standing,
    Triplet,
)


class Reserved(msgspec.Struct, frozen=True, array_like=True):
    """A charge that a message has paid: where, when, how much, and under which rate."""

    limit: str
    account: str
    mark: str
    window: int
    at: int
    amount: int
    most: int
    settles: bool


class Record(msgspec.Struct, frozen=True):
    """
    What one message has reserved since `at`; `spent` once it was settled as accepted.

    `credits` are successes to count, or of a spent message those that were counted.
    """

    instance: str
    at: int
    reserved: tuple[Reserved, ...] = ()
    credits: tuple[Credit, ...] = ()
    spent: bool = False

    @property
    def expires(self) -> int:
        """When it is forgotten; what is not settled by then counts as spent."""
        return self.at + SETTLED_WITHIN

    @property
    def unsettled(self) -> frozenset[str]:
        """The limits of which it holds reservations that were to be settled."""
        return frozenset() if self.spent else frozenset(r.limit for r in self.reserved if r.settles)


_T = TypeVar("_T", Triplet, Client, Account, Record)


class Book(Protocol):
    """What there is, by its keys; what has expired may still be found."""

    def triplet(self, client: str, sender: str, recipient: str) -> Triplet | None:
        """Look a triplet up."""
        ...

    def write_triplet(self, triplet: Triplet) -> None:
        """Put a triplet in the place of what was there."""
        ...

    def client(self, client: str) -> Client | None:
        """Look a client up."""
        ...

    def write_client(self, client: Client) -> None:
        """Put a client in the place of what was there."""
        ...

    def account(self, name: str) -> Account | None:
        """Look an account up."""
        ...

    def write_account(self, account: Account) -> None:
        """Put an account in the place of what was there."""
        ...

    def record(self, instance: str) -> Record | None:
        """Look up what a message has reserved."""
        ...

    def write_record(self, record: Record) -> None:
        """Put a message's record in the place of what was there."""
        ...

    def drop_record(self, instance: str) -> None:
        """Forget a message."""
        ...

    def newest(self, connection: str) -> str:
        """Give the instance of the newest message of a connection; empty if there is none."""
        ...

    def write_newest(self, connection: str, instance: str, now: int) -> None:
        """Note the newest message of a connection; an empty instance forgets it."""
        ...


def attempt(book: Book, ask: GreylistAsk, now: int) -> GreylistFound:
    """Do Store.greylist."""
    client = book.client(ask.client)
    triplet = book.triplet(ask.client, ask.sender, ask.recipient)
    step = greylist.attempt(ask, triplet, client, now)
    if step.triplet is not None:
        book.write_triplet(step.triplet)
    if step.client is not None:
        book.write_client(step.client)
    if not step.credit:
        return step.found
    credit = Credit(ask.client, ask.terms.auto_allow_after, ask.terms.lifetime)
    return msgspec.structs.replace(
        step.found, credited=_note(book, ask.message, now, credits_=(credit,))
    )


def reserve(
    book: Book, charges: Sequence[Charge], message: Message, now: int
) -> tuple[Standing, ...]:
    """Do Store.reserve."""
    record = _record(book, message.instance, now)
    paid = {(r.account, r.mark) for r in record.reserved} if record is not None else set()
    # several charges of one request may be of one account, or the same twice
    trial: dict[str, Account | None] = {}
    found: list[Standing] = []
    for charge in charges:
        known = trial[charge.account] if charge.account in trial else book.account(charge.account)
        if (charge.account, charge.mark) in paid:
            used = accounts.fit(known, charge, now).used
            found.append(Standing(exceeded=False, taken=False, used=used, waits=0))
            continue
        fit = accounts.fit(known, charge, now)
        found.append(Standing(fit.exceeded, not fit.exceeded, fit.used, fit.waits))
        if fit.exceeded:
            trial[charge.account] = known
            continue
        trial[charge.account] = accounts.charged(known, charge, now)
        paid.add((charge.account, charge.mark))
    if any(each.exceeded for each in found):
        return tuple(msgspec.structs.replace(each, taken=False) for each in found)
    for account in trial.values():
        if account is not None:
            book.write_account(account)
    taken = [charge for charge, each in zip(charges, found, strict=True) if each.taken]
    _note(book, message, now, reserved=tuple(_reserved(charge, now) for charge in taken))
    return tuple(found)


def give_back(
    book: Book, charges: Sequence[Charge], message: Message, now: int, credit: str
) -> None:
    """Do Store.give_back."""
    record = _record(book, message.instance, now)
    if record is None:
        if not message.instance:
            _refund(book, [_reserved(charge, now) for charge in charges])
        return
    marks = {(charge.account, charge.mark) for charge in charges}
    _refund(book, [r for r in record.reserved if (r.account, r.mark) in marks])
    left = msgspec.structs.replace(
        record,
        reserved=tuple(r for r in record.reserved if (r.account, r.mark) not in marks),
        credits=tuple(c for c in record.credits if c.client != credit),
    )
    _keep(book, left)


def settle(book: Book, message: Message, now: int, *, accepted: bool, recipients: int) -> None:
    """Do Store.settle."""
    record = _ended(book, message, now)
    if record is None:
        return
    if not accepted:
        _refuse(book, record)
        return
    beyond = _beyond(record, recipients)
    _refund(book, beyond)
    counted = record.credits
    if not record.spent:
        counted = tuple(each for each in record.credits if _succeeded(book, record, each, now))
    kept = tuple(r for r in record.reserved if r not in beyond)
    book.write_record(msgspec.structs.replace(record, reserved=kept, credits=counted, spent=True))


def abandon(book: Book, message: Message, now: int) -> None:
    """Do Store.abandon."""
    record = _ended(book, message, now)
    if record is not None and not record.spent:
        _refuse(book, record)


def put(book: Book, entries: Iterable[Entry], now: int) -> None:
    """Do Store.put."""
    for entry in entries:
        if has_expired(entry, now):
            continue
        match entry:
            case Triplet():
                triplet = current(book.triplet(entry.client, entry.sender, entry.recipient), now)
                book.write_triplet(greylist.joined_triplets(triplet, entry) if triplet else entry)
            case Client():
                client = current(book.client(entry.client), now)
                book.write_client(greylist.joined_clients(client, entry) if client else entry)
            case Account():
                account = accounts.live(book.account(entry.name), now)
                book.write_account(accounts.joined(account, entry) if account else entry)


def has_expired(entry: Entry | Record, now: int) -> bool:
    """Tell whether an entry is to be forgotten."""
    return now >= entry.expires and not (isinstance(entry, Client) and entry.by_hand)


def current(entry: _T | None, now: int) -> _T | None:
    """Give an entry if it has not expired."""
    return None if entry is None or has_expired(entry, now) else entry


def _record(book: Book, instance: str, now: int) -> Record | None:
    return current(book.record(instance), now) if instance else None


def _ended(book: Book, message: Message, now: int) -> Record | None:
    """Give the record of a message that ends: by its instance, or as its connection's newest."""
    if message.instance:
        return _record(book, message.instance, now)
    if not message.connection:
        return None
    instance = book.newest(message.connection)
    if instance:
        book.write_newest(message.connection, "", now)
    return _record(book, instance, now)


def _reserved(charge: Charge, now: int) -> Reserved:
    return Reserved(
        charge.limit,
        charge.account,
        charge.mark,
        charge.window,
        now,
        charge.amount,
        charge.most,
        charge.settles,
    )


_NOTHING: Final[tuple[Reserved, ...]] = ()


def _note(
    book: Book,
    message: Message,
    now: int,
    *,
    reserved: tuple[Reserved, ...] = _NOTHING,
    credits_: tuple[Credit, ...] = (),
) -> bool:
    """Write down what a message holds; tell whether that is new."""
    if not message.instance:
        return False
    record = _record(book, message.instance, now) or Record(message.instance, now)
    held = {credit.client for credit in record.credits}
    new = tuple(c for c in credits_ if not record.spent and c.client not in held)
    if not (reserved or new):
        return False
    book.write_record(
        msgspec.structs.replace(
            record, reserved=(*record.reserved, *reserved), credits=(*record.credits, *new)
        )
    )
    if message.connection:
        book.write_newest(message.connection, message.instance, now)
    return True


def _keep(book: Book, record: Record) -> None:
    if record.reserved or record.credits:
        book.write_record(record)
    else:
        book.drop_record(record.instance)


def _succeeded(book: Book, record: Record, credit: Credit, now: int) -> bool:
    """Count a success of an accepted message; tell whether it changes anything."""
    client = greylist.succeeded(credit, book.client(credit.client), record.instance, now)
    if client is not None:
        book.write_client(client)
    return client is not None


def _refuse(book: Book, record: Record) -> None:
    """Forget a message and take back all that it has left behind."""
    _refund(book, record.reserved)
    for credit in record.credits if record.spent else ():
        client = greylist.failed(credit, book.client(credit.client), record.instance)
        if client is not None:
            book.write_client(client)
    book.drop_record(record.instance)


def _refund(book: Book, reserved: Iterable[Reserved]) -> None:
    for each in reserved:
        account = book.account(each.account)
        if account is not None and account.window == each.window:
            book.write_account(accounts.given_back(account, each.at, each.amount, each.most))


def _beyond(record: Record, recipients: int) -> tuple[Reserved, ...]:
    """
    Give what was reserved for recipients that Postfix refused: the latest of each account.

    Of a limit with several accounts in the message nobody knows whose recipients they were. An
    account and the one of the same key in shadow are of the same recipients.
    """
    if recipients < 0:
        return ()
    held: dict[str, dict[str, list[Reserved]]] = {}
    for each in record.reserved:
        if each.mark:
            held.setdefault(each.limit, {}).setdefault(each.account, []).append(each)
    return tuple(
        each
        for accounts_ in held.values()
        if len({name.removesuffix(SHADOW) for name in accounts_}) == 1
        for of_account in accounts_.values()
        for each in of_account[recipients:]
    )
