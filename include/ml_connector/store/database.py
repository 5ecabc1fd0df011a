"""Postgres access: transactions, advisory locks, bulk copies, and translated database errors."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import datetime
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
"""Column names mapped to their Postgres types."""


NOW = "(extract(epoch FROM clock_timestamp() - timestamptz '2000-01-01 00:00Z') * 1000000)::int8"
"""SQL for the current time in microseconds since 2000, as binary COPY takes it for a timestamp.
The column's type has to be given as ``int8``. psycopg would convert a datetime in Python. A
clock as the column's default would make Postgres insert row by row."""


PATIENT_CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""libpq's limits on a peer that no longer responds, in seconds (``tcp_user_timeout``: milliseconds).

A connection into a black hole ends after a minute. The system's own limits are two hours for an
idle connection and a quarter of an hour for a busy connection. Parameters in the URL take precedence.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES

``tcp_user_timeout`` also ends a COPY if the server takes in nothing for a minute: data then waits
although the server's kernel responds. What fits into its buffers, megabytes, is not affected, nor
is a wait for a response. The step is retried. A longer limit would replace that of keepalives, too,
so a dead server would be noticed as late. https://man7.org/linux/man-pages/man7/tcp.7.html
"""


class Database:
    """Source of transactions. Create one instance per process; threads may share it."""

    def __init__(self, url: str, *, connections: int = 10) -> None:
        """Accept any Postgres URL (``postgresql://...``) without connecting.

        Raises ``SettingsError`` if ``url`` is not a Postgres URL.
        """
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
            hide_parameters=True,  # of statements in errors: they hold personal data
            connect_args={
                **{
                    name: value
                    for name, value in PATIENT_CONNECTION.items()
                    if name not in parsed.query
                },
                "application_name": "ml-connector",
                # A prepared plan dates from when a table was small, and these tables grow. With
                # one, a claim from 24,000 changes read a table 500 times (bench/diary.md).
                "prepare_threshold": None,
            },
        )
        event.listen(self._engine, "connect", _prefer_plain_bytes)
        event.listen(self._engine, "connect", _require_utf8, insert=True)  # before SQLAlchemy's own

    @contextmanager
    def begin(self, *, patient: bool = False) -> Iterator[Connection]:
        """Yield a transaction: commit at the end of the block, roll back on any error.

        ``patient``: the block calls QuickBooks or Mailchimp, or computes, so the server's limits on
        idle and long transactions must not end it. The outcome of a call would be lost.

        Raises ``StorageError`` in one plain sentence if the database is unavailable or its disk is
        full. Raises ``SettingsError`` if the database is not UTF8, ``RetryLater`` after a deadlock, a serialisation failure or a lock time-out.
        """
        try:
            with self._engine.begin() as connection:
                if patient:
                    lift_timeouts(connection)
                yield connection
        except (DBAPIError, PoolTimeout, psycopg.Error) as error:  # psycopg.Error from COPY
            raise _translated(error) from error

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()


def _require_utf8(connection: psycopg.Connection, _record: object) -> None:
    """Refuse a database that cannot hold every name; SQL_ASCII gives bytes, which break the driver."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise SettingsError(
            f"the connector's database has the encoding {encoding}; create one with ENCODING 'UTF8' "
            "and point ml_connector_db at it"
        )


def _prefer_plain_bytes(connection: psycopg.Connection, _record: object) -> None:
    """Have psycopg's C code write ``bytea``: it prefers Python code, made for DB-API's Binary."""
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
        (psycopg.errors.IdleInTransactionSessionTimeout,),
        StorageError(
            "the database ended an idle transaction, and the step stored nothing; raise"
            " idle_in_transaction_session_timeout or retry"
        ),
    ),
    (
        (psycopg.errors.ReadOnlySqlTransaction,),
        StorageError("the database is read-only; point ml_connector_db at the primary"),
    ),
    (
        (psycopg.errors.InsufficientPrivilege,),
        StorageError(
            "the database refuses this to the connector's role; see docs/reference/audit.md for what needs the"
            " tables' owner"
        ),
    ),
    (
        (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure),
        RetryLater("the database gave way to another run; nothing of this step was stored"),
    ),
    (
        (psycopg.errors.LockNotAvailable,),
        RetryLater("another program holds a lock that this step needs; the step stored nothing"),
    ),
]


