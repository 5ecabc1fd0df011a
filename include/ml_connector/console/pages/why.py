"""Explain from stored data why a customer is a contact or not, and why in its current state."""

from typing import Any

from sqlalchemy import Connection, Row

from ml_connector.console import words
from ml_connector.console.queries import customers
from ml_connector.console.visit import PageRequest
from ml_connector.display import pattern_time
from ml_connector.rules.notes_block import given_reason
from ml_connector.store import member_events


def of_customer(
    visit: PageRequest, connection: Connection, row: Row[Any], contact: Row[Any] | None
) -> list[str]:
    """Return the explanation of a customer in sentences, the most important first."""
    said = []
    if row.dirty:
        said.append("QuickBooks reported a change. The next run decides on it.")
    if row.merged_into:
        said.append(f"It was merged into customer {row.merged_into} in QuickBooks.")
    if row.decision is None:
        said.append("It was read from QuickBooks. The next run decides on it.")
    elif row.decision == "skipped":
        said.append(f"It is not a contact: {words.reason(row.reason)}.")
    elif row.decision == "linked":
        said.append(f"Customer {row.linked_to} is shown instead: {words.reason(row.reason)}.")
    elif row.reason == "unchanged":
        said.append("It is a contact and up to date.")
    else:
        said.append(f"It is a contact. Last change: {words.reason(row.reason)}.")
    if contact is not None:
        said += of_contact(visit, connection, contact)
    elif row.decision == "contact":
        said.append("It is not written to Mailchimp yet.")
    return said


def of_contact(visit: PageRequest, connection: Connection, contact: Row[Any]) -> list[str]:
    """Explain how a contact got its status, and what prevents us from writing to it."""
    status = contact.status
    said = [f"Status: {words.STATUS.get(status, status)}. {_because(visit, connection, contact)}"]
    if contact.suppressed:
        said.append("The address is on the list of people never to import again.")
    if contact.alias_of is not None:
        said.append(
            "The person changed to this address in Mailchimp; QuickBooks has the former one."
        )
    if contact.refused_reason:
        said.append(
            f"Mailchimp refused the last write: {words.reason(contact.refused_reason)}. "
            "It is retried when the customer changes."
        )
    if contact.parked_until:
        local = contact.parked_until.astimezone(visit.zone)
        said.append(
            f"Nothing is written before {pattern_time(local, 'd MMM HH:mm')}: Mailchimp asked to wait."
        )
    return said


def _because(visit: PageRequest, connection: Connection, contact: Row[Any]) -> str:
    """Return what caused the status, in whole sentences."""
    sync, key = visit.sync.name, bytes(contact.email_key)
    cause = customers.status_cause(connection, sync=sync, key=key, status=contact.status)
    if cause is None or cause[0] == "former":
        first = "It had this status when the audience was first read. " if cause is None else ""
        who = {"us": "This sync archived it. ", "marketer": "A user in Mailchimp archived it. "}
        archived = who.get(contact.archived_by or "", "")
        return f"{first}{archived}It {words.STATUS_MEANS.get(contact.status, '')}."
    what, at, row = cause
    when = pattern_time(at.astimezone(visit.zone), "d MMM y")
    if what == "write":
        done = words.DONE.get(row.action, "wrote")
        because = words.BECAUSE.get(row.reason) or words.reason(row.reason)
        return f"This sync {done} it on {when}, because {because}."
    did = words.HAPPENED.get(row.kind, f"Mailchimp reported {words.label(row.kind)}")
    detail: dict[str, Any] = {}
    if row.payload:
        identity = member_events.identity(sync, key, row.kind)
        detail = visit.services.vault.decrypt(row.payload, identity)
    reason = given_reason(detail)
    given = f", saying “{reason}”" if reason else ""
    seen = "reported by a webhook" if row.source == "webhook" else "seen when the audience was read"
    return f"{did} on {when}{given} ({seen})."
