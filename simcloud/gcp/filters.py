"""Google's list filter: the current grammar and the older one with regular expressions.

    expression := sequence (("AND" | "OR") sequence)*     AND binds tighter
    sequence   := factor factor*                          juxtaposition is AND
    factor     := ("NOT" | "-")? ("(" expression ")" | field operator value)
    operator   := "=" "!=" ":" ">" ">=" "<" "<="          and, older: "eq" "ne" (whole-match RE2)

`field` may be nested (`scheduling.automaticRestart`, `labels.owner`); on a repeated field one match
is enough. `labels.x:*` asks whether the key is there. A missing field equals nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simcloud.gcp import errors, wire

Predicate = Callable[[dict[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<punct>\(|\)|!=|>=|<=|=|:|>|<)
    | (?P<double>"(?:[^"\\]|\\.)*")
    | (?P<single>'(?:[^'\\]|\\.)*')
    | (?P<word>[^\s()=!:<>"']+)
    )""",
    re.VERBOSE,
)
# the value of eq / ne is a pattern: it may hold the characters that end a word elsewhere
_PATTERN_WORD = re.compile(r"\s*(?P<word>(?:[^\s()\"'\\]|\\.|\([^()]*\))+)")
_VALUE_WORD = re.compile(r"\s*(?P<word>[^\s()\"']+)")
_COMPARISONS = frozenset({"=", "!=", ":", ">", ">=", "<", "<=", "eq", "ne"})


@dataclass(frozen=True, kw_only=True)
class _Token:
    text: str
    quoted: bool = False


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0

    def parse(self) -> Predicate:
        predicate = self._disjunction()
        if self._peek() is not None:
            raise self._error()
        return predicate

    def _error(self) -> errors.GoogleError:
        return errors.invalid("filter", self._source, "Invalid list filter expression.")

    def _scan(self) -> tuple[_Token, int] | None:
        if not self._source[self._position :].strip():
            return None
        match = _TOKEN.match(self._source, self._position)
        if match is None:
            raise self._error()
        kind = match.lastgroup
        text = match[kind] if kind else ""
        if kind in ("double", "single"):
            quote = text[0]
            # other backslashes stay: they belong to the regular expression
            return _Token(text=text[1:-1].replace("\\" + quote, quote), quoted=True), match.end()
        return _Token(text=text), match.end()

    def _peek(self) -> _Token | None:
        scanned = self._scan()
        return None if scanned is None else scanned[0]

    def _next(self) -> _Token:
        scanned = self._scan()
        if scanned is None:
            raise self._error()
        self._position = scanned[1]
        return scanned[0]

    def _at(self, *texts: str) -> bool:
        token = self._peek()
        return token is not None and not token.quoted and token.text in texts

    def _disjunction(self) -> Predicate:
        options = [self._conjunction()]
        while self._at("OR"):
            self._next()
            options.append(self._conjunction())
        return options[0] if len(options) == 1 else lambda row: any(o(row) for o in options)

    def _conjunction(self) -> Predicate:
        factors = [self._factor()]
        while self._peek() is not None and not self._at("OR", ")"):
            if self._at("AND"):
                self._next()
            factors.append(self._factor())
        return factors[0] if len(factors) == 1 else lambda row: all(f(row) for f in factors)

    def _factor(self) -> Predicate:
        if self._at("NOT"):
            self._next()
            inner = self._factor()
            return lambda row: not inner(row)
        if self._at("("):
            self._next()
            predicate = self._disjunction()
            if not self._at(")"):
                raise self._error()
            self._next()
            return predicate
        return self._comparison()

    def _comparison(self) -> Predicate:
        field = self._next()
        if field.text.startswith("-") and not field.quoted and len(field.text) > 1:
            field = _Token(text=field.text[1:])
            inner = self._restriction(field)
            return lambda row: not inner(row)
        return self._restriction(field)

    def _restriction(self, field: _Token) -> Predicate:
        operator = self._next()
        if operator.quoted or operator.text not in _COMPARISONS or field.text in _COMPARISONS:
            raise self._error()
        value = self._value(pattern=operator.text in ("eq", "ne"))
        path = field.text
        if operator.text in ("eq", "ne"):
            try:
                regex = re.compile(value.text)
            except re.error as broken:
                raise self._error() from broken
            wanted = operator.text == "eq"
            return lambda row: any(regex.fullmatch(v) for v in _texts(row, path)) is wanted
        return _compare(path, operator.text, value)

    def _value(self, *, pattern: bool) -> _Token:
        token = self._peek()
        if pattern and token is not None and not token.quoted:
            match = _PATTERN_WORD.match(self._source, self._position)
            if match is None:
                raise self._error()
            self._position = match.end()
            return _Token(text=match["word"])
        # an unquoted value may hold ':' or '=' (links, timestamps): take it to the next blank
        if token is not None and not token.quoted and token.text not in ("(", ")"):
            match = _VALUE_WORD.match(self._source, self._position)
            if match is not None:
                self._position = match.end()
                return _Token(text=match["word"])
        if token is not None and not token.quoted:
            raise self._error()
        return self._next()


def _values(row: Any, path: str) -> list[Any]:
    """Return every value found under a dotted path, looking into lists and odd keys."""
    if isinstance(row, list):
        return [value for entry in row for value in _values(entry, path)]
    if not isinstance(row, dict):
        return []
    if path in row:
        found = row[path]
        return found if isinstance(found, list) else [found]
    head, dot, rest = path.partition(".")
    return _values(row[head], rest) if dot and head in row else []


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _texts(row: dict[str, Any], path: str) -> list[str]:
    return [_text(value) for value in _values(row, path) if not isinstance(value, dict | list)]


def _wildcard(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.IGNORECASE)


def _equal(actual: str, token: _Token) -> bool:
    if actual == token.text:
        return True
    if "*" in token.text and not token.quoted:
        return _wildcard(token.text).fullmatch(actual) is not None
    return False


def _has(row: dict[str, Any], path: str, token: _Token) -> bool:
    found = _values(row, path)
    if token.text == "*":
        return bool(found)
    for value in found:
        if isinstance(value, dict):
            if token.text in value:
                return True
        elif isinstance(value, bool | int | float):
            if _text(value) == token.text.lower():
                return True
        elif "*" in token.text:
            if _wildcard(token.text).fullmatch(str(value)):
                return True
        elif token.text.lower() in str(value).lower():
            return True
    return False


def _ordering(actual: str, wanted: str) -> int:
    """Return -1, 0 or 1: by number if both are, by time if both are, else by text."""
    for convert in (float, wire.parse_timestamp):
        try:
            left, right = convert(actual), convert(wanted)
        except ValueError:
            continue
        return (left > right) - (left < right)
    return (actual > wanted) - (actual < wanted)


def _compare(path: str, operator: str, token: _Token) -> Predicate:
    if operator == "=":
        return lambda row: any(_equal(text, token) for text in _texts(row, path))
    if operator == "!=":
        return lambda row: not any(_equal(text, token) for text in _texts(row, path))
    if operator == ":":
        return lambda row: _has(row, path, token)
    accepted = {">": (1,), ">=": (0, 1), "<": (-1,), "<=": (-1, 0)}[operator]
    return lambda row: any(_ordering(text, token.text) in accepted for text in _texts(row, path))


def compile_filter(expression: str | None) -> Predicate:
    """Return a predicate over resources (their JSON as sent).

    Args:
        expression: The `filter` query parameter; None or blank lets everything pass.

    Raises:
        errors.GoogleError: 400 `invalid` when it cannot be understood.
    """
    if expression is None or not expression.strip():
        return lambda row: True
    return _Parser(expression).parse()
