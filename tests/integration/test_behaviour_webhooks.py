"""docs/behaviour.md, sections A to C, by webhook: events worked off from the inbox."""

import threading
import time

import pytest
from sqlalchemy import text

from ml_connector.errors import NeedsReauth, StopRun
from ml_connector.mailchimp import webhooks as mailchimp_webhooks
from ml_connector.webhooks import inbox, worker
from tests.integration.firm import AUDIENCE
from tests.integration.test_behaviour_activity import batches, events, notes, reads

ADDRESS = "amy@birds-sanctuary.com"


@pytest.fixture
def amy(firm) -> str:
    amy = firm.customer("Amy", ADDRESS)
    firm.sync()
    firm.sync()
    firm.clear_journals()
    return amy


def test_a_new_customer_is_a_contact_after_one_read_and_one_write(firm, amy):
    bob = firm.customer("Bob", "bob@windsurf-shop.com")
    firm.clear_journals()
    firm.told_by_quickbooks(("created", bob))
    assert firm.work_off()["done"] == 1
    assert firm.statuses()["bob@windsurf-shop.com"] == "subscribed"
    assert len(reads(firm)) == 1
    assert len(firm.writes()) == 1
    assert firm.inbox() == {"done": 1}


def test_many_events_at_once_cost_little_more_than_one(firm, amy):
    ids = [firm.customer(f"C{n}", f"c{n}@windsurf-shop.com") for n in range(300)]
    firm.clear_journals()
    firm.told_by_quickbooks(*[("created", each) for each in ids])
    firm.work_off()
    assert len(firm.statuses()) == 301
    assert len(firm.calls("quickbooks")) == 1
    assert len(firm.writes()) <= 2  # two threads may share the changes


def test_a_burst_that_goes_on_for_seconds_is_waited_for_and_handled_together(firm, amy):
    ids = [firm.customer(f"C{n}", f"c{n}@windsurf-shop.com") for n in range(100)]
    firm.clear_journals()
    firm.told_by_quickbooks(*[("created", each) for each in ids[:10]])

    def bring_the_rest() -> None:
        for each in ids[10:]:
            firm.told_by_quickbooks(("created", each))
            time.sleep(0.02)

    bringing = threading.Thread(target=bring_the_rest)
    bringing.start()
    firm.work_off(gather=True)
    bringing.join()
    assert len(firm.statuses()) == 101
    assert len(firm.calls("quickbooks")) <= 3
    assert len(firm.writes()) <= 5


def test_an_update_reaches_the_contact_and_its_status_is_not_sent(firm, amy):
    firm.edit(amy, GivenName="Amelie")
    firm.told_by_quickbooks(("updated", amy))
    firm.work_off()
    assert firm.fields(ADDRESS)["FNAME"] == "Amelie"
    assert firm.statuses() == {ADDRESS: "subscribed"}


def test_what_events_had_us_write_is_counted_by_system_and_outcome(firm, amy):
    target = firm.open_sync()
    firm.edit(amy, GivenName="Amelie")
    firm.told_by_quickbooks(("updated", amy))
    worker.work_off(firm.database, [target])
    assert target.scope.written["mailchimp"] == {"applied": 1}


def test_a13b_an_opt_out_nobody_told_of_still_follows_the_person_to_a_new_address(firm, amy):
    firm.person(ADDRESS, "unsubscribe")
    firm.move(amy, "amy@new-home.org")
    firm.told_by_quickbooks(("updated", amy))
    firm.work_off()
    assert firm.statuses() == {ADDRESS: "archived", "amy@new-home.org": "unsubscribed"}


def test_a16_an_inactivated_customer_is_archived_whether_told_as_updated_or_deleted(firm, amy):
    firm.edit(amy, Active=False)
    firm.told_by_quickbooks(("deleted", amy))
    firm.work_off()
    assert firm.statuses() == {ADDRESS: "archived"}


def test_a21_a_merge_archives_the_losers_contact_and_remembers_the_survivor(firm, amy):
    bob = firm.customer("Bob", "bob@windsurf-shop.com")
    firm.sync()
    firm.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": bob})
    firm.told_by_quickbooks(("merged", amy, bob))
    firm.work_off()
    assert firm.statuses() == {ADDRESS: "subscribed", "bob@windsurf-shop.com": "archived"}
    with firm.database.begin() as connection:
        found = connection.execute(
            text("SELECT merged_into FROM ml_connector.customers WHERE customer_id = :id"),
            {"id": bob},
        ).scalar_one()
    assert found == amy
    assert firm.inbox() == {"done": 1}


