"""Take a value that a person gave a merge field in Mailchimp over into QuickBooks (A44)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from ml_connector.activity.notes import write_items
from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.errors import ConnectorError, RecordRefused, RetryLater, StaleObject
from ml_connector.model import Customer
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.protocol import BatchItem
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import customers
from ml_connector.sync import edits, preflight
from ml_connector.sync.custom_fields import CustomFields
from ml_connector.sync.staging import stage_rows

_WRITABLE = {
    "GivenName", "MiddleName", "FamilyName", "CompanyName", "Title", "Suffix",
    "PrimaryPhone.FreeFormNumber", "AlternatePhone.FreeFormNumber", "Mobile.FreeFormNumber",
    "Fax.FreeFormNumber", "WebAddr.URI",
}  # fmt: skip
"""Attributes that can be written back: one text, without an effect on other records."""


def attribute_of(sync: Sync, tag: str) -> str | None:
    """Return the attribute to write a merge field back to; None if it has no single one."""
    sources = sync.fields.get(tag, ())
    return sources[0] if len(sources) == 1 and sources[0] in _WRITABLE else None


def use_in_quickbooks(
    scope: Scope, client: QuickBooksClient, *, customer_id: str, tag: str
) -> None:
    """Write the value that a contact's merge field shows to its customer, under the SyncToken.

    Raises ``RecordRefused`` if there is nothing to write or QuickBooks refuses it, ``StaleObject``
    if the customer was changed in QuickBooks meanwhile; it is then read again. Raises ``RetryLater``
    if no response came: the audit then says that the call may have been made.
    """
    attribute = attribute_of(scope.sync, tag)
    preflight.pin_company(scope, client)
    with scope.database.begin(patient=True) as connection:
        found = customers.with_contact(connection, sync=scope.name, customer_id=customer_id)
        shown = (
            edits.edits_of(connection, scope.sync, found.email_key, vault=scope.vault)
            if found
            else []
        )
        value = next((each.value for each in shown if each.tag == tag), None)
        if attribute is None or found is None or not isinstance(value, str):
            raise RecordRefused("the value cannot be written to QuickBooks", code="no_edit")
        customer = customers.decrypted(
            found.payload, sync=scope.name, customer_id=customer_id, vault=scope.vault
        )
        error = _write(scope, connection, client, customer, found.email_key, attribute, tag, value)
    # The response of a batch has no custom fields, so a customer with some is read again (A52).
    if isinstance(error, StaleObject) or (error is None and scope.sync.custom_fields):
        found_now = client.fetch_by_ids([customer_id])
        CustomFields(scope, client).check(found_now)
        with scope.database.begin(patient=True) as connection:
            stage_rows(scope, connection, found_now)
    if error is not None:
        raise error


def _write(
    scope: Scope,
    connection: Connection,
    client: QuickBooksClient,
    customer: Customer,
    email_key: bytes,
    attribute: str,
    tag: str,
    value: str,
) -> ConnectorError | None:
    item = BatchItem(
        b_id="",
        payload={
            "Id": customer.id,
            "SyncToken": customer.sync_token,
            "sparse": True,
            **_nested(attribute, value),
        },
    )
    error: ConnectorError | None = None
    outcome = "applied"
    try:
        written, request_id = write_items(client, [item], operation_id=f"edits/{scope.name}")
    except RetryLater as unheard:  # the call may have been made
        error, request_id, outcome = unheard, unheard.request_id, trail.UNKNOWN_OUTCOME
    else:
        result = written[0][1]
        if not isinstance(result, dict):
            unnamed = RecordRefused("QuickBooks' response names no customer", code="unanswered")
            error, outcome = result or unnamed, "failed"
        elif not scope.sync.custom_fields:
            stage_rows(scope, connection, client.checked([result]))
    entry = Entry(
        sync=scope.name,
        system="quickbooks",
        action="use_edit",
        reason="changed_in_mailchimp",
        outcome=outcome,
        cause="contact",
        customer_id=customer.id,
        email_key=email_key,
        error=None if error is None else str(error),
        attempts=1,
        request_id=request_id,
        before={attribute: customer.merge_fields.get(tag, "")},
        after={attribute: value},
    )
    trail.append(connection, [entry], run=scope.run, vault=scope.vault)
    return error


def _nested(attribute: str, value: str) -> Mapping[str, Any]:
    first, _, rest = attribute.partition(".")
    return {first: {rest: value} if rest else value}
