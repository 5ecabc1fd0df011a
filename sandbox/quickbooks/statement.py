r"""The query language: from text to a statement, by Intuit's data-queries guide.

``SELECT * | COUNT(*) | col, col FROM Entity [WHERE p op v [AND ...]] [ORDERBY p [ASC|DESC], ...]
[STARTPOSITION n] [MAXRESULTS n]``. ``ORDER BY`` is accepted too, and the last two in either order.
Values are in single quotes with ``\'`` and ``\\`` as escapes; SQL's doubled quote is an error.
"""

import re
from dataclasses import dataclass, field

from sandbox.quickbooks import problems

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:[^'\\]|\\.)*')
        |(?P<operator><=|>=|=|<|>)
        |(?P<number>-?\d+(?:\.\d+)?(?![\w.]))
        |(?P<word>[A-Za-z_][\w.]*)
        |(?P<mark>[(),*]))""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = frozenset(
    [
        "SELECT",
        "COUNT",
        "FROM",
        "WHERE",
        "AND",
        "ORDERBY",
        "ORDER",
        "BY",
        "ASC",
        "DESC",
        "STARTPOSITION",
        "MAXRESULTS",
        "IN",
        "LIKE",
    ]
)


@dataclass(frozen=True)
class Condition:
    """``property operator value``; IN has several values, the other operators one."""

    property: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Ordering:
    """One property of ORDERBY."""

    property: str
    descending: bool = False


@dataclass(frozen=True)
class Statement:
    """A parsed query. No columns means ``*``."""

    entity: str
    columns: tuple[str, ...] = ()
    count: bool = False
    conditions: tuple[Condition, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    start: int = 1
    page: int = DEFAULT_PAGE


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int

    @property
    def upper(self) -> str:
        return self.text.upper() if self.kind == "word" else self.text


@dataclass
class _Reader:
    tokens: list[_Token]
    at: int = 0
    limits: dict[str, int] = field(default_factory=dict)

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.next
        self.at += 1
        return token

    def skip(self, *texts: str) -> bool:
        if self.next.kind != "string" and self.next.upper in texts:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.skip(text):
            raise self.unexpected(f'"{text.lower()}"')

    def name(self) -> str:
        if self.next.kind != "word" or self.next.upper in _KEYWORDS:
            raise self.unexpected("<IDENTIFIER>")
        return self.take().text

    def value(self) -> str:
        token = self.next
        if token.kind == "string":
            self.take()
            return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        if token.kind == "number" or token.upper in {"TRUE", "FALSE"}:
            return self.take().text
        raise self.unexpected("<STRING_LITERAL>, <NUMBER>, true, false")

    def unexpected(self, expected: str) -> problems.FaultError:
        token = self.next
        found = f'<{token.kind.upper()}> "{token.text}' if token.kind != "end" else '<EOF> "'
        return problems.query_syntax(found, token.column, expected)


def parse(text: str) -> Statement:
    """Parse a query.

    Raises:
        FaultError: 4000, with the column where the text stopped making sense.
    """
    reader = _Reader(_tokens(text))
    reader.expect("SELECT")
    columns, count = _projection(reader)
    reader.expect("FROM")
    entity = reader.name()
    conditions = _conditions(reader) if reader.skip("WHERE") else ()
    orderings = _orderings(reader)
    _limits(reader)
    if reader.next.kind != "end":
        raise reader.unexpected("<EOF>")
    return Statement(
        entity=entity,
        columns=columns,
        count=count,
        conditions=conditions,
        orderings=orderings,
        start=max(1, reader.limits.get("STARTPOSITION", 1)),
        page=min(LARGEST_PAGE, reader.limits.get("MAXRESULTS", DEFAULT_PAGE)),
    )


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            column = len(text) - len(rest) + 1
            raise problems.query_syntax(f'<LEXICAL_ERROR> "{rest[0]}', column, "a token")
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind) + 1))
        at = match.end()
    tokens.append(_Token("end", "", end + 1))
    return tokens


def _projection(reader: _Reader) -> tuple[tuple[str, ...], bool]:
    if reader.skip("COUNT"):
        for mark in "(*)":
            reader.expect(mark)
        return (), True
    everything = False
    columns: list[str] = []
    while True:
        if reader.skip("*"):
            everything = True
        else:
            columns.append(reader.name())
        if not reader.skip(","):
            return (() if everything else tuple(columns)), False


def _conditions(reader: _Reader) -> tuple[Condition, ...]:
    conditions = [_condition(reader)]
    while reader.skip("AND"):
        conditions.append(_condition(reader))
    return tuple(conditions)


def _condition(reader: _Reader) -> Condition:
    name = reader.name()
    if reader.skip("IN"):
        reader.expect("(")
        values = [reader.value()]
        while reader.skip(","):
            values.append(reader.value())
        reader.expect(")")
        return Condition(name, "IN", tuple(values))
    if reader.skip("LIKE"):
        return Condition(name, "LIKE", (reader.value(),))
    if reader.next.kind != "operator":
        raise reader.unexpected('"=", "<", ">", "<=", ">=", "in", "like"')
    return Condition(name, reader.take().text, (reader.value(),))


def _orderings(reader: _Reader) -> tuple[Ordering, ...]:
    if reader.skip("ORDER"):
        reader.expect("BY")
    elif not reader.skip("ORDERBY"):
        return ()
    orderings = [_ordering(reader)]
    while reader.skip(","):
        orderings.append(_ordering(reader))
    return tuple(orderings)


def _ordering(reader: _Reader) -> Ordering:
    name = reader.name()
    descending = reader.skip("DESC")
    if not descending:
        reader.skip("ASC")
    return Ordering(name, descending)


def _limits(reader: _Reader) -> None:
    while reader.next.upper in {"STARTPOSITION", "MAXRESULTS"}:
        keyword = reader.take().upper
        if reader.next.kind != "number" or keyword in reader.limits:
            raise reader.unexpected("<NUMBER>")
        reader.limits[keyword] = int(float(reader.take().text))
