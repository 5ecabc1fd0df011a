"""Privacy commands: the work and output of `ml-connector forget` and `rotate-keys`."""

import getpass
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

from ml_connector.errors import ConnectorError
from ml_connector.model import RunContext
from ml_connector.privacy import forget as erasing
from ml_connector.privacy import rotate_keys
from ml_connector.privacy.forget import Forgotten
from ml_connector.privacy.rotate_keys import Remaining
from ml_connector.settings import home, load_syncs
from ml_connector.store.database import Database
from ml_connector.vault import Vault, vault_from
from ml_connector_airflow.tasks.webhooks import open_syncs
from ml_connector_airflow.wiring import database_url


class NotRotated(ConnectorError):
    """Values are still encrypted with a former key."""


def preview_erasure(address: str, *, delete_contact: bool) -> Iterator[str]:
    """Yield what an erasure would do, without addresses or names."""
    with closing(Database(database_url(), connections=2)) as database:
        person = erasing.person_to_erase(database, _vault(), address)
    ids = ", ".join(f"{each.sync} {each.customer_id}" for each in person.customers)
    stay = " They stay in QuickBooks, without our lines." if ids else ""
    yield f"QuickBooks customers: {ids or 'none'}.{stay}"
    yield f"Addresses of this person: {len(person.keys)}, suppressed permanently."
    end = "deleted permanently" if delete_contact else "archived"
    yield f"Mailchimp: the contact is {end}, in the audiences of {', '.join(load_syncs())}."
    if not delete_contact:
        yield "Mailchimp archives no pending or cleaned contact: these need --delete-contact."
    yield "Here: everything about this person is destroyed, but for a keyed hash of each address."


def forget(address: str, *, delete_contact: bool) -> Forgotten:
    """Erase a person."""
    now = datetime.now(UTC)
    run = RunContext(run_id=f"forget__{now.isoformat()}", task_id="forget", actor=getpass.getuser())
    vault = _vault()
    with closing(Database(database_url(), connections=5)) as database:
        targets, closed = open_syncs(list(load_syncs()), database, run)
        return erasing.forget(
            targets,
            closed=closed,
            database=database,
            vault=vault,
            address=address,
            delete_contact=delete_contact,
            run=run,
        )


def erasure_report(done: Forgotten) -> Iterator[str]:
    """Yield what an erasure did."""
    contacts = ", ".join(f"{number} {what}" for what, number in sorted(done.contacts.items()))
    done_so_far = "Erased." if done.finished else "Erased here and where it could be reached."
    yield f"{done_so_far} Mailchimp: {contacts or 'no contact erased'}; QuickBooks: {done.blocks} cleared."
    if done.finished:
        yield f"The proof is in the audit, cause erasure:{done.erasure}."
    else:
        yield f"Erasure {done.erasure} is not finished; its proof is written when it is."
    yield from done.left


def rotate(*, check: bool) -> Iterator[str]:
    """Yield the progress of a rotation. Raises ``NotRotated`` if former keys are still in use."""
    with closing(Database(database_url(), connections=3)) as database:
        if check:
            left = rotate_keys.count_remaining(database, _vault())
            yield _progress(left)
        else:
            for left in rotate_keys.rotate(database, _vault()):
                yield _progress(left)
    number = sum(left.former.values())
    if number and check:
        raise NotRotated("former keys are still needed; run `ml-connector rotate-keys`")
    if number:
        raise NotRotated(
            f"{number} values stay under a former key ({left.closed} of them do not open: altered"
            " rows, see `ml-connector audit verify`); restart every process with the new list, then"
            " run this again. Keep the former keys until then"
        )
    yield "Everything is under the first key: the others can be removed from the list, everywhere."


def _progress(left: Remaining) -> str:
    tables = ", ".join(f"{table} {number}" for table, number in sorted(left.former.items()))
    number = sum(left.former.values())
    return f"{left.total - number} of {left.total} values are under the first key" + (
        f"; to do: {tables}" if tables else ""
    )


def _vault() -> Vault:
    return vault_from(os.environ, home())
