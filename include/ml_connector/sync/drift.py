"""Compare the audience with the staged customers, field by field. Writes to neither system.

The audience is listed, a thousand members a page; QuickBooks is not read. One page is in memory at
a time.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ml_connector.batching import prefetch
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import Customer, Member
from ml_connector.rules.addresses import normal_form
from ml_connector.rules.edits import alike
from ml_connector.rules.notes_block import said_of
from ml_connector.scope import Scope
from ml_connector.store import contacts, drifting, sharing
from ml_connector.store.drifting import KnownContact
from ml_connector.sync.targets import field_names

FIELD = "differs"
"""A merge field has another value in Mailchimp."""
ADDRESS = "address"
"""The member has another address than the customer."""
ONLY_MAILCHIMP = "only_in_mailchimp"
ONLY_QUICKBOOKS = "only_in_quickbooks"
NEXT_RUN = "next_run"
"""Rule: the next run writes QuickBooks' value."""

HEADER = (
    "what", "customer_id", "customer", "email", "field", "in QuickBooks", "in Mailchimp", "since",
    "changed", "rule",
)  # fmt: skip


class Drift(NamedTuple):
    """One difference. ``changed``: in which system; not whether by member or marketer.

    ``rule``: ``keep``, ``restore``, ``suggest``, ``fill_empty`` or ``skip`` (of ``adopt``),
    ``next_run``, or the reason why the contact is on one side only.
    """

    what: str
    customer_id: str
    customer: str
    email: str
    field: str
    quickbooks: str
    mailchimp: str
    since: datetime | None
    changed: str
    rule: str

    @property
    def cells(self) -> list[str]:
        """Return the values in the order of ``HEADER``, as text."""
        since = self.since.isoformat(timespec="seconds") if self.since else ""
        return [since if value is self.since else str(value or "") for value in self]


def iter_drift(scope: Scope, client: MailchimpClient) -> Iterator[Drift]:
    """Yield every difference between the audience and the customers as last read."""
    with scope.database.begin(patient=True) as connection:
        drifting.start_comparison(connection)
        comparison = _Comparison(scope, connection)
        pages = client.iter_members(since=None)
        for page in prefetch(pages, threads=scope.threads):
            yield from comparison.page([each for each in page if each.email_address.strip()])
        for missing in drifting.missing_members(connection, sync=scope.name, vault=scope.vault):
            yield _missing(missing.customer, missing.reason)


class _Comparison:
    def __init__(self, scope: Scope, connection: Connection) -> None:
        self._scope, self._connection = scope, connection
        self._names = field_names(scope.sync, connection)
        self._rules = scope.sync.edit_rules

    def page(self, members: list[Member]) -> Iterator[Drift]:
        """Yield the differences of one page of members."""
        scope, connection = self._scope, self._connection
        by_key = {scope.vault.email_key(normal_form(each.email_address)): each for each in members}
        known = drifting.known_members(connection, list(by_key), sync=scope.name)
        strangers = [key for key in by_key if key not in known]
        hidden = self._not_ours(strangers)
        for key, member in by_key.items():
            if key in known:
                yield from self._contact(known[key], member)
            elif key not in hidden:
                yield _stranger(member)

    def _not_ours(self, keys: list[bytes]) -> set[bytes]:
        """Return the members that other syncs own, or that are forgotten."""
        scope, connection = self._scope, self._connection
        if not keys:
            return set()
        hidden = contacts.suppressed(connection, keys=keys)
        if scope.sync.beside:
            owned = sharing.owned(
                connection, audience=scope.sync.audience_id, others=scope.sync.beside, keys=keys
            )
            hidden |= {each.email_key for each in owned}
        return hidden

    def _contact(self, known: KnownContact, member: Member) -> Iterator[Drift]:
        scope = self._scope
        customer = known.customer(scope.name, scope.vault)
        email = member.email_address
        if known.moved:
            there = customer.addresses[0] if customer.addresses else ""
            yield Drift(
                ADDRESS, customer.id, customer.display_name, email, "Email", there, email,
                member.last_changed, "in Mailchimp", "address_changed_in_mailchimp",
            )  # fmt: skip
        differing = self._differing(known, customer, member.merge_fields)
        if not differing:
            return
        sent = known.sent(scope.name, scope.vault)
        seen = known.seen(scope.name, scope.vault)
        for tag in differing:
            ours, theirs = customer.merge_fields[tag], member.merge_fields.get(tag) or ""
            since, changed, rule = member.last_changed, "in Mailchimp", self._rules[tag]
            noted = seen.since.get(tag) if seen and alike(theirs, _shown(seen, tag)) else None
            if ours != sent.get(tag, ""):
                since, changed, rule = known.changed_at, "in QuickBooks", NEXT_RUN
                if known.contact_payload is None or (noted == "" and tag not in sent):
                    since, changed, rule = None, "before the sync", scope.sync.adopt
            elif noted == "":
                since, changed, rule = None, "before the sync", scope.sync.adopt
            elif noted:
                since = datetime.fromisoformat(noted)
            yield Drift(
                FIELD, customer.id, customer.display_name, email, self._names[tag],
                said_of(ours), said_of(theirs), since, changed, rule,
            )  # fmt: skip

    def _differing(
        self, known: KnownContact, customer: Customer, shown: Mapping[str, Any]
    ) -> list[str]:
        """Return the fields that show another value; what is never sent does not count."""
        return [
            tag
            for tag, value in customer.merge_fields.items()
            if tag in self._rules
            and (value or tag in known.sent_fields)
            and not alike(shown.get(tag), value)
        ]


def _shown(seen: Any, tag: str) -> Any:
    return seen.merge_fields.get(tag, "")


def _stranger(member: Member) -> Drift:
    return Drift(
        ONLY_MAILCHIMP, "", "", member.email_address, "", "", member.status.value,
        member.last_changed, "", "no_customer",
    )  # fmt: skip


def _missing(customer: Customer, reason: str | None) -> Drift:
    return Drift(
        ONLY_QUICKBOOKS, customer.id, customer.display_name, customer.addresses[0], "",
        customer.display_name, "", customer.last_updated, "", reason or NEXT_RUN,
    )  # fmt: skip