def _translated(error: Exception) -> Exception:
    """Return the connector's error for a database failure, any other error unchanged."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    for kinds, meaning in _MEANINGS:
        if isinstance(cause, kinds):
            return copy(meaning)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or isinstance(cause, psycopg.OperationalError):
        first = str(cause).strip().split("\n", 1)[0]
        if "too many clients" in first or "remaining connection slots" in first:
            return StorageError(
                "the database has no free connection; raise max_connections or retry"
            )
        return StorageError(f"the connector's database cannot be used: {first}")
    return error


def server_time(connection: Connection) -> datetime:
    """Return the database's time: the one clock that all workers share."""
    found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return found


def lock_sync(
    connection: Connection, *, sync: str, at: str = "people", shared: bool = False
) -> None:
    """Take the sync's advisory lock for the rest of the transaction.

    Without it, transactions that write many customers or contacts lock the same rows in different
    orders. They would deadlock with a call already made. Take it after the row locks of changes,
    and never while a call is in flight. Deciding has a lock of its own, taken before those.

    ``shared`` takes the lock in shared mode. Its holders ensure that none writes what another
    reads.
    """
    lock = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    connection.execute(
        text(f"SELECT {lock}(hashtextextended(:name, 0))"),
        {"name": f"ml_connector/{at}/{sync}"},
    )


TRANSACTION_TIMEOUT_SINCE = 170_000
"""The version of Postgres, as libpq counts it, that first has ``transaction_timeout``."""


def lift_timeouts(connection: Connection) -> None:
    """Let the transaction keep its locks during other work, whatever the server's time limits."""
    names = ["idle_in_transaction_session_timeout", "statement_timeout"]
    if _raw(connection).info.server_version >= TRANSACTION_TIMEOUT_SINCE:
        names.append("transaction_timeout")
    connection.execute(text("; ".join(f"SET LOCAL {name} = 0" for name in names)))


MANY_ROWS = 5_000
"""From this many changed rows on, Postgres' statistics are too stale for the next statements."""


def analyze(connection: Connection, *tables: str) -> None:
    """Run ANALYZE after a bulk load.

    Postgres plans with old statistics until autovacuum runs: within minutes, or after a tenth of
    the rows has changed. Until then, a join of a few rows would read an entire table. A role that
    does not own the tables gets a warning from Postgres and continues. A table that autovacuum is
    analysing is skipped.
    """
    # A tenth of the default sample is enough, because only the row counts matter.
    connection.execute(text("SET LOCAL default_statistics_target = 10"))
    named = ", ".join(f"ml_connector.{table}" for table in tables)
    connection.execute(text(f"ANALYZE (SKIP_LOCKED) {named}"))


def copy_rows(
    connection: Connection, table: str, columns: Columns, rows: Iterable[Sequence[Any]]
) -> int:
    """Stream ``rows`` into ``table`` by COPY; return how many.

    The binary format takes half the work of the text format on both sides, above all for ``bytea``
    and arrays. Values are not converted, so ``columns`` must have the table's types (or ``int8``
    for ``NOW``).
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
    """Return the rows of a query that has many ``bytea``; parameters are ``%(name)s``.

    In text format, each byte takes two digits that both sides have to convert.
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
    """Copy ``rows`` that should all be new; return False, with none copied, if one exists."""
    try:
        with connection.begin_nested():
            copy_rows(connection, table, columns, rows)
    except psycopg.errors.UniqueViolation:
        return False
    return True


_AS_IT_IS = "bytea"
"""The type psycopg is given for a value that is already in Postgres' binary format."""


def _with_arrays(
    raw: psycopg.Connection, arrays: Mapping[int, str], rows: Iterable[Sequence[Any]]
) -> Rows:
    """Yield ``rows`` with ``arrays`` (types by position) in binary format.

    psycopg converts arrays in Python. The arrays of a batch are nearly all equal, so results are
    cached.
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
    """Fill a temporary table with exactly ``rows`` until the transaction ends; return how many."""
    typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {table} ({typed}) ON COMMIT DROP"))
    connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 -- a name of ours
    return copy_rows(connection, table, columns, rows)


def bytea_array(values: Iterable[bytes]) -> str:
    """Return ``values`` as the text of a ``bytea[]``, built at once, not escaped byte by byte."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def text_array(values: Iterable[str]) -> str:
    """Return ``values`` as the text of a ``text[]``."""
    return "{" + ",".join([f'"{_escaped(value)}"' for value in values]) + "}"


def _escaped(value: str) -> str:
    return value if value.isalnum() else value.replace("\\", "\\\\").replace('"', '\\"')


def json_array(texts: Collection[str]) -> str:
    """Return ``texts`` as a JSON list for ``jsonb_array_elements_text``, also built at once."""
    return msgspec.json.encode(list(texts)).decode()
