"""The connection to Postgres: transactions, bulk copies, and what a lost database looks like."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import lru_cache
from typing import Any

import msgspec
import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ml_connector.errors import ConnectorError, RetryLater, SettingsError, StorageError

Rows = Iterator[tuple[Any, ...]]
Columns = Mapping[str, str]
"""Names of columns with their Postgres types."""


NOW = "(extract(epoch FROM clock_timestamp() - timestamptz '2000-01-01 00:00Z') * 1000000)::int8"
"""The time as binary COPY takes it where a column's type is said to be ``int8``: microseconds since
2000. psycopg takes a datetime apart in Python; and a default that is a clock would have Postgres
insert row by row."""


class Database:
    """Hands out transactions. One instance a process; threads may share it."""

    def __init__(self, url: str, *, connections: int = 10) -> None:
        """Take any Postgres URL (``postgresql://...``); no connection is made yet."""
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            parsed = None
        if parsed is None or not parsed.drivername.startswith("postgres"):
            raise SettingsError("the database's address is not a postgresql:// URL")
        self._engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=connections,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 5,
                "application_name": "ml-connector",
                # A prepared plan stays as it was when a table was small, and these grow meanwhile: a
                # claim out of 24,000 changes then read a table 500 times over (docs/performance.md).
                "prepare_threshold": None,
            },
        )
        event.listen(self._engine, "connect", _prefer_plain_bytes)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Yield a transaction, committed at the end of the block, rolled back on any error.

        Raises ``StorageError`` in one plain sentence if the database is away or its disk is full.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except (DBAPIError, PoolTimeout, psycopg.Error) as error:  # COPY raises psycopg's own
            raise _translated(error) from error

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()


def _prefer_plain_bytes(connection: psycopg.Connection, _record: object) -> None:
    """Have ``bytea`` written by psycopg's C code: its first choice is Python's, for DB-API's Binary."""
    connection.adapters.register_dumper(bytes, BytesBinaryDumper)


_MEANINGS: list[tuple[tuple[type[Exception], ...], ConnectorError]] = [
    (
        (PoolTimeout,),
        StorageError("the connector's database cannot be used: every connection is taken"),
    ),
    (
        (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName),
        StorageError(
            "the connector's tables are not there or not up to date; run `ml-connector migrate`"
        ),
    ),
    (
        (psycopg.errors.DiskFull,),
        StorageError("the database's disk is full; nothing was lost, free space and retry"),
    ),
    (
        (psycopg.errors.ReadOnlySqlTransaction,),
        StorageError("the database is read-only; point ml_connector_db at the primary"),
    ),
    (
        (psycopg.errors.InsufficientPrivilege,),
        StorageError(
            "the database refuses this to the connector's role; see docs/audit.md for what needs the"
            " tables' owner"
        ),
    ),
    (
        (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure),
        RetryLater("the database gave way to another run; nothing of this step was stored"),
    ),
    (
        (psycopg.errors.LockNotAvailable,),
        RetryLater("somebody else is at what this step needs; nothing of it was stored"),
    ),
]


def _translated(error: Exception) -> Exception:
    """Return what ``error`` means; one that is no matter of the database's health as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    for kinds, meaning in _MEANINGS:
        if isinstance(cause, kinds):
            return copy(meaning)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or isinstance(cause, psycopg.OperationalError):
        first = str(cause).strip().split("\n", 1)[0]
        return StorageError(f"the connector's database cannot be used: {first}")
    return error


def lock_sync(
    connection: Connection, *, sync: str, at: str = "people", shared: bool = False
) -> None:
    """Wait until no other transaction has the sync's turn, and hold it until this one ends.

    Transactions that write many customers or contacts would otherwise lock the same rows in
    different orders and kill one another, with a call already made. Taken after the locks of
    changes, never while a call is on the wire. Deciding has a turn of its own, taken before those.

    ``shared``: others may share it meanwhile, who see to it that none writes what another reads.
    """
    lock = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    connection.execute(
        text(f"SELECT {lock}(hashtextextended(:name, 0))"),
        {"name": f"ml_connector/{at}/{sync}"},
    )


def lift_timeouts(connection: Connection) -> None:
    """Let the transaction hold its locks while other work goes on, whatever a server's time limits."""
    connection.execute(
        text("""SELECT set_config(name, '0', true) FROM pg_settings
                WHERE name IN ('idle_in_transaction_session_timeout', 'statement_timeout',
                               'transaction_timeout')""")
    )


