"""Run inside Airflow: migrate its database, then put connections, pools and the token there.

Reads what is wanted as JSON from standard input. What a person changed in the UI stays: a field
is written only if it is new, or still holds what an earlier run wrote there. For that, digests of
what was written are kept in the state folder.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.secrets import write_private

FIELDS = ("conn_type", "description", "host", "login", "password", "schema", "port")


def digest(value: object) -> str:
    """Return a fingerprint of a value that may be a secret."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def merge(
    wanted: Mapping[str, Any], present: Mapping[str, Any], written: Mapping[str, str]
) -> dict[str, Any]:
    """Merge three ways, field by field: ours where it is unchanged, theirs where it differs.

    Args:
        wanted: What this run would write.
        present: What is there now.
        written: Digests of what an earlier run wrote.
    """
    merged = {}
    for name in {*wanted, *present}:
        mine, theirs = wanted.get(name), present.get(name)
        untouched = digest(theirs) == written.get(name, digest(None))
        value = mine if untouched else theirs
        if value is not None:
            merged[name] = value
    return merged


def main() -> None:
    """Migrate and fill Airflow's database, with what standard input asks for."""
    wanted = json.load(sys.stdin)
    note = Path(os.environ["ML_CONNECTOR_HOME"]) / "seeded.json"
    written: dict[str, Any] = json.loads(note.read_text("utf-8")) if note.exists() else {}

    from airflow.utils import db  # noqa: PLC0415 - so that merge() is tested without Airflow
    from airflow.utils.session import create_session  # noqa: PLC0415

    db.initdb()
    with create_session() as session:
        for connection in wanted["connections"]:
            _put_connection(session, connection, written)
        for pool in wanted["pools"]:
            _put_pool(session, pool)
        _put_token(session, wanted["token"], written)
    write_private(note, json.dumps(written, indent=1))


def _put_connection(session: Any, wanted: Mapping[str, Any], written: dict[str, Any]) -> None:
    from airflow.models.connection import Connection  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    conn_id = wanted["conn_id"]
    mine = _flat(wanted)
    row = session.scalar(select(Connection).where(Connection.conn_id == conn_id))
    if row is None:
        row = Connection(conn_id=conn_id)
        session.add(row)
        merged = mine
    else:
        merged = merge(mine, _flat(_read(row)), written.get(conn_id, {}))
    for field in FIELDS:
        if field == "password":
            row.set_password(merged.get(field))
        else:
            setattr(row, field, merged.get(field))
    extra = {name[6:]: value for name, value in merged.items() if name.startswith("extra.")}
    # None and not {}: of an empty one Airflow's own URI makes an option that drivers refuse.
    row.set_extra(json.dumps(extra) if extra else None)
    written[conn_id] = {name: digest(value) for name, value in mine.items()}


def _read(row: Any) -> dict[str, Any]:
    return {field: getattr(row, field) for field in FIELDS} | {"extra": row.extra_dejson}


def _flat(connection: Mapping[str, Any]) -> dict[str, Any]:
    """Return a connection as one level of fields; empty is the same as not there."""
    fields = {name: connection[name] for name in FIELDS if connection.get(name)}
    return fields | {f"extra.{name}": value for name, value in connection["extra"].items()}


def _put_pool(session: Any, wanted: Mapping[str, Any]) -> None:
    from airflow.models.pool import Pool  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    if session.scalar(select(Pool).where(Pool.pool == wanted["name"])) is None:
        session.add(
            Pool(
                pool=wanted["name"],
                slots=wanted["slots"],
                description=wanted["description"],
                include_deferred=False,
            )
        )


def _put_token(session: Any, wanted: Mapping[str, Any], written: dict[str, Any]) -> None:
    """Seed the token once: afterwards the rotated one in the Variable is the only good one.

    A refresh token that was not seeded before means that a person connected again, or changed from
    the sandbox to a real company.
    """
    from airflow.models.variable import Variable  # noqa: PLC0415

    if wanted["value"] is None:  # a person connects the company on the console
        return
    name, mark = wanted["variable"], digest([wanted["value"], wanted.get("generation")])
    known = Variable.get(name, default_var=None)
    if known is None or written.get(name) != mark:
        Variable.set(name, json.dumps(wanted["value"]), session=session)
    written[name] = mark


if __name__ == "__main__":
    main()
