"""Which items of a table are replicated: a small expression over an item's attributes. Pure.

    status = 'live' and (price >= 10 or exists(promo)) and not region in ('eu', 'us')

    expression   and, or, not, parentheses
    test         attribute = value, != <> < <= > >=, attribute in (value, …),
                 exists(attribute), begins_with(attribute, 'text')
    attribute    a name, or "any name at all"; a dot leads into a map: address.country
    value        'text' ('' for a quote within), 12.50, true, false, null

Every test is true or false and nothing else. One with an attribute that is not there, or of another
type than the value's, is false, as in DynamoDB; so `not` and `!=` are true of it. Numbers compare
by value and to every digit, texts by their bytes in UTF-8.

There is nothing here that could be run, and nothing that depends on when or where it is asked: the
same item gives the same answer for ever. This module must not know tables or regions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from conflict.operations import AttributeValue, Image

Predicate: TypeAlias = Callable[[Image], bool]
Literal: TypeAlias = tuple[str, Any]
"""The type of a value in DynamoDB's letters, and the value as it compares."""

LENGTH_MAX = 4096
NESTING_MAX = 32
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"[^"]+")
      | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<sign><=|>=|<>|!=|[=<>(),.])
    )""",
    re.VERBOSE | re.ASCII,
)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: bool(one == other),
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
}
_ORDERED = frozenset({"N", "S"})
_CONSTANTS: Mapping[str, Literal] = {
    "true": ("BOOL", True),
    "false": ("BOOL", False),
    "null": ("NULL", True),
}
_KEYWORDS = frozenset({"and", "or", "not", "in", *_CONSTANTS})


class WhereError(ValueError):
    """An expression that cannot be understood; says where and why."""


@dataclass(frozen=True, slots=True)
class Where:
    """An expression, understood. `attributes`: the top-level ones that it looks at."""

    text: str
    attributes: frozenset[str]
    matches: Predicate


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_where(text: str) -> Where:
    """Understand an expression. Raises: WhereError."""
    if len(text) > LENGTH_MAX:
        raise WhereError(f"has more than {LENGTH_MAX} characters")
    parser = _Parser(_tokens(text))
    matches = parser.whole()
    return Where(text, frozenset(parser.attributes), matches)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise WhereError(f"is not understood at {text[start : start + 12]!r}")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    """Recursive descent, one method per rule."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0
        self.attributes: set[str] = set()

    def whole(self) -> Predicate:
        found = self._either()
        if self._next.kind != "end":
            raise self._error("'and' or 'or'")
        return found

    def _either(self) -> Predicate:
        terms = [self._both()]
        while self._take("or"):
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else lambda image: any(term(image) for term in terms)

    def _both(self) -> Predicate:
        terms = [self._negated()]
        while self._take("and"):
            terms.append(self._negated())
        return terms[0] if len(terms) == 1 else lambda image: all(term(image) for term in terms)

    def _negated(self) -> Predicate:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise WhereError(f"is nested more than {NESTING_MAX} deep")
        try:
            if self._take("not"):
                inner = self._negated()
                return lambda image: not inner(image)
            if self._take("("):
                found = self._either()
                self._expect(")")
                return found
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Predicate:
        following = self._tokens[self._at + 1] if self._next.kind == "word" else None
        if following is not None and following.text == "(":
            return self._call(self._advance())
        path = self._path()
        if self._take("in"):
            return self._among(path)
        sign = self._next
        if sign.text not in {*_COMPARE, "!=", "<>"}:
            raise self._error("a comparison")
        self._advance()
        value = self._literal()
        if sign.text in ("!=", "<>"):
            return lambda image: not _compared("=", path, value, image)
        if sign.text != "=" and value[0] not in _ORDERED:
            raise WhereError(f"{sign.text!r} needs a number or a text behind it")
        return lambda image: _compared(sign.text, path, value, image)

    def _call(self, name: _Token) -> Predicate:
        self._expect("(")
        path = self._path()
        match name.text:
            case "exists":
                self._expect(")")
                return lambda image: _value_at(path, image) is not None
            case "begins_with":
                self._expect(",")
                kind, prefix = self._literal()
                self._expect(")")
                if kind != "S":
                    raise WhereError("begins_with needs a text")
                return lambda image: _begins(path, prefix, image)
            case _:
                known = "exists(attribute), begins_with(attribute, 'text')"
                raise WhereError(f"knows no {name.text}(…); there are {known}")

    def _among(self, path: tuple[str, ...]) -> Predicate:
        self._expect("(")
        values = [self._literal()]
        while self._take(","):
            values.append(self._literal())
        self._expect(")")
        return lambda image: any(_compared("=", path, value, image) for value in values)

    def _path(self) -> tuple[str, ...]:
        path = [self._name()]
        while self._take("."):
            path.append(self._name())
        self.attributes.add(path[0])
        return tuple(path)

    def _name(self) -> str:
        token = self._next
        if token.kind == "quoted":
            return self._advance().text[1:-1]
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            raise self._error("an attribute's name")
        return self._advance().text

    def _literal(self) -> Literal:
        token = self._next
        if token.kind == "text":
            return "S", self._advance().text[1:-1].replace("''", "'").encode()
        if token.kind == "number":
            return "N", self._number(self._advance().text)
        if token.text.lower() in _CONSTANTS:
            return _CONSTANTS[self._advance().text.lower()]
        raise self._error("a value ('text', a number, true, false, null)")

    def _number(self, text: str) -> Decimal:
        try:
            return Decimal(text)
        except InvalidOperation:
            raise WhereError(f"holds a number beyond all bounds: {text}") from None

    # --- tokens -------------------------------------------------------------------------------

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _advance(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, text: str) -> bool:
        """Take the next token if it is this keyword or sign."""
        found = self._next.kind in ("word", "sign") and self._next.text.lower() == text
        self._at += found
        return found

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"'{text}'")

    def _error(self, wanted: str) -> WhereError:
        token = self._next
        found = "its end" if token.kind == "end" else repr(token.text)
        return WhereError(f"needs {wanted} in place of {found} at character {token.at + 1}")


def _compared(sign: str, path: tuple[str, ...], literal: Literal, image: Image) -> bool:
    kind, wanted = literal
    value = _value_at(path, image)
    found = None if value is None else _comparable(kind, value)
    return found is not None and _COMPARE[sign](found, wanted)


def _begins(path: tuple[str, ...], prefix: bytes, image: Image) -> bool:
    value = _value_at(path, image)
    found = None if value is None else _comparable("S", value)
    return found is not None and found.startswith(prefix)


def _value_at(path: tuple[str, ...], image: Image) -> AttributeValue | None:
    first, *rest = path
    value = image.get(first)
    for name in rest:
        inner = None if value is None else value.get("M")
        value = inner.get(name) if isinstance(inner, Mapping) else None
    return value


def _comparable(kind: str, value: AttributeValue) -> Any:
    """The content of a value of this type as it compares; None for one of another type."""
    content = value.get(kind)
    match kind, content:
        case "S", str():
            return content.encode()
        case "N", str():
            try:
                return Decimal(content)
            except InvalidOperation:
                return None
        case "BOOL" | "NULL", bool():
            return content
        case _:
            return None
