"""What a path leaves, without ids and times: both systems, the store and the token, comparable."""

import json
import re
from collections import Counter
from typing import Any

from sqlalchemy import Connection, text

from ml_connector.privacy import payloads
from tests.integration.company import Company
from tests.integration.traces import EVERY_ROW

LOGS = {
    "alerts": "what people were told",
    "api_usage": "counts calls, repeated ones too",
    "archive_intents": "tells of a pending change only, and none may be pending",
    "audit": "has a row for each attempt: held against the mock servers' journals",
    "audit_batches": "verified by the chain",
    "audit_checkpoints": "verified by the chain",
    "audit_rewrites": "verified by the chain",
    "audit_seals": "verified by the chain",
    "change_batches": "a run's own: none may be pending",
    "changes": "a run's own: none may be pending",
    "erasures": "has a row for each request: `erased` looks for unfinished ones",
    "pacing": "when the next call may leave",
    "plans": "a run's own",
    "token_intents": "has a row for each attempt",
    "watched_syncs": "since when a sync is watched",
}
"""Tables that are not compared row by row, with the reason. A new table is compared."""

NUMBERS = {"id", "customer_no", "seen_in", "web_id", "contact_id", "attachment_id", "change_id",
           "attachment_token", "attempts", "dedupe_key", "next_try_at", "sync_token"}  # fmt: skip
"""Columns that count, or name a row by chance."""

HEARD = {"profile_hash", "seen_tags", "status_since", "last_changed", "news", "member_rating",
         "open_rate", "click_rate"}  # fmt: skip
"""Columns of contacts as the response to a write fills them. If it was never heard, a later read
does. Which tags count as ours, in the payload, is also learned from it."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[0-9:.+Z-]*")
_SINCE = re.compile(r"(?<=Unsubscribed from the newsletter) since \d{4}-\d\d-\d\d")
"""From ``status_since``. No date is claimed for a contact whose creation was not heard of."""
_WHY_THERE = re.compile(
    r"reason=(new_customer|address_changed|fields_changed|unchanged|reactivated) "
)
"""Why a customer was last decided to be a contact: a repetition finds it unchanged."""

_TABLES = text("""
    SELECT relname FROM pg_class WHERE relnamespace = 'ml_connector'::regnamespace
       AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1""")
_COLUMNS = text("""
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_schema = 'ml_connector' AND table_name = :table ORDER BY 1""")


def state(company: Company) -> dict[str, Any]:
    """Return everything that the end of a path is compared by."""
    families = company.quickbooks_control("GET", "tokens")["families"]
    current = [each["refresh_token"] for each in families if not each["revoked"]]
    return {
        "Mailchimp": _audience(company),
        "QuickBooks": _customers(company),
        "token": company.tokens.load().refresh_token in current,
        **_store(company),
    }


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that differ, for a message: what only the one and only the other has."""
    return {
        name: (
            list((Counter(one[name]) - Counter(other[name])).elements()),
            list((Counter(other[name]) - Counter(one[name])).elements()),
        )
        if isinstance(one[name], list)
        else (one[name], other[name])
        for name in one
        if one[name] != other[name]
    }


def _audience(company: Company) -> list[str]:
    """Every member, with everything that a call done twice would show in."""
    return sorted(
        f"{email} {member['status']} {json.dumps(member['merge_fields'], sort_keys=True)} "
        f"{sorted(tag['name'] for tag in member['tags'])} "
        f"{[(each['before'], each['after'], each['by']) for each in member['status_changes']]}"
        for email, member in company.members().items()
    )


def _customers(company: Company) -> list[str]:
    """Every customer with what it shows, and every note attached."""
    found = company.quickbooks_control("GET", "customers")["customers"]
    attached = company.quickbooks_control("GET", "attachables")["attachables"]
    return sorted(
        _SINCE.sub("", line)
        for line in [
            *(f"{each['Id']} {each['DisplayName']} {each.get('Notes', '')!r}" for each in found),
            *(
                f"{each['AttachableRef'][0]['EntityRef']['value']} {each['Note']!r}"
                for each in attached
            ),
        ]
    )


def _store(company: Company) -> dict[str, list[str]]:
    with company.database.begin() as connection:
        tables = [name for name in connection.execute(_TABLES).scalars() if name not in LOGS]
        stored = {name: _rows(connection, name) for name in tables}
        for column in payloads.ENCRYPTED:
            if column.table not in {*LOGS, "contacts"}:
                rows = payloads.next_page(connection, column, after=None, page=EVERY_ROW)
                opened = (payloads.decrypted(column, row, company.vault).decode() for row in rows)
                stored[f"{column.table}.{column.column}"] = sorted(map(_timeless, opened))
        pending = text("SELECT count(*) FROM ml_connector.all_changes WHERE state = 'pending'")
        stored["pending"] = [str(connection.execute(pending).scalar_one())]
    return stored


def _rows(connection: Connection, table: str) -> list[str]:
    sealed = {each.column for each in payloads.ENCRYPTED if each.table == table}
    shown = ["''"]
    for name, kind in connection.execute(_COLUMNS, {"table": table}).all():
        if name in NUMBERS | sealed | (HEARD if table == "contacts" else set()):
            continue
        shown.append(f"'{name}=', {name}" + (" IS NOT NULL" if "time" in kind else "") + ", ' '")
    rows = connection.execute(text(f"SELECT concat({', '.join(shown)}) FROM ml_connector.{table}"))
    found = (row for row in rows.scalars() if "name=audience_ready " not in row)  # a cache
    return sorted(map(_timeless, found))


def _timeless(value: str) -> str:
    return _TIME.sub("TIME", _WHY_THERE.sub("", _SINCE.sub("", value)))