MANY_ROWS = 5_000
"""Changes from which on Postgres' own idea of the tables is too far off for what comes next."""


def analyze(connection: Connection, *tables: str) -> None:
    """Tell Postgres how much ``tables`` hold now, after many rows came at once.

    It plans by what it knew of them until it looks by itself, within minutes or once a tenth of the
    rows has changed: a join of a few rows would read a whole table. A role that does not own them is
    warned by Postgres and goes on. A table that Postgres is looking at by itself is passed over.
    """
    # A tenth of the sample that is usual: how many rows there are is what it is for.
    connection.execute(text("SET LOCAL default_statistics_target = 10"))
    named = ", ".join(f"ml_connector.{table}" for table in tables)
    connection.execute(text(f"ANALYZE (SKIP_LOCKED) {named}"))


def copy_rows(
    connection: Connection, table: str, columns: Columns, rows: Iterable[Sequence[Any]]
) -> int:
    """Stream ``rows`` into ``table`` by COPY; return how many.

    In Postgres' binary format: half the work of the textual one on either side, above all for
    ``bytea`` and arrays. Values are not converted, so ``columns`` has the types of the table (or ``int8``, for ``NOW``).
    """
    raw = _raw(connection)
    count = 0
    arrays = {at: kind for at, kind in enumerate(columns.values()) if kind.endswith("[]")}
    if arrays:
        rows = _with_arrays(raw, arrays, rows)
    with (
        raw.cursor() as cursor,
        cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(
            [_AS_IT_IS if at in arrays else kind for at, kind in enumerate(columns.values())]
        )
        for row in rows:
            copy.write_row(row)
            count += 1
    return count


def fetch_binary(
    connection: Connection, query: str, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Return the rows of a query (parameters as ``%(name)s``) that has many ``bytea``.

    As text each byte of them is two digits on the way, to be read by either side.
    """
    with _raw(connection).cursor(binary=True) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()


def _raw(connection: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise TypeError("this needs a psycopg connection")
    return raw


def copy_new(
    connection: Connection, table: str, columns: Columns, rows: Sequence[Sequence[Any]]
) -> bool:
    """Copy ``rows`` that should not be there yet; False, with none copied, if one of them is."""
    try:
        with connection.begin_nested():
            copy_rows(connection, table, columns, rows)
    except psycopg.errors.UniqueViolation:
        return False
    return True


_AS_IT_IS = "bytea"
"""What psycopg is told of a value that is on its way already as Postgres takes it."""


def _with_arrays(
    raw: psycopg.Connection, arrays: Mapping[int, str], rows: Iterable[Sequence[Any]]
) -> Rows:
    """Yield ``rows`` with ``arrays`` (types by place) as they go on the wire.

    psycopg takes an array apart in Python, and those of a batch's rows are nearly all alike.
    """
    dumped = {at: _dumper(raw, kind) for at, kind in arrays.items()}
    for row in rows:
        told = list(row)
        for at, dump in dumped.items():
            told[at] = None if row[at] is None else dump(tuple(row[at]))
        yield tuple(told)


def _dumper(raw: psycopg.Connection, kind: str) -> Callable[[tuple[Any, ...]], Any]:
    transformer = Transformer(raw)
    transformer.set_dumper_types([raw.adapters.types[kind].array_oid], Format.BINARY)
    return lru_cache(lambda values: transformer.dump_sequence([list(values)], [PyFormat.BINARY])[0])


def load_temp_table(
    connection: Connection, table: str, columns: Columns, rows: Iterable[Sequence[Any]]
) -> int:
    """Have ``rows``, and no others, in a temporary table until the transaction ends; count them."""
    typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {table} ({typed}) ON COMMIT DROP"))
    connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 -- a name of ours
    return copy_rows(connection, table, columns, rows)


def bytea_array(values: Iterable[bytes]) -> str:
    """Return ``values`` as the text of a ``bytea[]``: written at once, not escaped byte by byte."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def json_array(texts: Collection[str]) -> str:
    """Return ``texts`` as a JSON list, for ``jsonb_array_elements_text``: written at once, too."""
    return msgspec.json.encode(list(texts)).decode()
