"""Whatever one record of a response looks like, nothing breaks and the others are read (A55)."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_connector.errors import ConnectorError
from ml_connector.mailchimp import protocol as mailchimp
from ml_connector.mailchimp import webhooks as mailchimp_webhooks
from ml_connector.model import Member, MemberWrite, Unreadable, page_of
from ml_connector.quickbooks import protocol as quickbooks
from ml_connector.quickbooks import webhooks as quickbooks_webhooks
from ml_connector.rules.fields import customer_from
from ml_connector.wire.formats import decode_document
from ml_connector.wire.transport import Response
from tests.odd_json import EXAMPLES, body, mutated

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FIELDS = {
    "FNAME": ("GivenName",),
    "PHONE": ("PrimaryPhone.FreeFormNumber", "Mobile.FreeFormNumber"),
    "ADDRESS": ("BillAddr",),
    "REGION": ("CustomField[Region]",),
}
many = settings(max_examples=EXAMPLES)


def customer(number: int) -> dict[str, Any]:
    return {
        "Id": str(number),
        "SyncToken": "0",
        "MetaData": {
            "CreateTime": "2026-01-01T00:00:00-08:00",
            "LastUpdatedTime": "2026-01-02T00:00:00-08:00",
        },
        "Active": True,
        "Job": False,
        "DisplayName": f"Customer {number}",
        "GivenName": "Amy",
        "PrimaryEmailAddr": {"Address": f"c{number}@finch.org"},
        "PrimaryPhone": {"FreeFormNumber": "(555) 555-5555"},
        "BillAddr": {"Line1": "4581 Finch St.", "City": "Bayshore", "PostalCode": "94326"},
        "CustomerTypeRef": {"value": "1"},
        "CustomField": [{"DefinitionId": "1", "Name": "Region", "StringValue": "North"}],
    }


def member(number: int) -> dict[str, Any]:
    return {
        "email_address": f"c{number}@finch.org",
        "status": "subscribed",
        "contact_id": f"c{number}",
        "last_changed": "2026-01-02T00:00:00+00:00",
        "unsubscribe_reason": "",
        "merge_fields": {"FNAME": "Amy", "ADDRESS": {"addr1": "4581 Finch St."}},
        "interests": {"i1": True},
        "language": "en",
        "tags": [{"id": 1, "name": "QuickBooks"}],
    }


def response(document: Any) -> Response:
    return Response(status=200, headers={}, body=body(document))


@many
@given(odd=mutated(customer(2)), custom=st.booleans())
def test_a55_customers_beside_odd_ones_are_read(odd: list[Any], custom: bool) -> None:
    document = {"QueryResponse": {"Customer": [customer(1), *odd, customer(3)]}}
    found = quickbooks.read(response(document), custom_fields=custom)
    page = page_of(quickbooks.read_rows(found, {"region"}, latest=NOW))
    assert len(page) + len(page.unreadable) == 2 + len(odd)
    mapped = [customer_from(row, FIELDS) for row in page]
    assert {"c1@finch.org", "c3@finch.org"} <= {each for row in mapped for each in row.addresses}
    for row in page.unreadable:
        assert row.record
        assert "finch" not in row.reason


@pytest.mark.parametrize("nested", ["[", '{"a":', '{"a":['])
@pytest.mark.parametrize("depth", [60, 70, 900, *range(960, 1010, 5), 5_000, 100_000])
def test_a55_a_value_nested_too_deep_costs_only_its_record(depth: int, nested: str) -> None:
    closing = {"[": "]", "{": "}"}
    closed = "".join(closing[each] for each in reversed(nested) if each in closing)
    deep = nested * depth + ("[]" if nested.endswith(":") else "") + closed * depth
    for attribute, readable in (("Deep", 2), ("DisplayName", 1), ("Id", 1)):
        odd = msgspec.json.encode({**customer(1), attribute: 7}).decode()
        odd = odd.replace(f'"{attribute}":7', f'"{attribute}":{deep}')
        whole = f'{{"QueryResponse": {{"Customer": [{odd}, {body(customer(2)).decode()}]}}}}'
        found = quickbooks.read(Response(status=200, headers={}, body=whole.encode()))
        page = page_of(quickbooks.read_rows(found, latest=NOW))
        assert (len(page), len(page.unreadable)) == (readable, 2 - readable)


@pytest.mark.parametrize("odd", [b'[[{"a": "' + b'\\"[' * 50_000, b"[" * 100_000, b"]" * 100_000])
def test_a_body_nested_too_deep_and_cut_off_is_no_json(odd: bytes) -> None:
    assert decode_document(b'{"a":' + b"[" * 5_000 + odd) is None


@many
@given(documents=mutated({"QueryResponse": {"Customer": [customer(1)], "totalCount": 1}}))
def test_a55_an_odd_response_of_quickbooks_is_an_error_of_ours_or_read(
    documents: list[Any],
) -> None:
    for document in documents:
        with suppress(ConnectorError):
            found = quickbooks.read(response(document), custom_fields=True)
            quickbooks.read_rows(found, {"region"}, latest=NOW)
            quickbooks.custom_field_names(found)
            quickbooks.read_types(found)
            quickbooks.read_attachables(found)
            quickbooks.read_company(found)
            quickbooks.read_total(found)


FAULT = {"Fault": {"Error": [{"Message": "m", "Detail": "d", "code": "6240"}], "type": "T"}}


@many
@given(odd=mutated({"bId": "c2", "Customer": customer(2)}), faults=mutated({"bId": "c4", **FAULT}))
def test_a55_items_of_a_batch_beside_odd_ones_are_read(odd: list[Any], faults: list[Any]) -> None:
    items = [
        {"bId": "c1", "Customer": customer(1)},
        *odd,
        *faults,
        {"bId": "c3", "Customer": customer(3)},
    ]
    found = quickbooks.read(response({"BatchItemResponse": items, "time": "now"}))
    results = quickbooks.read_batch(found)
    written = [each for key in ("c1", "c3") if isinstance(each := results[key], dict)]
    assert len(quickbooks.check_rows(written, latest=NOW)) == 2


GONE = {"Id": "2", "status": "Deleted"}


@many
@given(odd=mutated(GONE))
def test_a55_tombstones_beside_odd_ones_are_read(odd: list[Any]) -> None:
    rows = [{**GONE, "Id": "1"}, *odd, {**GONE, "Id": "3"}]
    document = {"CDCResponse": [{"QueryResponse": [{"Customer": rows}]}], "time": "x"}
    found = quickbooks.read(response(document))
    assert {"1", "3"} <= {str(row.get("Id")) for row in quickbooks.read_changes(found)}
    assert quickbooks.read_time(found) is None


@many
@given(odd=mutated(member(2)))
def test_a55_members_beside_odd_ones_are_read(odd: list[Any]) -> None:
    document = {"members": [member(1), *odd, member(3)], "total_items": 3}
    found = mailchimp.read(response(document), mailchimp.MembersPage)
    page = page_of(mailchimp.parse_member(each, latest=NOW) for each in found["members"])
    assert len(page) + len(page.unreadable) == 2 + len(odd)
    assert {"c1@finch.org", "c3@finch.org"} <= {each.email_address for each in page}
    assert all("finch" not in row.reason for row in page.unreadable)


@many
@given(odd=mutated(member(2)))
def test_a55_a_single_odd_member_is_unreadable_or_read(odd: list[Any]) -> None:
    for each in odd:
        with suppress(ConnectorError):
            found = mailchimp.parse_member(mailchimp.read(response(each)), latest=NOW)
            assert isinstance(found, Member | Unreadable)


@many
@given(
    odd=mutated(member(2)),
    errors=mutated(
        {"email_address": "c4@finch.org", "error": "e", "error_code": "E", "field": "F"}
    ),
)
def test_a55_rows_of_a_batch_beside_odd_ones_have_their_outcome(
    odd: list[Any], errors: list[Any]
) -> None:
    document = {
        "new_members": [member(1), *odd],
        "updated_members": [member(3)],
        "errors": errors,
    }
    sent = [MemberWrite(email_address=f"c{n}@finch.org", merge_fields={}) for n in (1, 2, 3, 4)]
    found = mailchimp.read(response(document), mailchimp.BatchDocument)
    result = mailchimp.parse_batch(found, sent)
    answered = [row.email_address for row in (*result.created, *result.updated, *result.refused)]
    assert sorted(answered) == [row.email_address for row in sent]
    assert "c1@finch.org" in {row.email_address for row in result.created}
    assert "c3@finch.org" in {row.email_address for row in result.updated}


@many
@given(
    odd=mutated(
        {
            "email_address": "c2@finch.org",
            "activity": [{"action": "open", "timestamp": "2026-01-02T00:00:00+00:00"}],
        }
    )
)
def test_a55_an_odd_recipient_of_a_campaign_is_left_out(odd: list[Any]) -> None:
    for each in odd:
        found = mailchimp.parse_email_activity(each)
        assert found is None or found.email_address == each["email_address"]


@many
@given(
    odd=mutated(
        {
            "id": "c1",
            "type": "automation",
            "send_time": "2026-01-01T00:00:00+00:00",
            "emails_sent": 3,
            "opens": {"opens_total": 2},
        }
    )
)
def test_a55_an_odd_report_is_read_as_far_as_it_can_be(odd: list[Any]) -> None:
    for each in mailchimp.objects({"reports": odd}, "reports"):
        found = mailchimp.parse_campaign(each)
        assert all(isinstance(number, int) for number in found.figures)


@many
@given(fields=mutated({"tag": "A", "name": "A", "type": "dropdown", "options": {"choices": ["x"]}}))
def test_a55_odd_merge_fields_are_read(fields: list[Any]) -> None:
    for each in mailchimp.objects({"merge_fields": fields}, "merge_fields"):
        mailchimp.parse_merge_field(each)


REALM = "9341450000000001"


def cloud_event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "intuit.sandbox",
        "type": "qbo.customer.updated.v1",
        "time": "2026-01-02T00:00:00Z",
        "intuitentityid": str(number),
        "intuitaccountid": REALM,
        "data": {},
    }


def entity(number: int) -> dict[str, Any]:
    return {
        "name": "Customer",
        "id": str(number),
        "operation": "Update",
        "lastUpdated": "2026-01-02T00:00:00Z",
    }


@many
@given(cloud=mutated(cloud_event(2)), old=mutated(entity(2)))
def test_events_of_quickbooks_beside_odd_ones_are_read(cloud: list[Any], old: list[Any]) -> None:
    former = {"realmId": REALM, "dataChangeEvent": {"entities": [entity(1), *old, entity(3)]}}
    for document in ([cloud_event(1), *cloud, cloud_event(3)], {"eventNotifications": [former]}):
        events = quickbooks_webhooks.read_events(body(document), realms={REALM})
        named = {event.entity_id for event in events if event.state == "pending"}
        assert {"1", "3"} <= named or [event.reason for event in events] == ["not_json"]


FORM = {
    "type": "unsubscribe",
    "fired_at": "2026-01-02 00:00:00",
    "data[list_id]": "a1",
    "data[email]": "c1@finch.org",
    "data[action]": "unsub",
    "data[merges][FNAME]": "Amy",
}


@many
@given(forms=mutated(FORM), raw=st.binary(max_size=40))
def test_an_odd_event_of_mailchimp_is_stored_or_quarantined(forms: list[Any], raw: bytes) -> None:
    given_fields = [each for each in forms if isinstance(each, dict)]
    texts = [{key: str(each) for key, each in fields.items()} for fields in given_fields]
    encoded = [urlencode(fields, errors="replace").encode() for fields in texts]
    for sent in (*encoded, *(each + b"&" + raw for each in encoded), raw):
        event = mailchimp_webhooks.read_event(
            sent, sync="main", audience_id="a1", email_key=str.encode
        )
        assert event.state in ("pending", "ignored", "quarantined")
