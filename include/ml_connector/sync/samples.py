"""Show a mapping with real customers: what the audience has of them, and what a sync would make of it.

Reads both systems and stores nothing. The result is personal data.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Self

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import Member, MergeField
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.rules.attributes import left_out
from ml_connector.rules.countries import country_code
from ml_connector.rules.edits import plan_adoption
from ml_connector.rules.fields import Target, customer_from
from ml_connector.rules.notes_block import said_of
from ml_connector.settings import CUSTOMER_TYPES, Sync

READ = 100
"""Customers to choose from: one call."""
SHOWN = 3

NOT_THERE = "not in the audience"


class SampleField(NamedTuple):
    """One merge field of a sample: its value in the audience, and after a sync.

    ``note``: why the value of QuickBooks is not written, if it is not.
    """

    tag: str
    name: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleContact:
    """A customer and its contact before and after a sync."""

    customer_id: str
    name: str
    email: str
    status_before: str
    status_after: str
    fields: list[SampleField]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Customers as read from QuickBooks, with their members. ``home``: the company's country."""

    rows: Sequence[tuple[Mapping[str, Any], Member | None]]
    fields: Mapping[str, MergeField]
    home: str

    @classmethod
    def read(cls, sync: Sync, quickbooks: QuickBooksClient, mailchimp: MailchimpClient) -> Self:
        """Read a few customers that a sync makes contacts, those with most attributes, and members.

        Four to six calls. Raises as the clients do.
        """
        found = list(future_contacts(quickbooks.some(READ), sync))
        found.sort(key=lambda each: -len(each[0]))
        members = []
        for raw, address in islice(found, SHOWN):
            member = mailchimp.get(address)
            members.append((raw, member if isinstance(member, Member) else None))
        return cls(
            rows=members,
            fields={field.tag: field for field in mailchimp.merge_fields()},
            home=sync.default_country or country_code(quickbooks.company().country) or "",
        )

    def shown(self, sync: Sync) -> list[SampleContact]:
        """Return the samples as the settings of ``sync`` would have them."""
        return [self._contact(sync, raw, member) for raw, member in self.rows]

    def _contact(self, sync: Sync, raw: Mapping[str, Any], member: Member | None) -> SampleContact:
        target = Target(fields=self.fields, home=self.home)
        customer = customer_from(raw, sync.fields, target=target)
        there = dict(member.merge_fields) if member else {}
        wanted = {tag: value for tag, value in customer.merge_fields.items() if value}
        plan = plan_adoption(wanted, there, adopt=sync.adopt if member else "overwrite")
        fields = [
            SampleField(
                tag,
                self.fields[tag].name if tag in self.fields else tag,
                said_of(there.get(tag, "")),
                said_of(plan.write.get(tag, there.get(tag, ""))),
                _note(tag, customer.unfit, plan.kept),
            )
            for tag in sync.fields
        ]
        before = str(member.status) if member else NOT_THERE
        return SampleContact(
            customer_id=customer.id,
            name=customer.display_name,
            email=customer.addresses[0],
            status_before=before,
            status_after=before if member else sync.new_contact_status,
            fields=fields,
        )


def future_contacts(
    rows: Iterable[Mapping[str, Any]], sync: Sync
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the customers that become contacts of their own, each with its address.

    Skips inactive customers, projects, customers that the settings leave out, jobs among them, and
    those whose address an earlier customer has. Rules on customer types are not applied: rows lack their names.
    """
    untyped = sync.model_copy(
        update={
            "include": {
                key: each for key, each in sync.include.items() if key not in CUSTOMER_TYPES
            },
            "exclude": {
                key: each for key, each in sync.exclude.items() if key not in CUSTOMER_TYPES
            },
        }
    )
    taken: set[str] = set()
    for raw in rows:
        customer = customer_from(raw, {}, left_out=left_out(raw, untyped, {}))
        if not customer.active or not customer.addresses or customer.left_out:
            continue
        if customer.is_project or (customer.is_job and not sync.include_jobs):
            continue
        if customer.addresses[0] in taken:
            continue
        taken.add(customer.addresses[0])
        yield raw, customer.addresses[0]


def _note(tag: str, unfit: Mapping[str, str], kept: Mapping[str, str]) -> str:
    if tag in unfit:
        return f"not sent: {unfit[tag]}"
    return "stays: it was there before" if tag in kept else ""
