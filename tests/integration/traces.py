"""Looks for a person in all that is stored: a dump of every table, and all payloads opened."""

import base64
import hashlib
import re
import subprocess
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

from local.postgres import binaries
from ml_connector.privacy import payloads
from tests.integration.company import Company

EVERY_ROW = 100_000
"""More than a test ever stores."""

_COPY = re.compile(r"^COPY ml_connector\.(\w+) .*?;\n(.*?)^\\\.$", re.MULTILINE | re.DOTALL)


def dumped(company: Company) -> dict[str, str]:
    """What pg_dump writes of every table, with what its payloads hold once opened behind it.

    Rows of proof and suppressions, which hold a keyed hash, are under names of their own.
    """
    done = subprocess.run(
        [binaries() / "pg_dump", "--data-only", "--schema=ml_connector", plain_url(company)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    tables: dict[str, str] = {}
    for table, rows in _COPY.findall(done.stdout):
        for row in rows.lower().splitlines(keepends=True):
            name = "audit" if table.startswith("audit_2") else table
            name = "proof" if name == "audit" and "\tforget\t" in row else name
            tables[name] = tables.get(name, "") + row
    with company.database.begin() as connection:
        for column in payloads.ENCRYPTED:
            rows = payloads.next_page(connection, column, after=None, page=EVERY_ROW)
            said = (payloads.decrypted(column, row, company.vault).decode().lower() for row in rows)
            tables[column.table] = "\n".join([tables.get(column.table, ""), *said])
    return tables


def plain_url(company: Company) -> str:
    return company.database_url.replace("postgresql+psycopg://", "postgresql://")


def forms(word: str) -> set[str]:
    """A word as it may be written somewhere, all in lower case: base64 is too, on both sides."""
    written = {word, quote(word), quote(word, safe=""), quote_plus(word)}
    written |= {word.encode().hex(), word.encode("unicode-escape").decode()}
    for case in (word, word.lower(), word.upper(), word.title()):
        for shift in range(3):  # wherever it begins in what was encoded
            coded = base64.b64encode(b"\0" * shift + case.encode()).decode()
            written.add(coded[-(-shift * 8 // 6) + (shift > 0) : -4])
    return {form.lower() for form in written if form}


def marks(company: Company, address: str) -> set[str]:
    """What stands for an address: our keyed hash, and Mailchimp's and others' plain ones."""
    plain = address.lower().encode()
    hashes = {hashlib.new(name, plain).hexdigest() for name in ("md5", "sha1", "sha256")}
    return {company.vault.email_key(address.lower()).hex(), *hashes}


def found(tables: Mapping[str, str], words: Iterable[str]) -> list[tuple[str, str]]:
    """Tables in which one of the words stands, with the word."""
    return [(table, word) for word in words for table, text in tables.items() if word in text]
