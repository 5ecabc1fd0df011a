"""Values in the audience that a plan would overwrite: counts by merge field, and samples.

Counts and customer ids go into the forecast. Samples hold personal data: the plan's page and the
terminal show them, and they are read again each time.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ml_connector.batching import relaxed_gc
from ml_connector.display import counted
from ml_connector.rules.edits import alike
from ml_connector.rules.notes_block import said_of
from ml_connector.scope import Scope
from ml_connector.store import claims, contacts, customers, sharing
from ml_connector.store.claims import ClaimedChange
from ml_connector.sync import edits
from ml_connector.sync.targets import field_names

EXAMPLES = 3
"""Customers named for each merge field."""


class OverwriteCount(NamedTuple):
    """How many contacts show another value of a merge field, which the plan would replace.

    ``customers``: QuickBooks ids of some of them.
    """

    tag: str
    field: str
    contacts: int
    customers: list[str]

    @property
    def sentence(self) -> str:
        """Return the count in words."""
        return f"{self.field}: {counted(self.contacts, 'value')} overwritten"


class OverwriteSample(NamedTuple):
    """A value that the plan would replace, and the one from QuickBooks. Personal data."""

    field: str
    customer_id: str
    old: str
    new: str

    @property
    def sentence(self) -> str:
        """Return the sample as a line below its field's count."""
        return f"  customer {self.customer_id}: {self.old} -> {self.new}"


@relaxed_gc()
def overwrite_counts(scope: Scope, connection: Connection, *, plan_id: int) -> list[OverwriteCount]:
    """Return what a plan would overwrite, in the order of the settings."""
    numbers: defaultdict[str, int] = defaultdict(int)
    some: defaultdict[str, list[str]] = defaultdict(list)
    for tag, customer_id, _, _ in _iter_overwritten(scope, connection, plan_id=plan_id):
        numbers[tag] += 1
        if len(some[tag]) < EXAMPLES:
            some[tag].append(customer_id)
    names = field_names(scope.sync, connection)
    return [
        OverwriteCount(tag, names[tag], numbers[tag], some[tag])
        for tag in scope.sync.fields
        if numbers[tag]
    ]


def overwrite_samples(
    scope: Scope, connection: Connection, *, plan_id: int, counts: Sequence[OverwriteCount]
) -> list[OverwriteSample]:
    """Return the values behind the examples of a plan that is not written yet."""
    wanted = {(each.tag, customer) for each in counts for customer in each.customers}
    if not wanted:
        return []
    names = field_names(scope.sync, connection)
    found = _iter_overwritten(
        scope, connection, plan_id=plan_id, customer_ids={customer for _, customer in wanted}
    )
    samples = [
        OverwriteSample(names[tag], customer_id, said_of(old), said_of(new))
        for tag, customer_id, old, new in found
        if (tag, customer_id) in wanted
    ]
    order = [*names.values()]
    return sorted(samples, key=lambda each: (order.index(each.field), each.customer_id))


def _iter_overwritten(
    scope: Scope,
    connection: Connection,
    *,
    plan_id: int,
    customer_ids: Collection[str] | None = None,
) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield (merge field, customer id, value in the audience, value from QuickBooks)."""
    pages = claims.iter_undecided_updates(connection, plan_id=plan_id, customer_ids=customer_ids)
    sharers = sharing.readers(connection, sync=scope.name, audience=scope.sync.audience_id)
    for page in pages:
        updates = [change for change in page if not change.lowers]
        keys = [bytes(change.email_key) for change in updates if change.observation]
        others = sharing.sent_by_others(connection, others=sharers, keys=keys, vault=scope.vault)
        for change in updates:
            found = others.get(bytes(change.email_key), ())
            yield from _overwritten_by(scope, change, found)


def _overwritten_by(
    scope: Scope, change: ClaimedChange, others: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, Any, Any]]:
    past = _past(scope, change)
    customer = customers.decrypted(
        change.customer_payload or b"",
        sync=scope.name,
        customer_id=change.customer_id,
        vault=scope.vault,
    )
    row = edits.fields_of(scope, change, customer, past=past, moved={}, others=others)
    shown = row.seen.merge_fields if row.seen else past
    for tag, value in row.write.merge_fields.items():
        if (old := shown.get(tag)) and not alike(old, value):
            yield tag, change.customer_id, old, value


def _past(scope: Scope, change: ClaimedChange) -> dict[str, Any]:
    if change.contact_payload is None:
        return {}
    identity = contacts.identity(scope.name, bytes(change.email_key))
    return dict(scope.vault.decrypt(change.contact_payload, identity).get("merge_fields", {}))
