"""Compare the audience with the company, derived again by independent code.

Only the sandbox can be asked this way. The connector's own planning is not used: a mistake in it
must not be able to confirm itself.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
# Why the connector may leave a customer out of the audience although it has a good address.
PERSONS_CHOICE = {
    *("archived_by_marketer", "forgotten", "suppressed", "opted_out_elsewhere"),
    *("compliance", "fake_email", "invalid_email", "merge_fields", "invalid", "parked"),
    *("signup_throttled", "unanswered"),
}


@dataclass(frozen=True)
class Expected:
    """What follows from a company's customers.

    Attributes:
        contacts: Address to the id of the customer that owns the contact.
        linked: Customer id to the id of the owner whose contact it shares.
        skipped: Customer id to the reason.
    """

    contacts: Mapping[str, str]
    linked: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


def expected(customers: Iterable[Mapping[str, Any]], *, include_jobs: bool = True) -> Expected:
    """Work out who should be a contact, who shares one and who has none (behaviour A5 to A10)."""
    sharing: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    skipped: dict[str, str] = {}
    for customer in customers:
        if not customer.get("Active", True) or customer.get("IsProject"):
            continue
        if customer.get("Job") and not include_jobs:
            continue
        text = (customer.get("PrimaryEmailAddr") or {}).get("Address") or ""
        addresses = [part.strip().lower() for part in re.split("[,;]", text) if part.strip()]
        valid = [address for address in addresses if _ADDRESS.fullmatch(address)]
        if valid:
            sharing[valid[0]].append(customer)
        else:
            skipped[customer["Id"]] = "invalid_email" if addresses else "no_email"
    contacts: dict[str, str] = {}
    linked: dict[str, str] = {}
    for address, owners in sharing.items():
        first, *others = sorted(owners, key=lambda one: (bool(one.get("Job")), int(one["Id"])))
        contacts[address] = first["Id"]
        linked |= {other["Id"]: first["Id"] for other in others}
    return Expected(contacts, linked, skipped)


def differences(
    customers: Iterable[Mapping[str, Any]],
    members: Iterable[Mapping[str, Any]],
    *,
    decisions: Mapping[str, tuple[str, str]],
    sync: Mapping[str, Any],
) -> list[str]:
    """Say everything that is not as it should be; an empty list means exactly right.

    Args:
        customers: All customers of the company, as the API gives them.
        members: All members of the audience, archived ones too.
        decisions: Customer id to the connector's decision and its reason or the owner's id.
        sync: The sync's settings.
    """
    by_id = {customer["Id"]: customer for customer in customers}
    right = expected(by_id.values(), include_jobs=sync.get("include_jobs", True))
    found = {member["email_address"].strip().lower(): member for member in members}
    live = {address for address, member in found.items() if member["status"] != "archived"}
    wrong: list[str] = []
    for address, owner in right.contacts.items():
        if address in live:
            wrong += _wrong_fields(owner, by_id[owner], found[address], sync["fields"])
        elif decisions.get(owner, ("", ""))[1] not in PERSONS_CHOICE:
            wrong.append(f"customer {owner} has no contact")
    ours = set(sync.get("tags", ()))
    for address in live - set(right.contacts):
        tags = {tag["name"] for tag in found[address].get("tags", ())}
        gone = sync.get("on_inactive", "archive") == "archive" and ours and ours <= tags
        if gone:
            wrong.append(f"contact {found[address]['id']} belongs to no active customer")
    for customer, owner in right.linked.items():
        if decisions.get(customer) != ("linked", owner):
            wrong.append(f"customer {customer} is not linked to customer {owner}")
    for customer, reason in right.skipped.items():
        if decisions.get(customer) != ("skipped", reason):
            wrong.append(f"customer {customer} is not skipped as {reason}")
    return wrong


def _wrong_fields(
    owner: str,
    customer: Mapping[str, Any],
    member: Mapping[str, Any],
    mapping: Mapping[str, str | list[str]],
) -> list[str]:
    wrong = []
    for tag, sources in mapping.items():
        ranked = [sources] if isinstance(sources, str) else sources
        values = [_value(customer, source) for source in ranked]
        value = next((one for one in values if one), "")
        there = member["merge_fields"].get(tag) or ""
        # Addresses change their form on the way; whether they arrive is the contract tests' job.
        if not isinstance(value, dict) and str(value).strip() != str(there):
            wrong.append(f"the contact of customer {owner} has another {tag}")
    return wrong


def _value(customer: Mapping[str, Any], path: str) -> Any:
    value: Any = customer
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
