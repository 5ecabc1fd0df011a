"""Customer pages: search by name, address or QuickBooks id, and explain one customer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row
from starlette.responses import Response

from ml_connector.activity.use_edit import attribute_of
from ml_connector.console import words
from ml_connector.console.pages import timeline, why
from ml_connector.console.pages.customer_list import filter_of, frame
from ml_connector.console.queries import customers as customer_queries
from ml_connector.console.queries import timeline as timeline_queries
from ml_connector.console.queries.customer_list import EVERYBODY, CustomerEntry, CustomerFilter
from ml_connector.console.visit import PageRequest
from ml_connector.errors import RecordRefused
from ml_connector.model import RunContext
from ml_connector.rules.addresses import normalised
from ml_connector.rules.notes_block import said_of
from ml_connector.scope import Scope
from ml_connector.store import customers
from ml_connector.sync import edits, names, targets

LONGEST = 200
"""A search term has at most this many characters."""


def find(visit: PageRequest) -> Response:
    """Run a search. It is a POST, because a URL would leave the search term in logs."""
    wanted = visit.form.get("wanted", "").strip()[:LONGEST]
    within = filter_of(visit, visit.form)
    if not wanted:
        return visit.elsewhere(f"/customers?{within.query()}")
    found: list[CustomerEntry] = []
    scan = contact = None
    sync, vault = visit.sync.name, visit.services.vault
    if "@" in wanted:
        key = vault.email_key(normalised(wanted) or wanted.lower())
        with visit.services.database.begin() as connection:
            found = customer_queries.by_key(connection, sync=sync, key=key, vault=vault)
            rows = customer_queries.contact_rows(connection, sync=sync, keys=[key])
        contact = next((row for row in rows if bytes(row.email_key) == key), None)
    else:
        after = visit.form.get("after", "")
        if wanted.isalnum() and not after:
            with visit.services.database.begin() as connection:
                found = customer_queries.by_id(
                    connection, sync=sync, customer_id=wanted, vault=vault
                )
        if not found or not wanted.isdecimal():
            scan = customer_queries.scan_names(
                visit.services.database.begin,
                sync=sync,
                needle=wanted,
                within=within if within.given else CustomerFilter(given=EVERYBODY),
                vault=vault,
                after=after,
            )
            found = [*found, *scan.found]
    shown: dict[str, Any] = {"wanted": wanted, "found": found, "scan": scan, "contact": contact}
    if visit.partial:
        return visit.page("customers_found.html", given=within.given, **shown)
    return visit.page("customers.html", page=None, sort="", **frame(visit, within), **shown)


def customer(visit: PageRequest) -> Response:
    """Show one customer: its identity, its contact, the explanation and the timeline."""
    sync, vault, customer_id = visit.sync.name, visit.services.vault, visit.path["id"]
    with visit.services.database.begin() as connection:
        row = customer_queries.customer_row(connection, sync=sync, customer_id=customer_id)
        if row is None:
            return visit.page(
                "message.html",
                status=404,
                title="No such customer",
                said=f"QuickBooks customer {customer_id} has not been read by this sync.",
            )
        keys = [bytes(key) for key in {row.email_key, row.contact_key} if key]
        former = customer_queries.former_keys(connection, sync=sync, customer_id=customer_id)
        keys = list(dict.fromkeys([*keys, *former]))
        known = customer_queries.contact_rows(connection, sync=sync, keys=keys)
        keys = list(dict.fromkeys([*keys, *(bytes(each.email_key) for each in known)]))
        if visit.partial:
            return _older(visit, connection, customer_id, keys)
        own = _contact_of(row, known)
        return visit.page(
            "customer.html",
            id=customer_id,
            row=row,
            customer=customers.decrypted(
                row.payload, sync=sync, customer_id=customer_id, vault=vault
            ),
            contact=own,
            shows=customer_queries.contact_shows(own, sync=sync, vault=vault) if own else {},
            others=[each for each in known if own is None or each.email_key != own.email_key],
            sharers=customer_queries.others_at_address(
                connection, sync=sync, key=row.email_key, but=customer_id, vault=vault
            )
            if row.email_key
            else [],
            block=customer_queries.block_row(connection, sync=sync, customer_id=customer_id),
            edits=_edits(visit, connection, own),
            names=names.names_of(visit.sync, connection),
            apps=visit.services.outside.apps(visit.sync),
            why=why.of_customer(visit, connection, row, own),
            **_timeline(visit, connection, customer_id, keys),
        )


def contact(visit: PageRequest) -> Response:
    """Show a contact by its key. It may have no customer."""
    sync, vault = visit.sync.name, visit.services.vault
    try:
        key = bytes.fromhex(visit.path["key"])
    except ValueError:
        key = b""
    with visit.services.database.begin() as connection:
        known = customer_queries.contact_rows(connection, sync=sync, keys=[key])
        row = next((each for each in known if bytes(each.email_key) == key), None)
        if row is None:
            return visit.page(
                "message.html",
                status=404,
                title="No such contact",
                said="Nothing is known of this address.",
            )
        keys = [bytes(each.email_key) for each in known]
        if visit.partial:
            return _older(visit, connection, None, keys)
        return visit.page(
            "contact.html",
            contact=row,
            shows=customer_queries.contact_shows(row, sync=sync, vault=vault),
            sharers=customer_queries.by_key(connection, sync=sync, key=key, vault=vault),
            edits=_edits(visit, connection, row),
            names=names.names_of(visit.sync, connection),
            apps=visit.services.outside.apps(visit.sync),
            why=why.of_contact(visit, connection, row),
            **_timeline(visit, connection, None, keys),
        )


def _edits(
    visit: PageRequest, connection: Connection, contact: Row[Any] | None
) -> list[dict[str, Any]]:
    """Return the values of people that stay in the contact, for display."""
    if contact is None:
        return []
    names = targets.field_names(visit.sync, connection)
    found = edits.edits_of(
        connection, visit.sync, bytes(contact.email_key), vault=visit.services.vault
    )
    return [
        {
            **each._asdict(),
            "name": names[each.tag],
            "value": said_of(each.value),
            "usable": bool(each.value) and attribute_of(visit.sync, each.tag) is not None,
        }
        for each in found
    ]


def use(visit: PageRequest) -> Response:
    """Write a value that was changed in Mailchimp to the customer in QuickBooks."""
    try:
        visit.services.outside.use_in_quickbooks(
            visit.sync, visit.path["id"], visit.path["tag"], actor=visit.caller.name
        )
    except RecordRefused as error:
        said = words.sentence(str(error))
        return visit.page("notice.html", status=409, ok=False, said=said)
    said = "QuickBooks has the value now. The next run ends the difference."
    return visit.page("notice.html", ok=True, said=said)


def restore(visit: PageRequest) -> Response:
    """Have the next run bring QuickBooks' value of a field back."""
    scope = Scope(
        sync=visit.sync,
        database=visit.services.database,
        vault=visit.services.vault,
        run=RunContext(actor=visit.caller.name),
        clock=visit.services.clock,
    )
    try:
        key = bytes.fromhex(visit.path["key"])
    except ValueError:
        key = b""
    if not edits.ask_to_restore(scope, key=key, tag=visit.path["tag"]):
        return visit.page("notice.html", status=404, ok=False, said="Nothing differs there.")
    return visit.page("notice.html", ok=True, said="The next run brings QuickBooks' value back.")


def _contact_of(row: Row[Any], known: Sequence[Row[Any]]) -> Row[Any] | None:
    """Return a customer's contact: at its address, or where it was last represented."""
    by_key = {bytes(each.email_key): each for each in known}
    for key in (row.email_key, row.contact_key):
        if key and bytes(key) in by_key:
            return by_key[bytes(key)]
    return None


def _timeline(
    visit: PageRequest, connection: Connection, customer_id: str | None, keys: Sequence[bytes]
) -> dict[str, Any]:
    page = timeline_queries.read_timeline(
        connection,
        sync=visit.sync.name,
        realm=visit.realm,
        customer_id=customer_id,
        keys=keys,
        vault=visit.services.vault,
        before=_time(visit.query.get("before")),
    )
    reader = timeline.Reader(customer_id, targets.field_names(visit.sync, connection))
    return {
        "field_names": reader.names,
        "entries": [timeline.entry_of(each, reader) for each in page.entries],
        "older": page.older.isoformat() if page.older else "",
        "address": visit.request.url.path,
    }


def _older(
    visit: PageRequest, connection: Connection, customer_id: str | None, keys: Sequence[bytes]
) -> Response:
    return visit.page("timeline.html", **_timeline(visit, connection, customer_id, keys))


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None
