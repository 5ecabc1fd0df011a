"""Virtual time: both mock servers and the connector's database believe in another hour.

Postgres looks a function up along ``search_path``. There, ahead of ``pg_catalog``, is our own
``clock_timestamp()`` while time is virtual. The connector's SQL asks no other clock.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import psycopg
from psycopg import sql

from local.lived.servers import Servers

SCHEMA = "lived"
_DEFAULTS = """
    SELECT d.adrelid::regclass::text, a.attname FROM pg_attrdef d
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    JOIN pg_class c ON c.oid = d.adrelid
    WHERE c.relnamespace = 'ml_connector'::regnamespace
      AND pg_get_expr(d.adbin, d.adrelid) = %s"""


class VirtualTime:
    """A clock that runs as the real one does, so far behind it."""

    def __init__(self, servers: Servers, database_url: str) -> None:
        self._servers, self._url = servers, database_url
        self._behind = timedelta()

    @property
    def database_url(self) -> str:
        """Return the database's URL for connections that live in virtual time."""
        path = quote(f"-c search_path={SCHEMA},pg_catalog,public")
        return f"{self._url}{'&' if '?' in self._url else '?'}options={path}"

    def now(self) -> datetime:
        """Return the virtual time."""
        return datetime.now(UTC) - self._behind

    @contextmanager
    def begun(self, at: datetime) -> Iterator[None]:
        """Let time be virtual in the block; it is real again after it, however the block ends."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(_sql("CREATE SCHEMA IF NOT EXISTS {}"))
            self._move(at)
            self._set_defaults(connection, "clock_timestamp()", f"{SCHEMA}.clock_timestamp()")
        try:
            yield
        finally:
            self._behind = timedelta()
            self._tell_servers()
            with psycopg.connect(self._url, autocommit=True) as connection:
                self._set_defaults(
                    connection, f"{SCHEMA}.clock_timestamp()", "pg_catalog.clock_timestamp()"
                )
                connection.execute(_sql("DROP SCHEMA {} CASCADE"))

    def pass_until(self, moment: datetime) -> None:
        """Move on to a moment; do nothing if it has passed."""
        if moment > self.now():
            self._move(moment)

    def _move(self, to: datetime) -> None:
        self._behind = datetime.now(UTC) - to
        self._tell_servers()
        seconds = self._behind.total_seconds()
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                _sql(
                    "CREATE OR REPLACE FUNCTION {}.clock_timestamp() RETURNS timestamptz"
                    " LANGUAGE sql VOLATILE"
                    " RETURN pg_catalog.clock_timestamp() - make_interval(secs => {})",
                    seconds,
                )
            )

    def _tell_servers(self) -> None:
        offset = {"offset_seconds": -self._behind.total_seconds()}
        self._servers.quickbooks("PUT", "clock", offset)
        self._servers.mailchimp("PUT", "clock", offset)

    def _set_defaults(
        self, connection: psycopg.Connection[tuple[object, ...]], before: str, after: str
    ) -> None:
        for table, column in connection.execute(_DEFAULTS, (before,)).fetchall():
            connection.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {}").format(
                    sql.SQL(str(table)), sql.Identifier(str(column)), sql.SQL(after)
                )
            )


def _sql(text: str, *values: object) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(SCHEMA), *map(sql.Literal, values))
