"""Whole runs, and several at once: rows A32 to A36 of docs/behaviour.md."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from ml_connector.errors import IncompleteRead
from ml_connector.model import Kind
from ml_connector.store import changes
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.push import push_shard

AMY = "amy@finch.org"
OTHER = "ffffffffff"


def pending(firm):
    with firm.database.begin() as connection:
        return connection.execute(
            text("SELECT count(*) FROM ml_connector.changes WHERE state = 'pending'")
        ).scalar_one()


def lose_pages(firm, answer):
    """From now on QuickBooks lists ``answer`` whatever is asked for; it still counts rightly."""
    for asked_in in ("query", "body"):
        match = {asked_in: r"(?i)select\W+(?!count)\*?.*from\W+customer"}
        firm.fault("quickbooks", match=match, action={"kind": "body", "body": answer})


@pytest.mark.parametrize("listed", [0, 1])
def test_a32_list_shorter_than_the_count_fails_the_run_before_planning(firm, listed):
    first = firm.customer("Amy", AMY)
    firm.customer("Ben", "ben@finch.org")
    firm.sync()
    body = firm.quickbooks_control("GET", f"customers/{first}")
    page = {"Customer": [body][:listed], "startPosition": 1, "maxResults": listed}
    lose_pages(firm, {"QueryResponse": page if listed else {}})
    firm.clear_journals()
    with pytest.raises(IncompleteRead, match="counts 2 customers"):
        firm.sync(full_sync=True)
    assert firm.writes() == []
    assert pending(firm) == 0


def test_a32_company_that_says_it_is_empty_archives_nobody(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    firm.quickbooks_control("POST", "company", {"empty": True})
    with pytest.raises(IncompleteRead, match="no customers, but 1 are known"):
        firm.sync(full_sync=True)
    assert firm.statuses() == {AMY: "subscribed"}


def test_a32_company_that_was_always_empty_is_fine(firm):
    firm.sync()
    firm.sync(full_sync=True)
    assert firm.statuses() == {}


def test_a33_preview_stores_the_plan_and_writes_nothing(firm):
    amy = firm.customer("Amy", AMY)
    report = firm.sync(preview=True)
    assert report.changes == [("create", "new_customer", "preview", 1)]
    assert (firm.writes(), firm.audit(), firm.decisions()) == ([], [], {amy: (None, None, None)})
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}


def test_a33_preview_of_an_archive_and_an_update_writes_nothing(firm):
    amy = firm.customer("Amy", AMY)
    ben = firm.customer("Ben", "ben@finch.org")
    firm.sync()
    firm.clear_journals()
    firm.edit(amy, Active=False)
    firm.edit(ben, GivenName="Benjamin")
    report = firm.sync(preview=True)
    assert [change[:3] for change in report.changes] == [
        ("archive", "inactive", "preview"),
        ("update", "fields_changed", "preview"),
    ]
    assert firm.writes() == []


def test_a34_staging_never_goes_back_to_an_older_customer(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    body = firm.quickbooks_control("GET", f"customers/{amy}")
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    stale = {"QueryResponse": {"Customer": [body], "startPosition": 1, "maxResults": 1}}
    lose_pages(firm, stale)
    firm.sync(ids=[amy])
    assert firm.fields(AMY) == {"FNAME": "Amelia"}


def test_a34_change_decided_on_an_older_customer_is_decided_again_just_before_its_call(firm):
    def edited_meanwhile():
        firm.edit(amy, GivenName="Newest")
        firm.fetch(firm.scope(), ids=[amy])

    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.edit(amy, GivenName="Newer")
    firm.clear_journals()
    firm.sync(before_push=edited_meanwhile)
    (call,) = firm.writes()
    assert call["body"]["members"][0]["merge_fields"]["FNAME"] == "Newest"
    assert pending(firm) == 0


def test_a34_address_changed_between_plan_and_call(firm, contract):
    def moved_meanwhile():
        firm.move(amy, "amelia@finch.org")
        firm.fetch(firm.scope(), ids=[amy])

    amy = firm.customer("Amy", AMY)
    firm.sync(before_push=moved_meanwhile)
    assert firm.statuses() == {"amelia@finch.org": "subscribed"}


LEAVING = {
    "made inactive": lambda firm, amy: firm.edit(amy, Active=False),
    "merged away": lambda firm, amy: firm.quickbooks_control(
        "POST", "customers/merge", {"survivor": firm.customer("Survivor"), "loser": amy}
    ),
    "address emptied": lambda firm, amy: firm.move(amy, None),
}


@pytest.mark.parametrize("how", LEAVING)
def test_a34_customer_who_left_between_plan_and_call_is_not_made_a_contact(firm, how):
    def left_meanwhile():
        LEAVING[how](firm, amy)
        firm.fetch(firm.scope())

    amy = firm.customer("Amy", AMY)
    firm.sync(before_push=left_meanwhile)
    assert (firm.statuses(), firm.writes(), pending(firm)) == ({}, [], 0)


def test_a34_customer_back_between_plan_and_archive_keeps_the_contact(firm):
    def back_meanwhile():
        firm.edit(amy, Active=True)
        other = firm.scope()
        firm.fetch(other, ids=[amy])
        firm.plan(other, ids=[amy])

    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.edit(amy, Active=False)
    firm.sync(before_archive=back_meanwhile)
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}


def test_a35_second_run_takes_over_what_the_first_did_not_send(firm):
    amy = firm.customer("Amy", AMY)
    first, second = firm.scope("first"), firm.scope("second")
    firm.fetch(first)
    left = firm.plan(first)
    planned = firm.plan(second)
    assert (left.changes, planned.changes, pending(firm)) == (1, 1, 1)
    client = firm.mailchimp_client(first.calls)
    assert push_shard(first, client, plan_id=left.plan_id, shard=0) == {}
    assert push_shard(second, client, plan_id=planned.plan_id, shard=0) == {"applied": 1}
    assert firm.told(amy) == [("create", "new_customer", "applied")]


def test_a35_second_run_waits_for_a_call_on_the_wire_and_is_decided_on_its_result(firm):
    firm.customer("Amy", AMY)
    first, second = firm.scope("first"), firm.scope("second")
    firm.fetch(first)
    left = firm.plan(first)
    firm.fault("mailchimp", match={"method": "POST"}, action={"kind": "delay", "seconds": 1.0})
    client = firm.mailchimp_client(first.calls)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(push_shard, first, client, plan_id=left.plan_id, shard=0)
        while not firm.writes():
            pass
        planned = firm.plan(second)
        assert sending.result() == {"applied": 1}
    assert planned.changes == 0
    assert len(firm.writes()) == 1


def test_a35_change_that_another_held_is_sent_once_it_comes_free(firm):
    for n in range(2):
        firm.customer(f"Customer {n}", f"c{n}@finch.org")
    scope = firm.scope()
    firm.fetch(scope)
    planned = firm.plan(scope)
    firm.fault("mailchimp", match={"method": "POST"}, action={"kind": "delay", "seconds": 1.0})
    client = firm.mailchimp_client(scope.calls)
    first = text("SELECT id FROM ml_connector.changes ORDER BY id LIMIT 1 FOR UPDATE")
    with ThreadPoolExecutor(1) as pool:
        with firm.database.begin() as other:
            other.execute(first)
            sending = pool.submit(
                push_shard, scope, client, plan_id=planned.plan_id, shard=0, threads=1
            )
            while not firm.writes():
                pass
        assert sending.result() == {"applied": 2}
    assert [len(call["body"]["members"]) for call in firm.writes()] == [1, 1]


def test_a35_runs_at_once_end_in_the_right_state(firm):
    def run(name):
        scope = firm.scope(name)
        client = firm.mailchimp_client(scope.calls)
        firm.fetch(scope)
        fetch_members(scope, client)
        planned = firm.plan(scope)
        for shard in planned.shards:
            push_shard(scope, client, plan_id=planned.plan_id, shard=shard, threads=2)
        archive_contacts(scope, client, plan_id=planned.plan_id, threads=2)

    ids = [firm.customer(f"Customer {n}", f"c{n}@finch.org") for n in range(30)]
    firm.sync()
    for n, each in enumerate(ids):
        if n % 3 == 0:
            firm.move(each, f"new{n}@finch.org")
        elif n % 3 == 1:
            firm.edit(each, GivenName="Changed")
        else:
            firm.edit(each, Active=False)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(run, f"at once {n}") for n in range(3)]:
            done.result()
    firm.sync()
    wanted = {}
    for n in range(30):
        wanted[f"c{n}@finch.org"] = "subscribed" if n % 3 == 1 else "archived"
        if n % 3 == 0:
            wanted[f"new{n}@finch.org"] = "subscribed"
    assert firm.statuses() == wanted
    assert firm.fields("c1@finch.org") == {"FNAME": "Changed"}
    assert pending(firm) == 0


def test_a36_swapped_audience_is_planned_as_a_first_load_and_the_old_one_is_left(firm):
    fields = [{"tag": tag} for tag in ("FNAME", "LNAME", "COMPANY", "PHONE")]
    fields.append({"tag": "ADDRESS", "type": "address"})
    known = {"email_address": "ben@finch.org", "status": "unsubscribed"}
    body = {"id": OTHER, "merge_fields": fields, "members": [known]}
    amy = firm.customer("Amy", AMY)
    firm.customer("Ben", "ben@finch.org")
    firm.sync()
    firm.mailchimp_control("POST", "audiences", body)
    firm.settings["audience_id"] = OTHER
    firm.edit(amy, PrimaryEmailAddr={"Address": "amelia@finch.org"})
    firm.clear_journals()
    firm.sync()
    calls = firm.calls("mailchimp")
    assert all(OTHER in (call["path"] + call["query"].get("list_id", "")) for call in calls)
    assert firm.statuses() == {AMY: "subscribed", "ben@finch.org": "subscribed"}
    new = firm.mailchimp_control("GET", f"members?audience={OTHER}")["members"]
    assert {member["email_address"]: member["status"] for member in new} == {
        "amelia@finch.org": "subscribed",
        "ben@finch.org": "unsubscribed",
    }


def test_rows_of_one_batch_keep_their_order_in_time(firm):
    for number in range(5):
        firm.customer(f"Customer {number}", "office@finch.org")
    firm.sync()
    with firm.database.begin() as connection:
        at = connection.execute(text("SELECT at FROM ml_connector.audit ORDER BY id")).scalars()
        assert len(set(listed := list(at))) == 5
        assert listed == sorted(listed)


def test_an_archive_whose_call_leaves_while_somebody_waits_for_it_is_not_decided_anew(firm):
    """Its answer is lost: decided anew, nobody would know that it was us (A18)."""
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.edit(amy, Active=False)
    scope = firm.scope()
    firm.fetch(scope)
    planned = firm.plan(scope)

    def take_over():
        with firm.database.begin() as connection:
            key = firm.vault.email_key(AMY)
            return changes.take_over(connection, sync="main", keys=[key])

    with ThreadPoolExecutor(1) as pool:
        with firm.database.begin() as pusher:
            (claimed,) = changes.claim(
                pusher, plan_id=planned.plan_id, shard=None, kinds=[Kind.ARCHIVE], chunk=1
            )
            waiting = pool.submit(take_over)
            while not waiting.done() and not waits_for_a_row(firm):
                time.sleep(0.05)
            with firm.database.begin() as at_once:
                changes.mark_started(at_once, change_id=claimed.id)
        assert waiting.result() == {firm.vault.email_key(AMY)}
    assert pending(firm) == 1


def waits_for_a_row(firm):
    with firm.database.begin() as connection:
        return connection.execute(
            text("""SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'""")
        ).scalar_one()
