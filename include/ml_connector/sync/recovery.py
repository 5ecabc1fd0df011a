"""Calls whose worker ended before their outcome was stored (D7): dealt with when next looked at.

A batch is simply decided and sent again; its call gets audit rows of its own, which say that nobody
heard what came of it. An archive is settled: the contact is gone by then, so nothing is left to
decide, and without this nobody would know that it was us (A18).
"""

from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.model import ChangeState
from ml_connector.scope import Scope
from ml_connector.store import changes, contacts, intents
from ml_connector.store.changes import SettledChange
from ml_connector.sync.outcomes import archive_entry


def settle_archives(scope: Scope, connection: Connection) -> int:
    """Settle archives that were applied without our hearing of it; return how many.

    Whether they were is known from the audience, so members are to be read first.
    """
    done = changes.take_applied_archives(connection, sync=scope.name)
    entries = []
    for change in done:
        identity = contacts.identity(scope.name, bytes(change.email_key))
        payload = change.contact_payload
        shown = scope.vault.decrypt(payload, identity) if payload else {}
        entries.append(
            archive_entry(
                scope.name,
                change,
                outcome=ChangeState.APPLIED,
                before={"status": change.previous_status, **shown},
            )
        )
    changes.settle(
        connection, [SettledChange(id=each.id, state=ChangeState.APPLIED) for each in done]
    )
    contacts.mark_unpushed(
        connection, sync=scope.name, keys=[bytes(each.email_key) for each in done]
    )
    trail.append(connection, entries, run=scope.run, vault=scope.vault)
    return len(done)


def record_unknown_outcomes(scope: Scope, connection: Connection) -> int:
    """Append the rows of batches that nobody heard of; return how many."""
    entries = [
        Entry(
            sync=scope.name,
            action=change.kind,
            reason=change.reason,
            outcome=trail.UNKNOWN_OUTCOME,
            cause=f"change:{change.id}",
            customer_id=change.customer_id,
            email_key=change.email_key,
            error="no outcome was stored: the call may have been made",
            attempts=change.attempts + 1,
            origin=change.origin,
        )
        for change in intents.take_batches(connection, sync=scope.name)
    ]
    return trail.append(connection, entries, run=scope.run, vault=scope.vault)
