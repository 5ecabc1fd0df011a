"""Whole runs, and several at once: rows A32 to A36 of docs/reference/behaviour.md."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from ml_connector.errors import IncompleteRead
from ml_connector.model import Kind
from ml_connector.store import changes, claims
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.push import push_shard

AMY = "amy@finch.org"
OTHER = "ffffffffff"


def pending(company):
    with company.database.begin() as connection:
        return connection.execute(
            text("SELECT count(*) FROM ml_connector.all_changes WHERE state = 'pending'")
        ).scalar_one()


def lose_pages(company, answer):
    """From now on QuickBooks lists ``answer`` whatever is asked for; it still counts rightly."""
    for asked_in in ("query", "body"):
        match = {asked_in: r"(?i)select\W+(?!count)\*?.*from\W+customer"}
        company.fault("quickbooks", match=match, action={"kind": "body", "body": answer})


@pytest.mark.parametrize("listed", [0, 1])
def test_a32_list_shorter_than_the_count_fails_the_run_before_planning(company, listed):
    first = company.customer("Amy", AMY)
    company.customer("Ben", "ben@finch.org")
    company.sync()
    body = company.quickbooks_control("GET", f"customers/{first}")
    page = {"Customer": [body][:listed], "startPosition": 1, "maxResults": listed}
    lose_pages(company, {"QueryResponse": page if listed else {}})
    company.clear_journals()
    with pytest.raises(IncompleteRead, match="counts 2 customers"):
        company.sync(full_sync=True)
    assert company.writes() == []
    assert pending(company) == 0


def test_a32_company_that_says_it_is_empty_archives_nobody(company):
    company.customer("Amy", AMY)
    company.sync()
    company.quickbooks_control("POST", "company", {"empty": True})
    with pytest.raises(IncompleteRead, match="no customers, but 1 are known"):
        company.sync(full_sync=True)
    assert company.statuses() == {AMY: "subscribed"}


def test_a32_company_that_was_always_empty_is_fine(company):
    company.sync()
    company.sync(full_sync=True)
    assert company.statuses() == {}


def test_a33_preview_stores_the_plan_and_writes_nothing(company):
    amy = company.customer("Amy", AMY)
    report = company.sync(preview=True)
    assert report.changes == [("create", "new_customer", "preview", 1)]
    assert (company.writes(), company.audit(), company.decisions()) == (
        [],
        [],
        {amy: (None, None, None)},
    )
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}


def test_a33_preview_of_an_archive_and_an_update_writes_nothing(company):
    amy = company.customer("Amy", AMY)
    ben = company.customer("Ben", "ben@finch.org")
    company.sync()
    company.clear_journals()
    company.edit(amy, Active=False)
    company.edit(ben, GivenName="Benjamin")
    report = company.sync(preview=True)
    assert [change[:3] for change in report.changes] == [
        ("archive", "inactive", "preview"),
        ("update", "fields_changed", "preview"),
    ]
    assert company.writes() == []


def test_a34_staging_never_goes_back_to_an_older_customer(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    body = company.quickbooks_control("GET", f"customers/{amy}")
    company.edit(amy, GivenName="Amelia")
    company.sync()
    stale = {"QueryResponse": {"Customer": [body], "startPosition": 1, "maxResults": 1}}
    lose_pages(company, stale)
    company.sync(ids=[amy])
    assert company.fields(AMY) == {"FNAME": "Amelia"}


def test_a34_change_decided_on_an_older_customer_is_decided_again_just_before_its_call(company):
    def edited_meanwhile():
        company.edit(amy, GivenName="Newest")
        company.fetch(company.scope(), ids=[amy])

    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, GivenName="Newer")
    company.clear_journals()
    company.sync(before_push=edited_meanwhile)
    (call,) = company.writes()
    assert call["body"]["members"][0]["merge_fields"]["FNAME"] == "Newest"
    assert pending(company) == 0


def test_a34_address_changed_between_plan_and_call(company, contract):
    def moved_meanwhile():
        company.move(amy, "amelia@finch.org")
        company.fetch(company.scope(), ids=[amy])

    amy = company.customer("Amy", AMY)
    company.sync(before_push=moved_meanwhile)
    assert company.statuses() == {"amelia@finch.org": "subscribed"}


LEAVING = {
    "made inactive": lambda company, amy: company.edit(amy, Active=False),
    "merged away": lambda company, amy: company.quickbooks_control(
        "POST", "customers/merge", {"survivor": company.customer("Survivor"), "loser": amy}
    ),
    "address emptied": lambda company, amy: company.move(amy, None),
}


@pytest.mark.parametrize("how", LEAVING)
def test_a34_customer_who_left_between_plan_and_call_is_not_made_a_contact(company, how):
    def left_meanwhile():
        LEAVING[how](company, amy)
        company.fetch(company.scope())

    amy = company.customer("Amy", AMY)
    company.sync(before_push=left_meanwhile)
    assert (company.statuses(), company.writes(), pending(company)) == ({}, [], 0)


def test_a34_customer_back_between_plan_and_archive_keeps_the_contact(company):
    def back_meanwhile():
        company.edit(amy, Active=True)
        other = company.scope()
        company.fetch(other, ids=[amy])
        company.plan(other, ids=[amy])

    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, Active=False)
    company.sync(before_archive=back_meanwhile)
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}


def test_a35_second_run_takes_over_what_the_first_did_not_send(company):
    amy = company.customer("Amy", AMY)
    first, second = company.scope("first"), company.scope("second")
    company.fetch(first)
    left = company.plan(first)
    planned = company.plan(second)
    assert (left.changes, planned.changes, pending(company)) == (1, 1, 1)
    client = company.mailchimp_client(first.calls)
    assert push_shard(first, client, plan_id=left.plan_id, shard=0) == {}
    assert push_shard(second, client, plan_id=planned.plan_id, shard=0) == {"applied": 1}
    assert company.told(amy) == [("create", "new_customer", "applied")]


def test_a35_second_run_waits_for_a_call_on_the_wire_and_is_decided_on_its_result(company):
    company.customer("Amy", AMY)
    first, second = company.scope("first"), company.scope("second")
    company.fetch(first)
    left = company.plan(first)
    company.fault("mailchimp", match={"method": "POST"}, action={"kind": "delay", "seconds": 1.0})
    client = company.mailchimp_client(first.calls)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(push_shard, first, client, plan_id=left.plan_id, shard=0)
        while not company.writes():
            pass
        planned = company.plan(second)
        assert sending.result() == {"applied": 1}
    assert planned.changes == 0
    assert len(company.writes()) == 1


def test_a35_change_that_another_held_is_sent_once_it_comes_free(company):
    for n in range(2):
        company.customer(f"Customer {n}", f"c{n}@finch.org")
    scope = company.scope()
    company.fetch(scope)
    planned = company.plan(scope)
    company.fault("mailchimp", match={"method": "POST"}, action={"kind": "delay", "seconds": 1.0})
    client = company.mailchimp_client(scope.calls)
    first = text("SELECT id FROM ml_connector.changes ORDER BY id LIMIT 1 FOR UPDATE")
    with ThreadPoolExecutor(1) as pool:
        with company.database.begin() as other:
            other.execute(first)
            sending = pool.submit(
                push_shard, scope, client, plan_id=planned.plan_id, shard=0, threads=1
            )
            while not company.writes():
                pass
        assert sending.result() == {"applied": 2}
    assert [len(call["body"]["members"]) for call in company.writes()] == [1, 1]


def test_a35_runs_at_once_end_in_the_right_state(company):
    def run(name):
        scope = company.scope(name)
        client = company.mailchimp_client(scope.calls)
        company.fetch(scope)
        fetch_members(scope, client)
        planned = company.plan(scope)
        for shard in planned.shards:
            push_shard(scope, client, plan_id=planned.plan_id, shard=shard, threads=2)
        archive_contacts(scope, client, plan_id=planned.plan_id, threads=2)

    ids = [company.customer(f"Customer {n}", f"c{n}@finch.org") for n in range(30)]
    company.sync()
    for n, each in enumerate(ids):
        if n % 3 == 0:
            company.move(each, f"new{n}@finch.org")
        elif n % 3 == 1:
            company.edit(each, GivenName="Changed")
        else:
            company.edit(each, Active=False)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(run, f"at once {n}") for n in range(3)]:
            done.result()
    company.sync()
    wanted = {}
    for n in range(30):
        wanted[f"c{n}@finch.org"] = "subscribed" if n % 3 == 1 else "archived"
        if n % 3 == 0:
            wanted[f"new{n}@finch.org"] = "subscribed"
    assert company.statuses() == wanted
    assert company.fields("c1@finch.org") == {"FNAME": "Changed"}
    assert pending(company) == 0


def test_a36_swapped_audience_is_planned_as_a_first_load_and_the_old_one_is_left(company):
    fields = [{"tag": tag} for tag in ("FNAME", "LNAME", "COMPANY", "PHONE")]
    fields.append({"tag": "ADDRESS", "type": "address"})
    known = {"email_address": "ben@finch.org", "status": "unsubscribed"}
    body = {"id": OTHER, "merge_fields": fields, "members": [known]}
    amy = company.customer("Amy", AMY)
    company.customer("Ben", "ben@finch.org")
    company.sync()
    company.mailchimp_control("POST", "audiences", body)
    company.settings["audience_id"] = OTHER
    company.edit(amy, PrimaryEmailAddr={"Address": "amelia@finch.org"})
    company.clear_journals()
    company.sync()
    calls = [call for call in company.calls("mailchimp") if not call["path"].endswith("/reports")]
    assert all(OTHER in (call["path"] + call["query"].get("list_id", "")) for call in calls)
    assert company.statuses() == {AMY: "subscribed", "ben@finch.org": "subscribed"}
    new = company.mailchimp_control("GET", f"members?audience={OTHER}")["members"]
    assert {member["email_address"]: member["status"] for member in new} == {
        "amelia@finch.org": "subscribed",
        "ben@finch.org": "unsubscribed",
    }


def test_rows_of_one_batch_keep_their_order_in_time(company):
    for number in range(5):
        company.customer(f"Customer {number}", "office@finch.org")
    company.sync()
    with company.database.begin() as connection:
        at = connection.execute(text("SELECT at FROM ml_connector.audit ORDER BY id")).scalars()
        assert len(set(listed := list(at))) == 5
        assert listed == sorted(listed)


def test_an_archive_whose_call_leaves_while_somebody_waits_for_it_is_not_decided_anew(company):
    """Its answer is lost: decided anew, nobody would know that it was us (A18)."""
    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, Active=False)
    scope = company.scope()
    company.fetch(scope)
    planned = company.plan(scope)

    def take_over():
        with company.database.begin() as connection:
            key = company.vault.email_key(AMY)
            return changes.supersede_at(connection, sync="main", keys=[key])

    with ThreadPoolExecutor(1) as pool:
        with company.database.begin() as pusher:
            (claimed,) = claims.claim(
                pusher, plan_id=planned.plan_id, shard=None, kinds=[Kind.ARCHIVE], chunk=1
            )
            waiting = pool.submit(take_over)
            while not waiting.done() and not waits_for_a_row(company):
                time.sleep(0.05)
            with company.database.begin() as at_once:
                claims.mark_started(at_once, change_id=claimed.id)
        assert waiting.result().stays == {company.vault.email_key(AMY)}
    assert pending(company) == 1


def waits_for_a_row(company):
    with company.database.begin() as connection:
        return connection.execute(
            text("""SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'""")
        ).scalar_one()
