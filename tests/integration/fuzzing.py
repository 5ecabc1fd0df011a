"""What the fuzz tests share: odd texts, a digest of every table, and marks that may appear nowhere."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st
from sqlalchemy import text

from ml_connector.store.database import Database
from tests.integration.conftest import KEY
from tests.integration.test_console_hostile import CALLS, FORMULAS, ODD, SQL

MANY = os.environ.get("HYPOTHESIS_PROFILE") == "many"
INSIDE = ("Traceback (most recent", "psycopg", "sqlalchemy", "include/ml_connector", "sqlstate")
"""What shows the inside of the program."""
KEYS = (KEY, "ML_CONNECTOR_INDEX_KEY=")
PERSONS = ("Müller", "birds-sanctuary", "Parrots", "Amelie")
"""Words of the customers that ``test_console.fill`` makes."""

_EDGES = (
    "", "0", "-1", "1", "00", "9" * 18, "9" * 19, "9" * 1500, "1e9", "\u0661\u0662", "0x10", "NaN",
    "true", "\0", "a\0b", "%00", "%", "%zz", "..", "/", "\\", "a" * 3000, "ff" * 32, "FF", "zz",
    "0" * 16, "0001-01-01", "9999-12-31", "2026-02-30", "20260101", "2026-W01-1", "-2026-01-01",
    "1.x", "-1.1", f"{2**63}.1", f"{2**63 - 1}.1", f"-{2**63}.0", "main", "all", "sync", "dead",
    "subscribed", "quarantined", "FNAME", "-since", "quickbooks", "mailchimp", "shared", "1.0.1.0",
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(_EDGES),
    st.sampled_from([*SQL, *ODD, *(sign + call for sign in FORMULAS for call in CALLS)]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.integers(-(2**70), 2**70).map(str),
    st.dates().map(str),
    st.binary(max_size=40),
)
"""Any text or bytes, most often one at an edge of something that is parsed."""


def names_read(folder: Path, *places: str) -> list[str]:
    """The names that code reads from a request: each ``query.get("name")`` of a folder's files."""
    asked = re.compile(rf'\b(?:{"|".join(places)})(?:\.get\(|\[)"(\w+)"')
    sources = (path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))
    return sorted({name for source in sources for name in asked.findall(source)})


def stored(database: Database) -> dict[str, str]:
    """A digest of the rows of each table."""
    with database.begin() as connection:
        tables = connection.execute(
            text("""SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
                      AND relnamespace = 'ml_connector'::regnamespace ORDER BY 1""")
        ).scalars()
        each = " UNION ALL ".join(
            f"SELECT '{name}', md5(string_agg(t::text, '|' ORDER BY t::text))"
            f" FROM ml_connector.{name} t"
            for name in tables
        )
        return {name: digest or "" for name, digest in connection.execute(text(each))}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in after if before.get(name) != after[name]}


def found(marks: tuple[str, ...], said: str) -> list[str]:
    return [mark for mark in marks if mark in said]
