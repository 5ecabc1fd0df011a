"""Contact store: member statuses as read, and the data our writes left in the audience."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import pandas as pd
from sqlalchemy import Connection, text

from ml_connector.model import Status
from ml_connector.rules.decide import CONTACT_COLUMNS, ContactRow
from ml_connector.store.database import (
    NOW,
    bytea_array,
    copy_new,
    copy_rows,
    fetch_binary,
    load_temp_table,
    lock_sync,
)
from ml_connector.store.frames import unhexed
from ml_connector.vault import Vault


def profile_hash(merge_fields: Mapping[str, Any], vault: Vault) -> bytes | None:
    """Return a hash of the merge fields shown; None for a response without any.

    Ignores empty fields: whether Mailchimp lists them depends on the call.
    """
    if not merge_fields:
        return None
    shown: dict[str, Any] = {}
    for tag, value in merge_fields.items():
        if value is None or value == "":  # by far the most common case
            continue
        told = _parts_of(value) if isinstance(value, dict) else str(value)
        if told:
            shown[tag] = told
    return vault.fields_hash(shown)


def _parts_of(address: Mapping[str, Any]) -> dict[str, str]:
    return {part: str(text) for part, text in address.items() if text}


def forget_audience(connection: Connection, *, sync: str) -> None:
    """Delete a sync's contacts after its audience was swapped (A36); mark its customers dirty."""
    lock_sync(connection, sync=sync)
    for table in ("contacts", "former_contacts", "observations"):
        connection.execute(
            text(f"DELETE FROM ml_connector.{table} WHERE sync = :sync"),  # noqa: S608 -- constants
            {"sync": sync},
        )
    connection.execute(
        text("""UPDATE ml_connector.customers
                SET contact_key = NULL, opted_out = false, opted_out_at = NULL, dirty = true
                WHERE sync = :sync"""),
        {"sync": sync},
    )


def rows(connection: Connection, *, sync: str, keys: Collection[bytes]) -> dict[bytes, ContactRow]:
    """Return the contacts stored under ``keys``, by key."""
    anybody = connection.execute(
        text("SELECT EXISTS (SELECT 1 FROM ml_connector.contacts WHERE sync = :sync)"),
        {"sync": sync},
    ).scalar_one()
    if not anybody:
        return {}
    found = fetch_binary(
        connection,
        f"""SELECT {", ".join(CONTACT_COLUMNS)}
            FROM unnest(CAST(%(keys)s AS bytea[])) AS k(key), LATERAL (
                SELECT * FROM ml_connector.contacts
                WHERE sync = %(sync)s AND email_key = k.key OFFSET 0) found""",  # noqa: S608
        {"sync": sync, "keys": bytea_array(keys)},
    )
    return {row[0]: ContactRow(*row) for row in found}