def test_a21_a_loser_whose_address_the_survivor_shares_keeps_the_contact(firm, amy):
    bob = firm.customer("Bob", ADDRESS)
    firm.sync()
    firm.quickbooks_control("POST", "customers/merge", {"survivor": bob, "loser": amy})
    firm.told_by_quickbooks(("merged", bob, amy))
    firm.work_off()
    assert firm.statuses() == {ADDRESS: "subscribed"}
    assert firm.fields(ADDRESS)["FNAME"] == "Bob"


@pytest.mark.parametrize(
    ("action", "told", "kind"),
    [
        ("unsubscribe", ("unsubscribe", {"action": "unsub"}), "unsubscribed"),
        ("clean", ("cleaned", {"reason": "hard"}), "cleaned"),
        ("archive", ("unsubscribe", {"action": "delete"}), "archived"),
        ("forget", ("unsubscribe", {"action": "delete"}), "forgotten"),
    ],
)
def test_b1_what_a_member_did_is_recorded_once_and_on_the_customer(firm, amy, action, told, kind):
    firm.person(ADDRESS, action)
    what, data = told
    firm.told_by_mailchimp(what, email=ADDRESS, id="ab12cd34ef", **data)
    assert firm.work_off()["written_back"] == 1
    assert events(firm) == [(kind, "webhook", "written")]
    assert "--- Mailchimp main" in notes(firm, amy)
    firm.sync()
    assert [each for each, _, _ in events(firm)] == [kind]


def test_b1_a_profile_change_by_webhook(firm, amy):
    firm.person(ADDRESS, "profile", merge_fields={"FNAME": "Amelie"})
    firm.told_by_mailchimp("profile", email=ADDRESS, id="ab12cd34ef")
    firm.work_off()
    assert events(firm) == [("profile_changed", "webhook", "written")]


def test_b1_somebody_new_subscribes(firm, amy):
    firm.person("new@elsewhere.org", "subscribe")
    firm.told_by_mailchimp("subscribe", email="new@elsewhere.org", id="ab12cd34ef")
    firm.work_off()
    firm.sync()
    assert events(firm) == [("subscribed", "webhook", None)]


@pytest.mark.parametrize("first", ["poll", "webhook"])
def test_b2_the_same_by_poll_and_by_webhook_is_one_event(firm, amy, first):
    firm.person(ADDRESS, "unsubscribe")
    firm.person("new@elsewhere.org", "subscribe")
    firm.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    firm.told_by_mailchimp("subscribe", email="new@elsewhere.org", id="2")
    steps = [firm.sync, firm.work_off]
    for step in steps if first == "poll" else reversed(steps):
        step()
    assert sorted(events(firm)) == [
        ("subscribed", first, None),
        ("unsubscribed", first, "written"),
    ]


def test_b3_an_event_of_no_customer_is_recorded_and_not_written(firm, amy):
    firm.seed("stranger@elsewhere.org")
    firm.sync()
    firm.person("stranger@elsewhere.org", "unsubscribe")
    firm.clear_journals()
    firm.told_by_mailchimp("unsubscribe", email="stranger@elsewhere.org", id="1", action="unsub")
    firm.work_off()
    assert ("unsubscribed", "webhook", None) in events(firm)
    assert firm.calls("quickbooks") == []


def test_b4_an_event_is_written_to_every_customer_at_the_address(firm, amy):
    other = firm.customer("Other", ADDRESS)
    firm.sync()
    firm.person(ADDRESS, "unsubscribe")
    firm.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    firm.work_off()
    assert "Unsubscribed" in notes(firm, amy)
    assert "Unsubscribed" in notes(firm, other)


def test_b9_our_own_write_told_by_quickbooks_costs_one_read_and_no_write(firm, amy):
    firm.person(ADDRESS, "unsubscribe")
    firm.sync()
    firm.clear_journals()
    firm.told_by_quickbooks(("updated", amy))
    firm.work_off()
    assert len(firm.calls("quickbooks")) == 1
    assert firm.calls("mailchimp") == []


