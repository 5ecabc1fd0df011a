"""Convert rows to pandas frames and back.

A separate module, so that a process that only needs the database, such as the receiver, does not
load pandas.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import pandas as pd

from ml_connector.store.database import Rows


def frame_of(
    rows: Sequence[msgspec.Struct], columns: Sequence[str], *, hexed: Collection[str]
) -> pd.DataFrame:
    """Return ``rows`` as a frame of their ``columns``; ``hexed`` columns as hexadecimal text."""
    values = [msgspec.structs.astuple(row) for row in rows]
    frame = pd.DataFrame(values, columns=list(columns), dtype=object)
    for name in hexed:
        frame[name] = [None if value is None else value.hex() for value in frame[name]]
    return frame.astype(object)


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
