"""Note members that cannot be read: they are skipped, and nothing rests on their consent (A55)."""

import structlog
from sqlalchemy import Connection

from ml_connector.model import Member, Page, Unreadable, unreadable_record
from ml_connector.rules.addresses import normal_form
from ml_connector.scope import Scope
from ml_connector.store import contacts, deciding, unreadable

NO_ADDRESS = "it shows no e-mail address"
log = structlog.get_logger(__name__)


def record_unreadable(scope: Scope, connection: Connection, page: Page[Member]) -> None:
    """Note the members of a page that cannot be read; drop the notes of those that read well.

    A contact of ours that shows no address cannot be read either. What is stored of such members
    stays unchanged. Customers whose consent rests on them are not decided until they read well.
    """
    sync, vault, system = scope.name, scope.vault, unreadable.MAILCHIMP
    well = [each for each in page if each.email_address.strip()]
    if unreadable.any_unreadable(connection, sync=sync, system=system):
        unreadable.clear_unreadable(
            connection,
            sync=sync,
            system=system,
            records=[each.contact_id for each in well if each.contact_id],
            keys=[vault.email_key(normal_form(each.email_address)) for each in well],
        )
    nameless = [
        unreadable_record(None, NO_ADDRESS, id_=each.contact_id)
        for each in page
        if each.contact_id and not each.email_address.strip()
    ]
    found = [*page.unreadable, *nameless]
    known = contacts.keys_of_ids(connection, sync=sync, ids=[each.record for each in found])
    found = [each for each in found if each.reason != NO_ADDRESS or each.record in known]
    if not found:
        return
    keys = {each.record: _keys_of(scope, each) | known.get(each.record, set()) for each in found}
    every = {key for those in keys.values() for key in those}
    forgotten = set(contacts.suppressed(connection, keys=every))
    found = [each for each in found if forgotten.isdisjoint(keys[each.record])]
    unreadable.note_unreadable(connection, sync=sync, system=system, records=found, keys=keys)
    deciding.mark_dirty(connection, sync=sync, keys=every - forgotten)
    log.warning("members_unreadable", sync=sync, rows=len(found))


def _keys_of(scope: Scope, member: Unreadable) -> set[bytes]:
    address = normal_form(member.email_address)
    return {scope.vault.email_key(address)} if address else set()