def present(connection: Connection, *, sync: str, keys: Collection[bytes]) -> set[bytes]:
    """Return those of ``keys`` that are in the audience by our records, archived ones included."""
    rows = connection.execute(
        text("""SELECT email_key FROM ml_connector.contacts
                WHERE sync = :sync AND email_key = ANY(:keys)
                  AND status NOT IN ('forgotten', 'absent', 'moved')"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return {bytes(row.email_key) for row in rows}


def sent(
    connection: Connection, *, sync: str, keys: Collection[bytes], vault: Vault
) -> dict[bytes, dict[str, Any]]:
    """Return the merge fields of our last write, by contact."""
    rows = connection.execute(
        text("""SELECT email_key, payload FROM ml_connector.contacts
                WHERE sync = :sync AND email_key = ANY(:keys) AND payload IS NOT NULL"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    opened = ((bytes(k), vault.decrypt(payload, identity(sync, bytes(k)))) for k, payload in rows)
    return {key: shown.get("merge_fields", {}) for key, shown in opened}


def sent_before_move(
    connection: Connection, *, sync: str, keys: Collection[bytes], vault: Vault
) -> dict[bytes, dict[str, Any]]:
    """Return the merge fields that were sent to members at the address they left for one of ``keys``."""
    rows = connection.execute(
        text("""SELECT k.email_key, o.email_key AS former, o.payload
                FROM ml_connector.contacts k
                JOIN ml_connector.contacts o ON o.sync = k.sync AND o.email_key = k.alias_of
                WHERE k.sync = :sync AND k.email_key = ANY(:keys) AND o.payload IS NOT NULL"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return {
        bytes(row.email_key): vault.decrypt(row.payload, identity(sync, bytes(row.former))).get(
            "merge_fields", {}
        )
        for row in rows
    }


SOME_UNLINKED = 5
"""Contacts without a contact id that are returned at a time."""


class Handle(NamedTuple):
    """What to ask Mailchimp for a contact by: its contact id, or the address we wrote it to."""

    email_key: bytes
    contact_id: str | None
    email: str | None


def handles(
    connection: Connection, *, sync: str, keys: Collection[bytes], vault: Vault
) -> list[Handle]:
    """Return how to ask for each of the contacts ``keys`` that the audience is known to have had."""
    rows = connection.execute(
        text("""SELECT email_key, contact_id, payload FROM ml_connector.contacts
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return [
        Handle(
            bytes(row.email_key),
            row.contact_id,
            vault.decrypt(row.payload, identity(sync, bytes(row.email_key))).get("email")
            if row.payload
            else None,
        )
        for row in rows
    ]


def unlinked(
    connection: Connection, *, sync: str, keys: Collection[bytes] | None, vault: Vault
) -> list[Handle]:
    """Return contacts in the audience without a contact id: those of ``keys``, or a few of all.

    A contact that Mailchimp refused may be in no audience.
    """
    some = f"LIMIT {SOME_UNLINKED}" if keys is None else "AND email_key = ANY(:keys)"
    found = connection.execute(
        text(f"""SELECT email_key FROM ml_connector.contacts
                 WHERE sync = :sync AND contact_id IS NULL AND refused_reason IS NULL
                   AND status NOT IN ('archived', 'forgotten', 'absent', 'moved') {some}"""),  # noqa: S608
        {"sync": sync, "keys": bytea_array(keys or ())},
    ).scalars()
    return handles(connection, sync=sync, keys=[bytes(key) for key in found], vault=vault)


def aliases(connection: Connection, *, sync: str, keys: Collection[bytes]) -> list[bytes]:
    """Return the addresses that the members who left ``keys`` took in Mailchimp (A28)."""
    rows = connection.execute(
        text("""SELECT email_key FROM ml_connector.contacts
                WHERE sync = :sync AND alias_of = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).scalars()
    return [bytes(key) for key in rows]


def keys_of_ids(
    connection: Connection, *, sync: str, ids: Collection[str]
) -> dict[str, set[bytes]]:
    """Return the addresses at which the members with these contact ids are known."""
    if not ids:
        return {}
    found: dict[str, set[bytes]] = {}
    rows = connection.execute(
        text("""SELECT contact_id, email_key FROM ml_connector.contacts
                WHERE sync = :sync AND contact_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    )
    for row in rows:
        found.setdefault(row.contact_id, set()).add(bytes(row.email_key))
    return found


def any_suppressed(connection: Connection) -> bool:
    """Return whether any person was ever forgotten."""
    anybody = text("SELECT EXISTS (SELECT 1 FROM ml_connector.suppressions)")
    return bool(connection.execute(anybody).scalar_one())


def suppressed(connection: Connection, *, keys: Collection[bytes]) -> set[bytes]:
    """Return those of ``keys`` that are suppressed: they must never be imported again."""
    if not any_suppressed(connection):
        return set()
    rows = connection.execute(
        text("SELECT email_key FROM ml_connector.suppressions WHERE email_key = ANY(:keys)"),
        {"keys": bytea_array(keys)},
    ).all()
    return {bytes(row.email_key) for row in rows}


def hand_over(connection: Connection, *, sync: str, owners: pd.DataFrame) -> None:
    """Assign a new owner to contacts that already show the right data."""
    moved = [
        {"sync": sync, "email_key": key, "owner": owner}
        for key, owner in unhexed(owners, ["email_key", "owner"], hexed=("email_key",))
    ]
    if moved:
        connection.execute(
            text("""UPDATE ml_connector.contacts SET owner = :owner
                    WHERE sync = :sync AND email_key = :email_key"""),
            moved,
        )


def release(connection: Connection, *, sync: str, keys: Collection[bytes]) -> None:
    """Remove the owner of orphaned contacts that cannot be archived (A16b)."""
    connection.execute(
        text("""UPDATE ml_connector.contacts SET owner = NULL, pushed_hash = NULL
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    )


def requeue(connection: Connection, *, sync: str, keys: Collection[bytes], now: datetime) -> None:
    """Let the next run write refused or parked contacts again, except after a final refusal.

    A parked contact is due but stays parked: its creation may have been made unseen (A42b).
    """
    lock_sync(connection, sync=sync)
    connection.execute(
        text("""UPDATE ml_connector.contacts
                SET refused_hash = NULL, refused_reason = NULL,
                    parked_until = CASE WHEN parked_until > :now THEN :now ELSE parked_until END
                WHERE sync = :sync AND email_key = ANY(:keys)
                  AND coalesce(refused_reason, '') NOT IN ('forgotten', 'compliance')"""),
        {"sync": sync, "keys": bytea_array(keys), "now": now},
    )


def mark_moved(connection: Connection, *, sync: str, keys: Collection[bytes]) -> None:
    """Record that the members at ``keys`` have left these addresses.

    A contact that is not linked to where its member is now has no ``previous_status``: what the
    person decided there is unknown.
    """
    connection.execute(
        text("""UPDATE ml_connector.contacts
                SET status = 'moved',
                    previous_status = CASE WHEN status = 'moved' THEN previous_status END
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    )


def set_status(connection: Connection, *, sync: str, statuses: Mapping[bytes, Status]) -> None:
    """Store the statuses of contacts after writes that carried nothing but a status."""
    if statuses:
        connection.execute(
            text("""UPDATE ml_connector.contacts
                    SET status = :status, previous_status = status, seen_at = clock_timestamp(),
                        status_since = clock_timestamp(),
                        news = news + CASE WHEN news > 0 THEN 1 ELSE 0 END
                    WHERE sync = :sync AND email_key = :key AND status <> :status"""),
            [
                {"sync": sync, "key": key, "status": status.value}
                for key, status in statuses.items()
            ],
        )


def show_again(connection: Connection, *, sync: str, keys: Collection[bytes]) -> None:
    """Let the customers of contacts show their activity again although there is no new event."""
    if keys:
        connection.execute(
            text("""UPDATE ml_connector.contacts SET news = news + 1
                    WHERE sync = :sync AND email_key = ANY(:keys) AND news > 0"""),
            {"sync": sync, "keys": bytea_array(keys)},
        )


def mark_unpushed(
    connection: Connection, *, sync: str, keys: Collection[bytes], undone: Collection[bytes] = ()
) -> None:
    """Clear the hash of our last write to contacts: they were archived and show no data of ours.

    ``undone``: those that an undo archived. What it took back is not written again (E3).
    """
    lock_sync(connection, sync=sync)
    connection.execute(
        text("""UPDATE ml_connector.contacts
                SET pushed_hash = NULL,
                    refused_hash = CASE WHEN email_key = ANY(:undone) AND pushed_hash IS NOT NULL
                                        THEN pushed_hash ELSE refused_hash END,
                    refused_reason = CASE WHEN email_key = ANY(:undone) AND pushed_hash IS NOT NULL
                                          THEN 'undone' ELSE refused_reason END
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys), "undone": bytea_array(undone)},
    )


class ContactState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a contact after one of our calls, as Mailchimp responded.

    ``payload`` holds what the contact shows: address, merge fields and our tags, as JSON-able
    values. It is None if the call changed nothing there. ``seen_tags`` are the keys of the
    contact's tags. It is None if the call changed no tags or they are unknown. ``profile_hash`` is
    the hash of the merge fields in the response. It is None if they are unknown, so that the next
    read accepts them unchanged.
    """

    email_key: bytes
    status: Status
    owner: str | None
    previous_status: str | None = None
    pushed_hash: bytes | None = None
    sent_fields: Sequence[str] = ()
    tagged_inactive: bool = False
    archived_by: str | None = None
    refused_hash: bytes | None = None
    refused_reason: str | None = None
    parked_until: datetime | None = None
    parked_times: int = 0
    profile_hash: bytes | None = None
    seen_tags: Collection[bytes] | None = None
    payload: Mapping[str, Any] | None = None


_WRITTEN = {
    "sync": "text", "email_key": "bytea", "status": "text", "owner": "text",
    "previous_status": "text", "pushed_hash": "bytea", "sent_fields": "text[]",
    "tagged_inactive": "bool", "archived_by": "text", "refused_hash": "bytea",
    "refused_reason": "text", "parked_until": "timestamptz", "parked_times": "int4",
    "profile_hash": "bytea", "seen_tags": "bytea[]", "payload": "bytea",
}  # fmt: skip
_ANEW = _WRITTEN | {"seen_at": "int8", "status_since": "int8", "news": "int8"}
_LISTED = ", ".join(_WRITTEN)
_ASSIGNED = ", ".join(f"{column} = excluded.{column}" for column in [*_WRITTEN][2:-2])
_NEWS = (Status.UNSUBSCRIBED, Status.CLEANED)
"""Statuses of a new contact that count as a member event to write to its customer."""


def identity(sync: str, email_key: bytes) -> str:
    """Return the identity that a contact's payload is encrypted for."""
    return f"contacts/{sync}/{email_key.hex()}"


def record(
    connection: Connection,
    written: Iterable[ContactState],
    *,
    sync: str,
    vault: Vault,
    unknown: bool = False,
) -> None:
    """Store contacts as they are after our calls; copy unknown contacts straight in.

    ``unknown``: the caller found none of them stored a moment ago, so the lookup is skipped.
    """
    rows = {row[1]: row for row in _rows(list(written), sync, vault)}
    lock_sync(connection, sync=sync)
    now = connection.execute(text(f"SELECT {NOW}")).scalar_one()

    def new(keys: Iterable[bytes]) -> list[tuple[Any, ...]]:
        return [(*rows[key], now, now, int(rows[key][2] in _NEWS)) for key in keys]

    if unknown and copy_new(connection, "ml_connector.contacts", _ANEW, new(rows)):
        return
    past = _known(connection, sync=sync, keys=rows)
    added = (key for key in rows if key not in past)
    copy_rows(connection, "ml_connector.contacts", _ANEW, new(added))
    if not past:
        return
    load_temp_table(connection, "written_contacts", _WRITTEN, [rows[key] for key in past])
    connection.execute(
        text(f"""INSERT INTO ml_connector.contacts AS known ({_LISTED})
                 SELECT {_LISTED} FROM written_contacts ORDER BY email_key
                 ON CONFLICT (sync, email_key) DO UPDATE SET {_ASSIGNED},
                     seen_at = clock_timestamp(),
                     status_since = CASE WHEN known.status = excluded.status
                                         THEN known.status_since ELSE clock_timestamp() END,
                     news = known.news + CASE WHEN known.status <> excluded.status
                                               AND known.news > 0 THEN 1 ELSE 0 END,
                     seen_tags = coalesce(excluded.seen_tags, known.seen_tags),
                     payload = coalesce(excluded.payload, known.payload)""")  # noqa: S608
    )


def _known(connection: Connection, *, sync: str, keys: Collection[bytes]) -> set[bytes]:
    rows = connection.execute(
        text("""SELECT found.email_key FROM unnest(CAST(:keys AS bytea[])) AS k(key), LATERAL (
                    SELECT email_key FROM ml_connector.contacts
                    WHERE sync = :sync AND email_key = k.key OFFSET 0) found"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return {bytes(row.email_key) for row in rows}


def _rows(written: Sequence[ContactState], sync: str, vault: Vault) -> Iterator[tuple[Any, ...]]:
    shown = [(w.payload, identity(sync, w.email_key)) for w in written if w.payload is not None]
    seals = iter(vault.encrypt_each(shown))
    for each in written:
        yield (
            sync,
            each.email_key,
            each.status,
            each.owner,
            each.previous_status,
            each.pushed_hash,
            list(each.sent_fields),
            each.tagged_inactive,
            each.archived_by,
            each.refused_hash,
            each.refused_reason,
            each.parked_until,
            each.parked_times,
            each.profile_hash,
            None if each.seen_tags is None else sorted(each.seen_tags),
            None if each.payload is None else next(seals),
        )


def orphaned(connection: Connection, *, sync: str) -> set[bytes]:
    """Return orphaned contacts: no customer is at their address or was last represented there.

    A run decided to archive them but ended before it did.
    """
    rows = connection.execute(
        # Set operations read each table once. A join looked up every contact among the customers.
        text("""SELECT email_key FROM ml_connector.contacts
                WHERE sync = :sync AND owner IS NOT NULL
                  AND status NOT IN ('archived', 'forgotten', 'absent', 'moved')
                EXCEPT
                SELECT email_key FROM ml_connector.customers WHERE sync = :sync
                EXCEPT
                SELECT contact_key FROM ml_connector.customers
                WHERE sync = :sync AND contact_key IS DISTINCT FROM email_key"""),
        {"sync": sync},
    ).all()
    return {bytes(row.email_key) for row in rows}


def any_written(connection: Connection, *, sync: str) -> bool:
    """Return whether the sync ever wrote a contact."""
    found = connection.execute(
        text("""SELECT EXISTS (SELECT 1 FROM ml_connector.contacts
                               WHERE sync = :sync AND pushed_hash IS NOT NULL)"""),
        {"sync": sync},
    )
    return bool(found.scalar_one())


def count(connection: Connection, *, sync: str) -> int:
    """Return how many members of the audience are known."""
    found = connection.execute(
        text("SELECT count(*) FROM ml_connector.contacts WHERE sync = :sync"), {"sync": sync}
    )
    return int(found.scalar_one())


def by_status(connection: Connection, *, sync: str) -> dict[str, int]:
    """Return the number of contacts that belong to a customer, by status."""
    rows = connection.execute(
        text("""SELECT status, count(*) AS contacts FROM ml_connector.contacts
                WHERE sync = :sync AND owner IS NOT NULL GROUP BY status ORDER BY status"""),
        {"sync": sync},
    ).all()
    return {row.status: row.contacts for row in rows}
