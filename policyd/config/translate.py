"""What pydantic finds wrong with a table, as problems with line and mend."""

from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from policyd.config.gather import Part
from policyd.config.model import Table
from policyd.config.problem import Problem, choose_from
from policyd.config.units import describe

_WANTED: Final[Mapping[str, tuple[str, str]]] = {
    "string_type": ("a string", "write it in quotes"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "int_type": ("a whole number", "write digits, without quotes"),
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "listen": '["inet:127.0.0.1:10040"]',
    "url": '"sqlite:/var/lib/policyd/state.sqlite"',
    "name": '"…", by which logs and metrics call it',
    "stage": '"rcpt", or another stage',
    "key": '"sasl_username", or whatever is to be counted together',
    "rate": '"500 recipients per 1h"',
    "zone": '"zen.example.org", the domain below which the list is asked',
    "holds": '"addresses", "domains" or "texts"',
    "query": '"SELECT 1 FROM mailboxes WHERE address IN :keys"',
    "set": '"blocked", the key of a set',
    "base": '"ou=people,dc=example,dc=org"',
    "filter": '"(mail={key})"',
    "then": '"…": a reply such as 550 5.7.1 text, a named reply, or a verb',
}
"""What the keys that a table must have look like."""

_Model = TypeVar("_Model", bound=Table)


def read_table(
    model: type[_Model], part: Part, *, called: str, rule: str = ""
) -> tuple[_Model | None, tuple[Problem, ...]]:
    """Read a table, which messages call so; None and all problems if it is wrong."""
    table, errors = _validate(model, part.values)
    return table, tuple(_problem(error, model, part, called, rule) for error in errors)


def read_rest(
    model: type[_Model], part: Part, *, called: str
) -> tuple[_Model | None, tuple[Problem, ...]]:
    """Read a table; of a wrong one, the keys that are right, so that they can be judged further."""
    table, problems = read_table(model, part, called=called)
    if table is None:
        _, errors = _validate(model, part.values)
        wrong = {error["loc"][0] for error in errors}
        rest = {key: value for key, value in part.values.items() if key not in wrong}
        table, _ = _validate(model, rest)
    return table, problems


def _validate(
    model: type[_Model], values: Mapping[str, object]
) -> tuple[_Model | None, list[ErrorDetails]]:
    try:
        return model.model_validate(dict(values)), []
    except ValidationError as error:
        return None, error.errors()


def _problem(
    error: ErrorDetails, model: type[Table], part: Part, called: str, rule: str
) -> Problem:
    path = error["loc"]
    what, mend = _words(error, str(path[0]), called, tuple(model.model_fields))
    return Problem(part.document.shown, part.line(*path), rule, what, mend)


def _words(error: ErrorDetails, key: str, called: str, known: tuple[str, ...]) -> tuple[str, str]:
    context = error.get("ctx", {})
    given = describe(error["input"])
    match error["type"]:
        case "wrong_value":
            return f"{key}: {context['what']}", str(context["mend"])
        case "extra_forbidden":
            return f'{called} has no key "{key}"', choose_from(key, known)
        case "missing":
            return f"{called} has no {key}", f"add {key} = {_EXAMPLES[key]}"
        case "greater_than_equal":
            return f"{key}: {given} is too small", f"write at least {context['ge']}"
        case "less_than_equal":
            return f"{key}: {given} is too large", f"write at most {context['le']}"
        case kind:
            wanted, mend = _WANTED.get(kind, (error["msg"], "correct it"))
            return f"{key}: {given} is not {wanted}", mend
