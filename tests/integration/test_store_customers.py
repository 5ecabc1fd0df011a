"""Staging: never back to an older copy, types kept, and dirty only for what we map."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from ml_connector.errors import IncompleteRead
from ml_connector.model import Customer
from ml_connector.store import customers
from ml_connector.store.customers import Staged

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def customer(**changes: Any) -> Customer:
    values: dict[str, Any] = {
        "id": "7",
        "sync_token": "3",
        "active": True,
        "is_job": False,
        "is_project": False,
        "last_updated": NOON,
        "display_name": "Amy's Bird Sanctuary",
        "addresses": ("amy@finch.org",),
        "email_problem": None,
        "merge_fields": {"FNAME": "Amy"},
        **changes,
    }
    return Customer(**values)


def stage(company, *rows: Customer, seen_in: int = 0, unknown: bool = False) -> Staged:
    with company.database.begin() as connection:
        page = customers.encrypted(rows, sync="main", vault=company.vault)
        return customers.stage(
            connection, page, sync="main", vault=company.vault, seen_in=seen_in, unknown=unknown
        )


def settle(company) -> None:
    with company.database.begin() as connection:
        connection.execute(text("UPDATE ml_connector.customers SET dirty = false"))


def kept(company, customer_id: str = "7") -> Any:
    with company.database.begin() as connection:
        return connection.execute(
            text("SELECT * FROM ml_connector.customers WHERE customer_id = :id"),
            {"id": customer_id},
        ).one()


def copy_of(company, customer_id: str = "7") -> Customer:
    row = kept(company, customer_id)
    return customers.decrypted(
        row.payload, sync="main", customer_id=customer_id, vault=company.vault
    )


def test_a_first_load_that_meets_a_customer_staged_meanwhile_keeps_the_newer_copy(company):
    stage(company, customer(sync_token="4", merge_fields={"FNAME": "Amelia"}))  # its webhook
    page = [customer(), customer(id="8", addresses=("ben@finch.org",))]
    assert stage(company, *page, seen_in=1, unknown=True) == Staged(read=2, new=1)
    assert copy_of(company).merge_fields == {"FNAME": "Amelia"}
    assert [kept(company, each).seen_in for each in ("7", "8")] == [1, 1]


def test_a_first_load_that_lists_a_customer_twice_stages_it_once(company):
    page = [customer(), customer(sync_token="4", merge_fields={"FNAME": "Amelia"})]
    assert stage(company, *page, seen_in=1, unknown=True).new == 1
    assert kept(company).seen_in == 1


def test_a_customer_comes_out_as_it_went_in(company):
    strange = customer(
        addresses=("a@x.org", "b@x.org"),
        merge_fields={
            "FNAME": 'Zoë \\N \\. \t"quoted", 東京\n',
            "ADDRESS": {"addr1": "1 Way", "city": "", "zip": "01234"},
        },
        notes="line\r\nline\\",
        last_updated=NOON + timedelta(microseconds=123000),
    )
    stage(company, strange)
    assert copy_of(company) == strange
    row = kept(company)
    assert (row.customer_no, row.sync_token, row.active, row.is_job) == (7, "3", True, False)
    assert row.last_updated == strange.last_updated
    assert bytes(row.email_key) == company.vault.email_key("a@x.org")


def test_missing_values_are_missing_and_not_empty(company):
    stage(company, customer(addresses=(), email_problem="no_email"))
    row = kept(company)
    assert (row.email_key, row.email_problem) == (None, "no_email")
    assert (row.contact_key, row.decision, row.linked_to) == (None, None, None)


@pytest.mark.parametrize(
    ("taken", "token", "later"),
    [
        pytest.param(True, "4", 1, id="newer"),
        pytest.param(True, "4", -1, id="newer, whatever the time says"),
        pytest.param(True, "3", 0, id="the same again"),
        pytest.param(False, "2", 1, id="older, whatever the time says"),
        pytest.param(True, "10", 1, id="ten is newer than three"),
        pytest.param(False, "1", -1, id="much older"),
        pytest.param(True, "x4", 1, id="no number: the time decides"),
        pytest.param(False, "x4", -1, id="no number and earlier"),
    ],
)
def test_a34_staging_never_goes_back_to_an_older_sync_token(company, taken, token, later):
    stage(company, customer())
    then = NOON + timedelta(seconds=later)
    stage(company, customer(sync_token=token, last_updated=then, merge_fields={"FNAME": "New"}))
    assert copy_of(company).merge_fields["FNAME"] == ("New" if taken else "Amy")


@pytest.mark.parametrize(
    ("dirty", "changes"),
    [
        pytest.param(True, {"merge_fields": {"FNAME": "Amelia"}}, id="a mapped field"),
        pytest.param(True, {"merge_fields": {}}, id="a mapped field that went"),
        pytest.param(True, {"addresses": ("new@finch.org",)}, id="the address"),
        pytest.param(True, {"addresses": (), "email_problem": "no_email"}, id="no address"),
        pytest.param(True, {"active": False}, id="made inactive"),
        pytest.param(True, {"is_job": True}, id="became a job"),
        pytest.param(False, {}, id="nothing"),
        pytest.param(False, {"notes": "Call back"}, id="the notes, which go nowhere"),
        pytest.param(False, {"display_name": "Amy's Birds"}, id="a name we do not map"),
    ],
)
def test_a2_a_customer_waits_for_a_decision_only_if_what_we_map_changed(company, dirty, changes):
    stage(company, customer())
    settle(company)
    newer = customer(sync_token="4", last_updated=NOON + timedelta(seconds=5), **changes)
    staged = stage(company, newer)
    assert kept(company).dirty is dirty
    assert (staged.changed, staged.touched) == ((1, 0) if dirty else (0, 1))
    assert copy_of(company) == newer, "the copy is kept up to date all the same"


def test_a2_a_row_that_is_read_again_unchanged_counts_as_nothing(company):
    stage(company, customer())
    settle(company)
    assert stage(company, customer()) == Staged(read=1)
    assert kept(company).dirty is False


def test_a_customer_that_waits_goes_on_waiting_when_it_is_touched_again(company):
    stage(company, customer())
    stage(company, customer(sync_token="4", notes="n"))
    assert kept(company).dirty is True


def test_a_page_with_the_same_customer_twice_keeps_the_later_one(company):
    newer = customer(
        sync_token="4", last_updated=NOON + timedelta(seconds=1), merge_fields={"FNAME": "New"}
    )
    assert stage(company, newer, customer()).read == 1
    assert copy_of(company).merge_fields["FNAME"] == "New"


def test_a_full_load_knows_whom_it_saw_even_if_unchanged_or_read_again_meanwhile(company):
    stage(company, customer(), customer(id="8"), seen_in=1)
    stage(company, customer(), seen_in=2)
    stage(company, customer(sync_token="9"))  # by a webhook
    with company.database.begin() as connection:
        assert customers.count_known(connection, sync="main", seen_in=2) == 1
        assert customers.missing_from_load(connection, sync="main", seen_in=2, most=9) == ["8"]


def test_a21_whoever_is_read_again_is_no_longer_gone(company):
    stage(company, customer())
    with company.database.begin() as connection:
        customers.mark_gone(connection, sync="main", ids=["7"])
    stage(company, customer())
    assert kept(company).gone is False


@pytest.mark.parametrize("strange", ["", "007x", "9" * 30, "-1", "١٢"])
def test_ids_that_are_no_numbers_are_kept_as_they_are(company, strange):
    stage(company, customer(id=strange))
    assert copy_of(company, strange).id == strange


def test_a_load_that_broke_off_does_not_vouch_for_those_it_listed(company):
    """A21, D7: merged away between a load that was cut off and its repetition."""
    first = company.customer("First", "first@firm-mail.net")
    gone = company.customer("Gone", "gone@firm-mail.net")
    company.sync()
    short = {"kind": "body", "body": {"QueryResponse": {"totalCount": 9}}}
    company.fault("quickbooks", match={"path": "/query$", "body": "COUNT"}, action=short)
    with pytest.raises(IncompleteRead, match="counts 9 customers but listed 2"):
        company.sync(full_sync=True)
    company.clear_faults(company.quickbooks)
    company.quickbooks_control("POST", "customers/merge", {"survivor": first, "loser": gone})
    company.sync(full_sync=True)
    assert company.statuses()["gone@firm-mail.net"] == "archived"
