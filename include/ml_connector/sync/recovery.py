"""Crash recovery: reconcile calls whose worker died before recording an outcome (D7).

A batch is decided and sent again. Its lost call gets audit rows with the outcome unknown. An
archive is settled: the contact is gone by then, so there is nothing left to decide. Without this
step the archive would not be attributed to the connector (A18).
"""

from typing import Any

from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.model import ChangeState
from ml_connector.scope import Scope
from ml_connector.store import changes, claims, contacts, intents
from ml_connector.store.changes import SettledChange
from ml_connector.store.claims import StartedArchive
from ml_connector.sync.edits import seen_by
from ml_connector.sync.outcomes import archive_entry, observed_state, seen_tags


def settle_archives(scope: Scope, connection: Connection) -> int:
    """Settle archives that took effect although their response was lost; return their number.

    The audience shows whether they took effect, so fetch members first.
    """
    done = claims.take_applied_archives(connection, sync=scope.name)
    entries = [
        archive_entry(scope.name, each, outcome=ChangeState.APPLIED, before=_before(scope, each))
        for each in done
    ]
    changes.settle(
        connection, [SettledChange(id=each.id, state=ChangeState.APPLIED) for each in done]
    )
    contacts.mark_unpushed(
        connection,
        sync=scope.name,
        keys=[bytes(each.email_key) for each in done],
        undone={bytes(each.email_key) for each in done if each.cause == each.origin},
    )
    trail.append(connection, entries, run=scope.run, vault=scope.vault)
    return len(done)


def record_unknown_outcomes(scope: Scope, connection: Connection) -> int:
    """Append audit rows for batches with an unknown outcome; return the number of rows."""
    entries = [
        Entry(
            sync=scope.name,
            action=change.kind,
            reason=change.reason,
            outcome=trail.UNKNOWN_OUTCOME,
            cause=change.cause,
            customer_id=change.customer_id,
            email_key=change.email_key,
            error="no outcome was stored: the call may have been made",
            attempts=change.attempts + 1,
            origin=change.origin,
        )
        for change in intents.take_batches(connection, sync=scope.name)
    ]
    return trail.append(connection, entries, run=scope.run, vault=scope.vault)


def _before(scope: Scope, change: StartedArchive) -> dict[str, Any]:
    """Return the contact as last observed. An archive keeps its fields and tags."""
    payload, identity = change.contact_payload, contacts.identity(scope.name, change.email_key)
    sent = scope.vault.decrypt(payload, identity) if payload else {}
    seen = seen_by(scope, change)
    state = observed_state(
        str(change.previous_status),
        seen.merge_fields if seen else sent.get("merge_fields"),
        seen_tags(scope, change, sent.get("tags", ())),
        at=change.observed_at if seen else change.seen_at,
    )
    return {**state, "email": sent.get("email")}
