"""Archives whose worker ended between the call and its outcome (D7): settled when next looked at.

Any other write is simply decided and sent again. An archive is not: the contact is gone by then, so
nothing is left to decide, and without this nobody would know that it was us (A18).
"""

from sqlalchemy import Connection

from ml_connector.archive_entries import archive_entry
from ml_connector.model import ChangeState
from ml_connector.scope import Scope
from ml_connector.store import audit, changes, contacts
from ml_connector.store.changes import Settled


def settle_archives(scope: Scope, connection: Connection) -> int:
    """Settle archives that were applied without our hearing of it; return how many.

    Whether they were is known from the audience, so members are to be read first.
    """
    done = changes.archived_unheard(connection, sync=scope.name)
    entries = []
    for change in done:
        identity = contacts.identity(scope.name, bytes(change.email_key))
        payload = change.contact_payload
        shown = scope.vault.open(payload, identity) if payload else {}
        entries.append(
            archive_entry(
                scope.name,
                change,
                outcome=ChangeState.APPLIED,
                before={"status": change.previous_status, **shown},
            )
        )
    changes.settle(connection, [Settled(id=each.id, state=ChangeState.APPLIED) for each in done])
    contacts.unpush(connection, sync=scope.name, keys=[bytes(each.email_key) for each in done])
    audit.append(connection, entries, run=scope.run, vault=scope.vault)
    return len(done)
