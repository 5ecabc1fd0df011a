"""Databases for tests: one stays per slot and is emptied between tests, which costs less than a copy.

A test that changes the schema or the database's settings needs no word about it: the change is
noticed and the database made anew.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from local.postgres import EmbeddedPostgres
from ml_connector.store.database import Database

_numbers = itertools.count(1)

SHAPE = """
SELECT md5(string_agg(part, ';' ORDER BY part)) FROM (
    SELECT concat_ws(',', c.oid, relname, relkind, relpersistence, reloptions, relpartbound) AS part
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'ml_connector'
    UNION ALL
    SELECT concat_ws(',', attrelid, attnum, attname, atttypid, attnotnull, attisdropped)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'ml_connector'
    UNION ALL SELECT concat_ws(',', oid, tgenabled) FROM pg_trigger
    UNION ALL SELECT concat_ws(',', oid, convalidated) FROM pg_constraint
    UNION ALL SELECT concat_ws(',', adrelid, adnum, adbin) FROM pg_attrdef
    UNION ALL SELECT concat_ws(',', oid, md5(prosrc)) FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT concat_ws(',', nspname, nspacl) FROM pg_namespace
    WHERE nspname NOT LIKE 'pg\\_t%'
    UNION ALL SELECT concat_ws(',', setrole, setconfig) FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT version_num FROM ml_connector.alembic_version
) AS parts
"""

# Whoever is still at work, or holds an advisory lock, is left from the test before.
EVICT = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND (state <> 'idle' OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'))
"""

# Triggers that keep the audit as it is do not fire for a replica. Counting is by the first row.
EMPTY = """
DO $$
DECLARE
    tables text[];
    filled text[] := '{}';
    found bool;
    name text;
BEGIN
    SET LOCAL session_replication_role = replica;
    SELECT array_agg(format('%I.%I', nspname, relname)) INTO tables
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = 'ml_connector' AND relkind = 'r' AND relname <> 'alembic_version';
    FOREACH name IN ARRAY tables LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', name) INTO found;
        IF found THEN
            filled := filled || name;
        END IF;
    END LOOP;
    IF filled <> '{}' THEN
        EXECUTE 'TRUNCATE ' || array_to_string(filled, ', ') || ' CASCADE';
    END IF;
    PERFORM setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE schemaname = 'ml_connector' AND last_value IS NOT NULL;
END $$
"""


@dataclass(eq=False)
class Leased:
    """A migrated, empty database, and the connector's own connection to it."""

    name: str
    url: str
    database: Database = field(init=False)
    shape: str = ""

    def __post_init__(self) -> None:
        self.database = Database(self.url)


class Databases:
    """Hands out migrated, empty databases of one server."""

    def __init__(self, server: EmbeddedPostgres, template: str) -> None:
        self._server, self._template = server, template
        self._free: list[Leased] = []

    @contextmanager
    def leased(self) -> Iterator[Leased]:
        """Lend an empty database; the next borrower finds it empty again, whatever happened to it."""
        lent = self._free.pop() if self._free else self._made()
        try:
            yield lent
        finally:
            if self._emptied(lent):
                self._free.append(lent)
            else:
                lent.database.close()
                self._server.drop_database(lent.name)

    @contextmanager
    def copied(self, template: str) -> Iterator[Leased]:
        """Lend a copy of another database."""
        lent = self._copy_of(template)
        try:
            yield lent
        finally:
            lent.database.close()
            self._server.drop_database(lent.name)

    def _copy_of(self, template: str) -> Leased:
        name = f"t{os.getpid()}_{next(_numbers)}"
        self._server.create_database(name, template=template)
        return Leased(name, self._server.url(name))

    def _made(self) -> Leased:
        made = self._copy_of(self._template)
        with self._connected(made) as connection:
            made.shape = _shape(connection)
        return made

    def _connected(self, lent: Leased) -> psycopg.Connection:
        return psycopg.connect(self._server.url(lent.name, driver=""), autocommit=True)

    def _emptied(self, lent: Leased) -> bool:
        """Empty a database; False if it is not as it was made."""
        try:
            with self._connected(lent) as connection:
                if connection.execute(EVICT).fetchall():
                    lent.database.close()
                if _shape(connection) != lent.shape:
                    return False
                connection.execute("SET lock_timeout = '10s'")
                connection.execute(EMPTY)
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return False
        return True


def _shape(connection: psycopg.Connection) -> str:
    row = connection.execute(SHAPE).fetchone()
    assert row is not None
    return str(row[0])
