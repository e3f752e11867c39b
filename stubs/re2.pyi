# google-re2's Python module carries no types; what the lists use of it.
from typing import Self

class error(Exception): ...

class Options:
    case_sensitive: bool
    dot_nl: bool
    never_capture: bool
    log_errors: bool
    max_mem: int

def compile(pattern: str, options: Options | None = ...) -> object: ...

class Set:
    @classmethod
    def SearchSet(cls, options: Options | None = ...) -> Self: ...
    def Add(self, pattern: str) -> int: ...
    def Compile(self) -> None: ...
    def Match(self, text: bytes) -> list[int] | None: ...
