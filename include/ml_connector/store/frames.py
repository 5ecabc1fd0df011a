"""Convert database rows to pandas frames and back.

A separate module, so that a process that only needs the database, such as the receiver, does not
load pandas.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from ml_connector.store.database import Rows


def frame_of(
    connection: Connection,
    columns: Sequence[str],
    *,
    hexed: Collection[str],
    sources: Sequence[str],
    parameters: Mapping[str, Any],
) -> pd.DataFrame:
    """Return ``columns`` of all ``sources`` as a frame; ``hexed`` columns as hexadecimal text."""
    chosen = ", ".join(f"encode({c}, 'hex') AS {c}" if c in hexed else c for c in columns)
    query = " UNION ALL ".join(f"SELECT {chosen} FROM {source}" for source in sources)  # noqa: S608
    rows = connection.execute(text(query), parameters).all()
    return pd.DataFrame([tuple(row) for row in rows], columns=list(columns), dtype=object)


def unhexed(frame: pd.DataFrame, columns: Sequence[str], *, hexed: Collection[str]) -> Rows:
    """Yield a frame's rows for COPY: missing values as None, ``hexed`` columns as bytes."""
    values = [_values(frame[name], hexed=name in hexed) for name in columns]
    return zip(*values, strict=True)


def _values(column: pd.Series, *, hexed: bool) -> list[Any]:
    if column.dtype == bool:
        return list(column.tolist())
    there = zip(column.tolist(), column.notna().tolist(), strict=True)
    if hexed:
        return [bytes.fromhex(value) if known else None for value, known in there]
    return [value if known else None for value, known in there]