def test_a28_a_changed_address_told_by_webhook_is_an_alias_at_once(firm, amy):
    firm.person(ADDRESS, "upemail", email_address="amy@new-home.org")
    firm.told_by_mailchimp("upemail", old_email=ADDRESS, new_email="amy@new-home.org", new_id="9")
    firm.told_by_mailchimp("profile", email="amy@new-home.org", id="9")
    firm.work_off()
    assert [kind for kind, _, _ in events(firm)] == ["address_changed"]
    assert "the address is now amy@new-home.org" in notes(firm, amy)
    firm.edit(amy, GivenName="Amelie")
    firm.told_by_quickbooks(("updated", amy))
    firm.work_off()
    assert set(firm.statuses()) == {"amy@new-home.org"}


def test_a28_also_before_the_contact_was_ever_read(firm):
    amy = firm.customer("Amy", ADDRESS)
    firm.sync()
    firm.person(ADDRESS, "upemail", email_address="amy@new-home.org")
    firm.told_by_mailchimp("upemail", old_email=ADDRESS, new_email="amy@new-home.org", new_id="9")
    firm.work_off()
    firm.edit(amy, GivenName="Amelie")
    firm.sync()
    assert set(firm.statuses()) == {"amy@new-home.org"}


def test_many_member_events_are_read_as_a_list(firm, amy):
    people = [f"p{n}@windsurf-shop.com" for n in range(20)]
    for person in people:
        firm.customer(person, person)
    firm.sync()
    firm.sync()
    for person in people:
        firm.person(person, "unsubscribe")
        firm.told_by_mailchimp("unsubscribe", email=person, id=person[:6], action="unsub")
    firm.clear_journals()
    firm.told_by_mailchimp("profile", email=ADDRESS, id="1")
    firm.work_off()
    assert [kind for kind, _, _ in events(firm)] == ["unsubscribed"] * 20
    listed = [c for c in firm.calls("mailchimp") if c["path"].endswith("/members")]
    assert len(listed) == 2
    assert [c["path"] for c in firm.calls("mailchimp") if c["method"] == "GET"] == [
        c["path"] for c in listed
    ]
    assert len(batches(firm)) == 1


def test_of_many_member_events_only_whom_no_list_brings_is_read_alone(firm, amy):
    stayed = [f"p{n}@windsurf-shop.com" for n in range(12)]
    gone = ["deleted@windsurf-shop.com", "forgotten@windsurf-shop.com"]
    for person in stayed + gone:
        firm.customer(person, person)
    firm.sync()
    firm.sync()
    for person in stayed:
        firm.person(person, "unsubscribe")
        firm.told_by_mailchimp("unsubscribe", email=person, id=person[:6], action="unsub")
    for person, action, said in zip(gone, ("archive", "forget"), ("delete", "unsub"), strict=True):
        firm.person(person, action)
        firm.told_by_mailchimp("unsubscribe", email=person, id=person[:6], action=said)
    firm.clear_journals()
    firm.work_off()
    alone = [c["path"] for c in firm.calls("mailchimp") if "/members/" in c["path"]]
    assert len(alone) == 1, alone
    kinds = [kind for kind, _, _ in events(firm)]
    assert sorted(kinds) == ["archived", "forgotten", *["unsubscribed"] * 12]


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"a=1&a[b]=2", "not_a_form"), (b'{"type": "unsubscribe"}', "not_a_form"),
     (b"type=unsubscribe", "unknown_format")],
)  # fmt: skip
def test_c6_an_unreadable_event_tried_again_is_set_aside_again_and_holds_up_no_other(
    firm, amy, body, reason
):
    unreadable = mailchimp_webhooks.read_event(
        body, sync="main", audience_id=AUDIENCE, email_key=firm.vault.email_key
    )
    assert unreadable.reason == reason
    with firm.database.begin() as connection:
        inbox.deliver(connection, [unreadable], vault=firm.vault)
        ids = connection.execute(text("SELECT id FROM ml_connector.webhook_inbox")).scalars()
        assert inbox.requeue(connection, list(ids)) == 1
    firm.person(ADDRESS, "unsubscribe")
    firm.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    assert firm.work_off()["done"] == 1
    assert firm.inbox() == {"done": 1, "quarantined": 1}
    assert [kind for kind, _, _ in events(firm)] == ["unsubscribed"]
    told = [(e["sync"], e["reason"], e["outcome"], e["error"]) for e in firm.audit()]
    assert told.count(("main", "unreadable", "quarantined", reason)) == 2  # as it came, and again


