"""Databases as a former release left them, made by ``tests.data.make_release_dump``."""

import gzip
import json
from pathlib import Path
from typing import Any

import psycopg

DATA = Path(__file__).parent.parent / "data"
SEALED_BY_ROW = "release_2e62de3"
"""The last release that sealed each audit row by itself, at the end of a run."""


def restore(url: str, release: str = SEALED_BY_ROW) -> None:
    """Fill the empty database at ``url`` with what a release left."""
    statements = gzip.decompress((DATA / release / "database.sql.gz").read_bytes())
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(statements)


def systems(release: str = SEALED_BY_ROW) -> dict[str, list[dict[str, Any]]]:
    """Return the ``customers`` and ``members`` that the mock servers held."""
    packed = (DATA / release / "systems.json.gz").read_bytes()
    held: dict[str, list[dict[str, Any]]] = json.loads(gzip.decompress(packed))
    return held
