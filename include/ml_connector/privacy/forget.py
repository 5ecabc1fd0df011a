"""Erase a person on request: at Mailchimp, on the QuickBooks customer, and in our own data.

::

    begin       suppress; delete the data that keys identify (one transaction)
    Mailchimp   archive the contact, or delete it permanently
    QuickBooks  remove our block from Notes, delete the attached note
    audit       destroy payloads, address index and error texts; the chain stays valid
    inbox       destroy the person's data in webhook events
    finish      write one audit row as proof

Each step is idempotent and commits on its own. After a kill, rerun the command. Rerun it too if a
sync was unreachable; all other steps are done by then. The person's identity stays stored,
encrypted, until that sync is done. No source can bring the person back in between, because the
suppression comes first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from msgspec import structs

from ml_connector.activity.notes import (
    action_of,
    detach_item,
    iter_attached,
    markers_of,
    notes_item,
    write_items,
)
from ml_connector.audit import chain, trail
from ml_connector.audit.trail import Entry
from ml_connector.errors import (
    ConnectorError,
    RecordRefused,
    RetryLater,
    StaleObject,
    StopRun,
    StorageError,
    Unavailable,
)
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import Member, RunContext, Status
from ml_connector.privacy import erased_payloads, erasure
from ml_connector.privacy.erasure import Erasure
from ml_connector.privacy.person import Person, PersonCustomer
from ml_connector.privacy.person import find_person as look_up
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.protocol import BatchItem
from ml_connector.rules.addresses import normal_form, typed_address
from ml_connector.scope import OpenSync, Scope
from ml_connector.store.database import Database
from ml_connector.sync import preflight
from ml_connector.vault import Vault

TRIES = 5
"""Attempts to remove our block from a customer that another writer keeps changing."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """The result of an erasure. ``left`` lists the work left to do by hand, one sentence each.

    ``finished`` is False if a sync was unreachable. Rerun the command to do what is left.
    """

    erasure: int
    customers: int
    contacts: dict[str, int] = field(default_factory=dict)
    blocks: int = 0
    left: tuple[str, ...] = ()
    finished: bool = True


def person_to_erase(database: Database, vault: Vault, address: str) -> Person:
    """Return the person that an erasure would cover.

    Raises ``SettingsError`` if ``address`` is not an e-mail address.
    """
    normal = typed_address(address)
    with database.begin() as connection:
        return look_up(connection, normal, vault=vault)


def forget(
    targets: Sequence[OpenSync],
    *,
    database: Database,
    vault: Vault,
    address: str,
    delete_contact: bool,
    run: RunContext,
    closed: Mapping[str, StopRun] | None = None,
) -> Forgotten:
    """Erase the person at ``address``; ``delete_contact``: delete at Mailchimp, not archive.

    ``closed`` maps each sync that could not be opened to the reason. These syncs and unreachable
    systems are reported in ``left``, and the erasure stays unfinished. A rerun continues it.
    """
    with database.begin() as connection:
        begun = erasure.begin(connection, normal_form(address), actor=run.actor, vault=vault)
    eraser = _Eraser(database, vault, begun, run)
    for name, error in (closed or {}).items():
        eraser.unreached(name, error)
    for target in targets:  # all of them first: what one finds is also erased at every other
        eraser.attempt(target.scope.name, partial(eraser.look_where_contacts_are, target))
    for target in targets:
        name = target.scope.name
        eraser.attempt(name, partial(eraser.leave_mailchimp, target, delete_contact=delete_contact))
        eraser.attempt(name, partial(eraser.clear_customers, target))
    eraser.erase_payloads()
    return eraser.finish([target.scope.name for target in targets] + list(closed or {}))


class _Eraser:
    def __init__(self, database: Database, vault: Vault, begun: Erasure, run: RunContext) -> None:
        self._database, self._vault, self._run = database, vault, run
        self._erasure = begun
        self._contacts: dict[str, int] = {}
        self._blocks = 0
        self._left: list[str] = []
        self._finished = True
        self._silent: ConnectorError | None = None

    # ── reachability ──────────────────────────────────────────────────────────────────────────

    def attempt(self, name: str, step: Callable[[], None]) -> None:
        """Run a step at one system of a sync; record unreachable systems.

        After a lost response, no other call is made. The next attempt first determines whether that
        call arrived, and only one call is stored at a time.
        """
        if self._silent is not None:
            self.unreached(name, self._silent)
            return
        try:
            step()
        except StorageError:
            raise
        except (StopRun, RetryLater) as error:
            self.unreached(name, error)
            if self._erasure.calling is not None:
                self._silent = error

    def unreached(self, name: str, error: ConnectorError) -> None:
        """Record that a sync is still to be done, and why."""
        self._finished = False
        self._left.append(
            f"{name}: unreachable ({error}). Fix the cause and rerun the command; it resumes where it"
            " stopped."
        )

    # ── Mailchimp ─────────────────────────────────────────────────────────────────────────────

    def leave_mailchimp(self, target: OpenSync, *, delete_contact: bool) -> None:
        """Archive or delete the person's contacts in a sync's audience."""
        for address in self._erasure.person.addresses:
            mark = f"mailchimp/{target.scope.name}/{self._vault.email_key(address).hex()}"
            action = "delete_contact" if delete_contact else "archive"
            client = target.mailchimp
            found = client.get(address)
            status = found.status if isinstance(found, Member) else None
            unknown_outcome = self._erasure.calling == f"{mark}/{action}"
            if found is None or (status is Status.ARCHIVED and not delete_contact):
                if unknown_outcome:
                    self._wrote(target.scope, "mailchimp", [(action, "applied")], None)
                continue
            self._calling(f"{mark}/{action}")
            self._leave(target, client, status, address, action)

    def look_where_contacts_are(self, target: OpenSync) -> None:
        """Cover addresses that the person's contacts took in Mailchimp, even if unreported so far."""
        for contact in self._erasure.person.contacts:
            if contact.sync != target.scope.name:
                continue
            found = target.mailchimp.get_by_id(contact.contact_id)
            address = normal_form(found.email_address) if found is not None else ""
            if address and address not in self._erasure.person.addresses:
                with self._database.begin() as connection:
                    self._erasure = erasure.add_address(
                        connection, self._erasure, address, vault=self._vault
                    )

    def _leave(
        self,
        target: OpenSync,
        client: MailchimpClient,
        status: Status | None,
        address: str,
        action: str,
    ) -> None:
        name = target.scope.name
        call = client.delete_for_good if action == "delete_contact" else client.archive
        try:
            request_id = call(address)
        except RecordRefused as error:
            if error.code == "not_found":  # a retry after a lost response
                self._wrote(target.scope, "mailchimp", [(action, "applied")], error.request_id)
                return
            if error.code != "method_not_allowed":
                raise
            refused = [(action, "refused")]
            self._wrote(target.scope, "mailchimp", refused, error.request_id)
            self._left.append(
                f"{name}: Mailchimp archives no {status or 'such'} contact; give the command again with"
                " --delete-contact, or delete it there"
            )
            return
        self._wrote(target.scope, "mailchimp", [(action, "applied")], request_id)
        key = "deleted" if action == "delete_contact" else "archived"
        self._contacts[key] = self._contacts.get(key, 0) + 1

    # ── QuickBooks ────────────────────────────────────────────────────────────────────────────

    def clear_customers(self, target: OpenSync) -> None:
        """Remove our text from the person's customers in a sync's company."""
        for shown in self._erasure.person.customers:
            if shown.sync == target.scope.name and not shown.cleared:
                self._clear(target, shown)
                self._cleared(shown)

    def _clear(self, target: OpenSync, shown: PersonCustomer) -> None:
        client, scope = target.quickbooks, target.scope
        preflight.pin_company(scope, client)
        markers = markers_of(scope, shown.customer_id)
        mark = f"quickbooks/{scope.name}/{shown.customer_id}"
        for _ in range(TRIES):
            rows = client.fetch_by_ids([shown.customer_id])
            if rows.unreadable:
                self._left.append(
                    f"{scope.name}: QuickBooks' customer {shown.customer_id} cannot be read"
                    f" ({rows.unreadable[0].reason}); delete our lines from its notes by hand"
                )
            if not rows:
                return
            notes = str(rows[0].get("Notes") or "")
            wanted = markers.out_of(notes)
            items = []
            if wanted != notes:
                items.append(notes_item(str(rows[0]["Id"]), str(rows[0]["SyncToken"]), wanted))
            if shown.attachment_id or shown.attaching:
                attached = iter_attached(client, shown.customer_id, markers)
                items += [detach_item(attachment) for attachment, _ in attached]
            self._unknown_outcome(scope, shown, mark, {action_of(item) for item in items})
            if not items:
                return
            self._calling("/".join([mark, *(action_of(item) for item in items)]))
            if self._write(scope, client, shown, items):
                return
        raise Unavailable(
            f"QuickBooks: another program keeps writing customer {shown.customer_id};"
            " give the command again later"
        )

    def _write(
        self, scope: Scope, client: QuickBooksClient, shown: PersonCustomer, items: list[BatchItem]
    ) -> bool:
        """Write the items; return True if the customer is settled, False if it must be reread."""
        operation_id = f"erasure/{self._erasure.id}"
        written, request_id = write_items(client, items, operation_id=operation_id)
        settled, outcomes = True, []
        for item, result in written:
            if isinstance(result, dict):
                outcomes.append((action_of(item), "applied"))
                self._blocks += 1
                continue
            stale = isinstance(result, StaleObject) or not isinstance(result, RecordRefused)
            settled = settled and not stale
            outcomes.append((action_of(item), "conflict" if stale else "failed"))
            if not stale:
                self._left.append(
                    f"{scope.name}: QuickBooks refused to take our lines out of customer"
                    f" {shown.customer_id}; delete them there by hand"
                )
        self._wrote(scope, "quickbooks", outcomes, request_id, shown)
        return settled

    def _unknown_outcome(
        self, scope: Scope, shown: PersonCustomer, mark: str, due: set[str]
    ) -> None:
        """Record the writes of an earlier call with an unknown outcome."""
        announced = self._erasure.calling or ""
        if announced.startswith(f"{mark}/"):
            made = set(announced.removeprefix(f"{mark}/").split("/")) - due
            outcomes = [(action, "applied") for action in sorted(made)]
            self._wrote(scope, "quickbooks", outcomes, None, shown)

    def _cleared(self, shown: PersonCustomer) -> None:
        person = self._erasure.person
        cleared = PersonCustomer(sync=shown.sync, customer_id=shown.customer_id, cleared=True)
        customers = tuple(cleared if each is shown else each for each in person.customers)
        self._erasure = self._erasure._replace(person=structs.replace(person, customers=customers))
        self._keep()

    # ── stored progress ───────────────────────────────────────────────────────────────────────

    def _calling(self, mark: str) -> None:
        """Commit the intent to call: if its effect is found later, it was ours."""
        self._erasure = self._erasure._replace(calling=mark)
        self._keep()

    def _keep(self) -> None:
        with self._database.begin() as connection:
            erasure.save(connection, self._erasure, vault=self._vault)

    def _wrote(
        self,
        scope: Scope,
        system: str,
        outcomes: Sequence[tuple[str, str]],
        request_id: str | None,
        shown: PersonCustomer | None = None,
    ) -> None:
        """Commit the audit rows of a call, one per (action, outcome)."""
        entries = [
            Entry(
                sync=scope.name,
                system=system,
                action=action,
                reason=erasure.REASON,
                outcome=outcome,
                cause=f"erasure:{self._erasure.id}",
                customer_id=shown.customer_id if shown else None,
                request_id=request_id,
            )
            for action, outcome in outcomes
        ]
        self._erasure = self._erasure._replace(calling=None)
        with self._database.begin() as connection:
            trail.append(connection, entries, run=self._run, vault=self._vault)
            erasure.save(connection, self._erasure, vault=self._vault)

    def erase_payloads(self) -> None:
        """Destroy the data that only decryption identifies."""
        person, vault = self._erasure.person, self._vault
        chain.seal(self._database, vault)  # rows of a former release have no digest before
        place: int | None = 0
        while place is not None:
            with self._database.begin() as connection:
                place = erased_payloads.erase_audit(connection, person, vault=vault, after=place)
        for step in (erased_payloads.erase_inbox, erased_payloads.erase_second_addresses):
            after: tuple[Any, ...] | None = None
            while True:
                with self._database.begin() as connection:
                    after = step(connection, person, vault=vault, after=after)
                if after is None:
                    break

    def finish(self, syncs: Sequence[str]) -> Forgotten:
        """Write and seal the proof; leave an unfinished erasure open without one."""
        person = self._erasure.person
        self._left += [
            f"{each.sync}: the sync is no longer in the settings; what Mailchimp and QuickBooks hold"
            f" there (customer {each.customer_id}) was not touched"
            for each in person.customers
            if each.sync not in syncs
        ]
        done = Forgotten(
            erasure=self._erasure.id,
            customers=len(person.customers),
            contacts=self._contacts,
            blocks=self._blocks,
            left=tuple(dict.fromkeys(self._left)),
            finished=self._finished,
        )
        if not self._finished:
            log.warning("person_not_forgotten_everywhere", erasure=done.erasure, syncs=len(syncs))
            return done
        proof = Entry(
            sync=syncs[0] if syncs else "",
            system="connector",
            action="forget",
            reason=erasure.REASON,
            outcome="applied",
            cause=f"erasure:{self._erasure.id}",
            email_key=self._erasure.email_key,
            attempts=0,
            after={
                "addresses": len(person.keys),
                "customers": len(person.customers),
                "left": len(self._left),
            },
        )
        with self._database.begin() as connection:
            erasure.finish(connection, self._erasure)
            trail.append(connection, [proof], run=self._run, vault=self._vault)
        chain.seal(self._database, self._vault)
        log.info("person_forgotten", erasure=done.erasure, customers=done.customers)
        return done