def test_c8_events_in_the_wrong_order_end_in_the_same_state(firm, amy):
    bob = firm.customer("Bob", "bob@windsurf-shop.com")
    firm.edit(bob, Active=False)
    firm.told_by_quickbooks(("deleted", bob), ("created", bob))
    firm.told_by_quickbooks(("updated", bob))
    firm.work_off()
    assert firm.statuses() == {ADDRESS: "subscribed"}
    assert firm.inbox() == {"done": 3}


def test_c10_an_event_that_fails_is_tried_again_later_and_holds_up_no_other(firm, amy):
    bob = firm.customer("Bob", "bob@windsurf-shop.com")
    firm.told_by_quickbooks(("created", "999999"), ("created", bob))
    counts = firm.work_off()
    assert (counts["done"], counts["failed"]) == (1, 1)
    assert firm.statuses()["bob@windsurf-shop.com"] == "subscribed"
    assert firm.inbox() == {"done": 1, "pending": 1}


def test_c10_after_five_tries_it_is_dead_and_says_why(firm, amy):
    firm.told_by_quickbooks(("created", "999999"))
    for _ in range(5):
        firm.work_off()
        with firm.database.begin() as connection:
            connection.execute(
                text("UPDATE ml_connector.webhook_inbox SET next_try_at = clock_timestamp()")
            )
    assert firm.inbox() == {"dead": 1}
    with firm.database.begin() as connection:
        reason = connection.execute(text("SELECT reason FROM ml_connector.webhook_inbox"))
        assert reason.scalar_one() == "not_found"


def test_events_wait_for_a_system_that_is_away_and_are_not_given_up(firm, amy):
    firm.fault("quickbooks", match={"path": "/query$"}, action={"kind": "status", "status": 503})
    firm.told_by_quickbooks(("updated", amy))
    firm.person(ADDRESS, "unsubscribe")
    firm.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    for _ in range(7):
        firm.work_off()
        with firm.database.begin() as connection:
            connection.execute(
                text("UPDATE ml_connector.webhook_inbox SET next_try_at = clock_timestamp()")
            )
    assert firm.inbox() == {"done": 1, "pending": 1}
    assert [kind for kind, _, _ in events(firm)] == ["unsubscribed"]


def test_events_that_need_no_quickbooks_go_on_without_a_token(firm, amy):
    firm.quickbooks_control("POST", "tokens/revoke")
    firm.told_by_quickbooks(("updated", amy))
    firm.person(ADDRESS, "unsubscribe")
    firm.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    with pytest.raises(StopRun) as stopped:
        firm.work_off()
    assert isinstance(stopped.value, NeedsReauth)
    assert firm.inbox() == {"done": 1, "pending": 1}
    assert events(firm) == [("unsubscribed", "webhook", None)]


def test_an_event_of_a_company_no_sync_names_any_more_is_set_aside(firm, amy):
    firm.told_by_quickbooks(("updated", amy))
    firm.realm = "1"
    firm.work_off()
    assert firm.inbox() == {"quarantined": 1}


def test_a_webhook_leaves_what_a_daily_run_is_about_to_write_to_it(firm, amy):
    for number in range(20):
        firm.customer(f"C{number}", f"c{number}@windsurf-shop.com")
    firm.edit(amy, GivenName="Amelie")

    def told() -> None:
        firm.told_by_quickbooks(("updated", amy))
        firm.work_off()

    report = firm.sync(before_push=told)
    assert len(firm.statuses()) == 21
    assert firm.fields(ADDRESS)["FNAME"] == "Amelie"
    assert sum(number for kind, _, state, number in report.changes
               if (kind, state) == ("create", "applied")) == 20  # fmt: skip


def test_a_change_that_could_not_be_sent_is_sent_when_its_event_is_tried_again(firm, amy):
    """Decided, not sent: Mailchimp was away, or the worker was killed in between."""
    firm.edit(amy, GivenName="Amelie")
    firm.told_by_quickbooks(("updated", amy))
    firm.fault("mailchimp", match={"method": "POST"}, action={"kind": "status", "status": 503})
    with pytest.raises(StopRun):
        firm.work_off()
    firm.mailchimp_control("DELETE", "faults")
    with firm.database.begin() as connection:
        connection.execute(
            text("UPDATE ml_connector.webhook_inbox SET next_try_at = clock_timestamp()")
        )
    firm.work_off()
    assert firm.fields(ADDRESS)["FNAME"] == "Amelie"
    assert firm.inbox() == {"done": 1}
