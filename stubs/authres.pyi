"""Authentication-Results for Python: authres 1.2, as far as policyd and its tests use it."""

from collections.abc import Sequence

class AuthenticationResultProperty:
    type: str
    name: str
    value: str

class AuthenticationResult:
    method: str
    result: str
    reason: str | None
    properties: list[AuthenticationResultProperty]

class AuthenticationResultsHeader:
    authserv_id: str
    results: Sequence[AuthenticationResult]

class FeatureContext:
    def parse_value(self, string: str) -> AuthenticationResultsHeader: ...

def parse_value(string: str) -> AuthenticationResultsHeader: ...
def all_features() -> FeatureContext: ...
