"""
Whether an ARC chain is whole (RFC 8617 section 5.2), through dkimpy.

dkimpy takes the sets apart and knows what each seal is over. What it asks of a single signature is
answered here: keys are there already, a body is not taken as lines, and of the signatures over
the message only the newest counts.
"""

from typing import Final

import dkim
from dkim.util import InvalidTagValueList, parse_tag_value

from policyd.facts import read
from policyd.mail.arc import MOST_INSTANCES, ArcAnswer
from policyd.mail.author import is_domain
from policyd.mail.body import Body
from policyd.mail.claim import MOST_NAMES, form_of, is_readable, length_of, unpacked
from policyd.mail.dkim import KeyAnswer, Keys, ProblemError
from policyd.mail.header import Field, Header
from policyd.mail.key import SMALLEST_RSA, key_name, read_key
from policyd.mail.verify import judge_body, use_key

_SEAL: Final = b"arc-seal"
_MESSAGE: Final = b"arc-message-signature"
_RESULTS: Final = b"arc-authentication-results"
_SIGNATURES: Final = (_SEAL, _MESSAGE)
_FIELDS: Final = (*_SIGNATURES, _RESULTS)
_LONGEST_RESULTS: Final = 64 * 1024
"""Octets of one ARC-Authentication-Results."""

_LONGEST_REASON: Final = 200

_Tags = dict[bytes, bytes]


def is_sealed(header: Header) -> bool:
    """Tell whether there are fields of ARC."""
    return any(name.lower() in _FIELDS for name, _ in header.fields)


def chain_keys(header: Header) -> tuple[str, ...]:
    """Give the names of the keys of all seals and of the newest signature; none of what is bad."""
    try:
        chain = _Chain(header)
    except ProblemError:
        return ()
    return tuple(dict.fromkeys(filter(None, map(_key_name, chain.signed_by()))))


def verified_chain(header: Header, descriptor: int, keys: Keys) -> ArcAnswer:
    """Give what the chain of a message comes to; `keys` holds what the DNS says."""
    if not is_sealed(header):
        return ArcAnswer("none", "the message is not sealed")
    try:
        chain = _Chain(header)
    except ProblemError as problem:
        return ArcAnswer("fail", str(problem))
    return chain.judge(descriptor, keys)


class _Chain(dkim.ARC):
    """A chain that is verified by keys that are there already."""

    def __init__(self, header: Header) -> None:
        """ProblemError if there is no chain to speak of."""
        super().__init__(None, minkey=SMALLEST_RSA)
        if header.fault:
            raise ProblemError("fail", header.fault)
        sealed = [field for field in header.fields if field[0].lower() in _FIELDS]
        if not all(map(_is_fair, sealed)):
            raise ProblemError("fail", "a field of ARC that cannot be read")
        if len(sealed) > MOST_INSTANCES * len(_FIELDS):
            raise ProblemError("fail", f"more than {MOST_INSTANCES} sets")
        self.headers = sealed
        self.instances, self._sets = self.sorted_arc_headers()
        if not 0 < self.instances <= MOST_INSTANCES:
            raise ProblemError("fail", f"instance {self.instances}, not one of {MOST_INSTANCES}")
        self.headers = _signed_fields(header, self._newest(_MESSAGE))
        self._body_at = header.body_at
        self._descriptor = -1
        self._keys: Keys = {}
        self._unanswered = ""
        self._broken = False

    def _newest(self, name: bytes) -> _Tags:
        for instance, field in self._sets:
            if instance == self.instances and field[0] == name:
                return _tags(field)
        return {}

    def signed_by(self) -> list[_Tags]:
        """Give the tags of what is to be verified."""
        seals = [_tags(field) for _, field in self._sets if field[0] == _SEAL]
        return [*seals, self._newest(_MESSAGE)]

    def judge(self, descriptor: int, keys: Keys) -> ArcAnswer:
        """Verify all of it."""
        self._descriptor, self._keys = descriptor, keys
        looked_at: list[object] = []
        try:
            result, looked_at, reason = self.verify()
        except (dkim.DKIMException, ValueError, IndexError):  # not all are dkimpy's own
            result, reason = dkim.CV_Fail, "a field of ARC that cannot be read"
        if result == dkim.CV_Pass:
            sealer = read.domain(_text(self._newest(_SEAL), b"d"))
            return ArcAnswer("pass", "", sealer, self.instances)
        whole = result == dkim.CV_Fail and len(looked_at) == self.instances and not self._broken
        if whole and self._unanswered:
            return ArcAnswer("temperror", self._unanswered, "", self.instances)
        return ArcAnswer("fail", reason[:_LONGEST_REASON], "", self.instances)

    def verify_sig(
        self, sig: _Tags, include_headers: list[bytes], sig_header: Field, dnsfunc: object
    ) -> bool:
        """Verify one signature: dkimpy calls this, for seals and for those over the message."""
        del dnsfunc  # the keys are there
        over_message = b"bh" in sig
        if over_message and int(sig[b"i"]) != self.instances:
            return False  # nothing depends on the older ones (RFC 8617 section 5.2, step 5)
        try:
            self._judge(sig, include_headers, sig_header)
            if over_message:
                self._judge_body(sig)
        except ProblemError as problem:
            if problem.result == "temperror":
                self._unanswered = str(problem)
            else:
                self._broken = True
            return False
        return True

    def _judge(self, sig: _Tags, names: list[bytes], field: Field) -> None:
        key = read_key(self._keys.get(_key_name(sig), KeyAnswer()))
        if key.kind != "rsa":
            raise ProblemError("permerror", f"the key is {key.kind}, the signature is not")
        use_key(self, key)
        there = {name.lower() for name, _ in self.headers}
        tags = {name: value for name, value in sig.items() if name != b"bh"}
        if not self.verify_sig_process(
            tags, [each for each in names if each in there], field, None
        ):
            raise ProblemError("fail", "the signature does not match")

    def _judge_body(self, sig: _Tags) -> None:
        form, length = form_of(sig), length_of(sig)
        lengths = () if length is None else (length,)
        body = Body(self._descriptor, self._body_at, {form: lengths})
        judge_body(body.hashed(form), unpacked(sig[b"bh"]), length)


def _signed_fields(header: Header, newest: _Tags) -> list[Field]:
    """Give the fields that the newest signature and the seals are over, and no others."""
    names = {name.strip().lower() for name in newest.get(b"h", b"").split(b":")}
    if len(names) > MOST_NAMES:
        raise ProblemError("fail", f"a signature over more than {MOST_NAMES} fields")
    kept = names.union(_FIELDS)
    return [field for field in header.fields if field[0].lower() in kept]


def _is_fair(field: Field) -> bool:
    if field[0].lower() == _RESULTS:
        return len(field[1]) <= _LONGEST_RESULTS
    return is_readable(field)


def _tags(field: Field) -> _Tags:
    try:
        return parse_tag_value(field[1])
    except InvalidTagValueList:
        return {}


def _key_name(tags: _Tags) -> str:
    """Give the name of a key in the DNS; empty if it can have none."""
    name = key_name(read.domain(_text(tags, b"s")), read.domain(_text(tags, b"d")))
    return name if is_domain(name) else ""


def _text(tags: _Tags, name: bytes) -> str:
    return tags.get(name, b"").decode("utf-8", "replace")
