# The package dmarc says of no type that it is one; what reading records uses of it.
from enum import Enum

class RecordSyntaxError(Exception): ...

class DMARCDisposition(Enum):
    UNSPECIFIED = None
    NONE = "none"
    REJECT = "reject"
    QUARANTINE = "quarantine"

class DMARCAlignment(Enum):
    UNSPECIFIED = None
    RELAXED = "r"
    STRICT = "s"

class Policy:
    p: DMARCDisposition
    sp: DMARCDisposition
    adkim: DMARCAlignment
    aspf: DMARCAlignment
    pct: int
    def __init__(self, version: str, domain: str) -> None: ...
    def parse_record(self, record: str, strict: bool = ...) -> None: ...
