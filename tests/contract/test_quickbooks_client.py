"""The QuickBooks mock server, driven by a public client it was not written for (python-quickbooks)."""

import pytest
from intuitlib.client import AuthClient
from quickbooks import QuickBooks
from quickbooks.batch import batch_create, batch_update
from quickbooks.cdc import change_data_capture
from quickbooks.exceptions import GeneralException, ObjectNotFoundException, ValidationException
from quickbooks.objects import Attachable, AttachableRef, Customer, EmailAddress, Ref
from quickbooks.objects.company_info import CompanyInfo


class SandboxQuickBooks(QuickBooks):
    """The client with its host replaced, the one thing it has no argument for."""

    url = ""

    @property
    def api_url(self):
        return f"{self.url}/v3"


@pytest.fixture
def qb(quickbooks, monkeypatch):
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # oauthlib's own switch for plain HTTP
    auth = AuthClient("sandbox-client", "sandbox-secret", "http://x.test", quickbooks.discovery_url)
    SandboxQuickBooks.url = quickbooks.url
    return SandboxQuickBooks(
        auth_client=auth,
        refresh_token="sandbox-refresh-token",
        company_id="9341450000000001",
        minorversion=75,
    )


def made(name, **fields):
    customer = Customer()
    customer.DisplayName = name
    for field, value in fields.items():
        setattr(customer, field, value)
    return customer


def note_on(entity, entity_id, text):
    reference = AttachableRef()
    reference.EntityRef = Ref()
    reference.EntityRef.type, reference.EntityRef.value = entity, entity_id
    attachable = Attachable()
    attachable.Note = text
    attachable.AttachableRef = [reference]
    return attachable


def test_the_sample_company_has_its_29_customers(qb):
    customers = Customer.all(qb=qb)
    assert Customer.count(qb=qb) == 29
    assert [c.DisplayName for c in customers[:2]] == [
        "Amy's Bird Sanctuary",
        "Bill's Windsurf Shop",
    ]
    assert customers[0].PrimaryEmailAddr.Address == "Birds@Intuit.com"


def test_a_customer_is_created_with_the_next_id_and_read_back(qb):
    email = EmailAddress()
    email.Address = "jdrew@myemail.com"
    saved = made("King's Groceries", GivenName="James", PrimaryEmailAddr=email).save(qb=qb)
    assert (saved.Id, saved.SyncToken) == ("58", "0")
    read = Customer.get(58, qb=qb)
    assert (read.PrimaryEmailAddr.Address, read.PrintOnCheckName) == (
        "jdrew@myemail.com",
        "King's Groceries",
    )


def test_a_save_raises_the_sync_token_by_one(qb):
    customer = Customer.get(2, qb=qb)
    customer.Notes = "Called on Monday"
    assert customer.save(qb=qb).SyncToken == "1"
    assert Customer.get(2, qb=qb).Notes == "Called on Monday"


def test_a_stale_sync_token_is_refused_with_5010(qb):
    first, second = Customer.get(2, qb=qb), Customer.get(2, qb=qb)
    first.Notes = "one"
    first.save(qb=qb)
    second.Notes = "two"
    with pytest.raises(Exception, match="Stale Object Error") as caught:
        second.save(qb=qb)
    assert caught.value.error_code == 5010


@pytest.mark.parametrize("name", ["Cool Cars", "COOL CARS", "Books by Bessie", "Emily Platt"])
def test_a_name_taken_by_any_customer_vendor_or_employee_is_refused_with_6240(qb, name):
    with pytest.raises(Exception, match="Duplicate Name Exists Error") as caught:
        made(name).save(qb=qb)
    assert caught.value.error_code == 6240


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (2050, {"GivenName": "x" * 101}),
        (2050, {"Notes": "x" * 2001}),
        (2010, {"Nickname": "Jim"}),
        (2040, {"GivenName": "a:b"}),
    ],
)
def test_fields_that_break_the_reference_are_refused(qb, code, fields):
    with pytest.raises(ValidationException) as caught:
        made("Field Test", **fields).save(qb=qb)
    assert caught.value.error_code == code


def test_a_customer_that_is_not_there_is_610(qb):
    with pytest.raises(ObjectNotFoundException):
        Customer.get(999, qb=qb)


def test_an_inactive_customer_is_hidden_renamed_and_still_readable(qb):
    customer = Customer.get(3, qb=qb)
    customer.Active = False
    customer.save(qb=qb)
    assert Customer.count(qb=qb) == 28
    assert Customer.count("Active IN (true, false)", qb=qb) == 29
    assert Customer.get(3, qb=qb).DisplayName == "Cool Cars (deleted)"
    made("Cool Cars").save(qb=qb)


def test_ids_and_quoted_names_can_be_queried(qb):
    assert [c.Id for c in Customer.choose(["5", "6"], qb=qb)] == ["5", "6"]
    assert [c.Id for c in Customer.filter(DisplayName="Amy's Bird Sanctuary", qb=qb)] == ["1"]


def test_one_bad_item_leaves_the_rest_of_a_batch_alone(qb):
    result = batch_create([made("Good One"), made("Cool Cars"), made("Good Two")], qb=qb)
    assert [c.DisplayName for c in result.successes] == ["Good One", "Good Two"]
    assert [fault.Error[0].code for fault in result.faults] == ["6240"]


def test_a_batch_updates_customers(qb):
    customers = Customer.choose(["2", "3"], qb=qb)
    for customer in customers:
        customer.Notes = "from a batch"
    assert [c.SyncToken for c in batch_update(customers, qb=qb).successes] == ["1", "1"]


def test_a_batch_of_31_is_refused_with_1040(qb):
    items = [{"bId": str(n), "Query": "select * from Customer"} for n in range(31)]
    with pytest.raises(GeneralException) as caught:
        qb.post(f"{qb.api_url}/company/{qb.company_id}/batch", json_of(items))
    assert caught.value.error_code == 1040


def json_of(items):
    import json

    return json.dumps({"BatchItemRequest": items})


def test_a_note_is_attached_queried_and_deleted(qb):
    saved = note_on("Customer", "1", "Mailchimp: subscribed").save(qb=qb)
    where = "AttachableRef.EntityRef.Type = 'customer' AND AttachableRef.EntityRef.value = '1'"
    assert [a.Note for a in Attachable.where(where, qb=qb)] == ["Mailchimp: subscribed"]
    assert len(saved.Id) == 19
    saved.SyncToken = "0"
    saved.delete(qb=qb)
    assert Attachable.where(where, qb=qb) == []


@pytest.mark.parametrize(
    ("code", "entity", "entity_id", "text"),
    [(6000, "Customer", "999", "x"), (6050, "Spaceship", "1", "x"), (6000, "Customer", "1", "")],
)
def test_a_note_without_text_or_target_is_refused(qb, code, entity, entity_id, text):
    with pytest.raises(Exception, match=r".") as caught:
        note_on(entity, entity_id, text).save(qb=qb)
    assert caught.value.error_code == code


def test_cdc_lists_what_changed_and_nothing_else(qb, quickbooks):
    quickbooks.control.patch("customers/4", Notes="changed")
    changed = change_data_capture([Customer], "2026-01-01T00:00:00Z", qb=qb)
    assert [c.Id for c in changed.Customer] == ["4"]


def test_the_company_tells_its_name(qb):
    assert CompanyInfo.get("9341450000000001", qb=qb).CompanyName == "Sandbox Company_US_1"
