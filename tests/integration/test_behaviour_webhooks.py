"""docs/reference/behaviour.md, sections A to C, by webhook: events processed from the inbox."""

import threading
import time

import pytest
from sqlalchemy import text

from ml_connector.errors import NeedsReauth, StopRun
from ml_connector.mailchimp import webhooks as mailchimp_webhooks
from ml_connector.webhooks import inbox, worker
from tests.integration.company import AUDIENCE
from tests.integration.test_behaviour_activity import batches, events, notes, reads

ADDRESS = "amy@birds-sanctuary.com"


@pytest.fixture
def amy(company) -> str:
    amy = company.customer("Amy", ADDRESS)
    company.sync()
    company.sync()
    company.clear_journals()
    return amy


def test_a_new_customer_is_a_contact_after_one_read_and_one_write(company, amy):
    bob = company.customer("Bob", "bob@windsurf-shop.com")
    company.clear_journals()
    company.told_by_quickbooks(("created", bob))
    assert company.work_off()["done"] == 1
    assert company.statuses()["bob@windsurf-shop.com"] == "subscribed"
    assert len(reads(company)) == 1
    assert len(company.writes()) == 1
    assert company.inbox() == {"done": 1}


def test_many_events_at_once_cost_little_more_than_one(company, amy):
    ids = [company.customer(f"C{n}", f"c{n}@windsurf-shop.com") for n in range(300)]
    company.clear_journals()
    company.told_by_quickbooks(*[("created", each) for each in ids])
    company.work_off()
    assert len(company.statuses()) == 301
    assert len(company.calls("quickbooks")) == 1
    assert len(company.writes()) <= 2  # two threads may share the changes


def test_a_burst_that_goes_on_for_seconds_is_waited_for_and_handled_together(company, amy):
    ids = [company.customer(f"C{n}", f"c{n}@windsurf-shop.com") for n in range(100)]
    company.clear_journals()
    company.told_by_quickbooks(*[("created", each) for each in ids[:10]])

    def bring_the_rest() -> None:
        for each in ids[10:]:
            company.told_by_quickbooks(("created", each))
            time.sleep(0.02)

    bringing = threading.Thread(target=bring_the_rest)
    bringing.start()
    company.work_off(gather=True)
    bringing.join()
    assert len(company.statuses()) == 101
    assert len(company.calls("quickbooks")) <= 3
    assert len(company.writes()) <= 5


def test_an_update_reaches_the_contact_and_its_status_is_not_sent(company, amy):
    company.edit(amy, GivenName="Amelie")
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    assert company.fields(ADDRESS)["FNAME"] == "Amelie"
    assert company.statuses() == {ADDRESS: "subscribed"}


def test_what_events_had_us_write_is_counted_by_system_and_outcome(company, amy):
    target = company.open_sync()
    company.edit(amy, GivenName="Amelie")
    company.told_by_quickbooks(("updated", amy))
    worker.process_inbox(company.database, [target], vault=company.vault)
    assert target.scope.written["mailchimp"] == {"applied": 1}


def test_a13b_an_opt_out_nobody_told_of_still_follows_the_person_to_a_new_address(company, amy):
    company.person(ADDRESS, "unsubscribe")
    company.move(amy, "amy@new-home.org")
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    assert company.statuses() == {ADDRESS: "archived", "amy@new-home.org": "unsubscribed"}


def test_a16_an_inactivated_customer_is_archived_whether_told_as_updated_or_deleted(company, amy):
    company.edit(amy, Active=False)
    company.told_by_quickbooks(("deleted", amy))
    company.work_off()
    assert company.statuses() == {ADDRESS: "archived"}


def test_a21_a_merge_archives_the_losers_contact_and_remembers_the_survivor(company, amy):
    bob = company.customer("Bob", "bob@windsurf-shop.com")
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": bob})
    company.told_by_quickbooks(("merged", amy, bob))
    company.work_off()
    assert company.statuses() == {ADDRESS: "subscribed", "bob@windsurf-shop.com": "archived"}
    with company.database.begin() as connection:
        found = connection.execute(
            text("SELECT merged_into FROM ml_connector.customers WHERE customer_id = :id"),
            {"id": bob},
        ).scalar_one()
    assert found == amy
    assert company.inbox() == {"done": 1}


def test_a21_a_loser_whose_address_the_survivor_shares_keeps_the_contact(company, amy):
    bob = company.customer("Bob", ADDRESS)
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": bob, "loser": amy})
    company.told_by_quickbooks(("merged", bob, amy))
    company.work_off()
    assert company.statuses() == {ADDRESS: "subscribed"}
    assert company.fields(ADDRESS)["FNAME"] == "Bob"


@pytest.mark.parametrize(
    ("action", "told", "kind"),
    [
        ("unsubscribe", ("unsubscribe", {"action": "unsub"}), "unsubscribed"),
        ("clean", ("cleaned", {"reason": "hard"}), "cleaned"),
        ("archive", ("unsubscribe", {"action": "delete"}), "archived"),
        ("forget", ("unsubscribe", {"action": "delete"}), "forgotten"),
    ],
)
def test_b1_what_a_member_did_is_recorded_once_and_on_the_customer(
    company, amy, action, told, kind
):
    company.person(ADDRESS, action)
    what, data = told
    company.told_by_mailchimp(what, email=ADDRESS, id="ab12cd34ef", **data)
    assert company.work_off()["written_back"] == 1
    assert events(company) == [(kind, "webhook", "written")]
    assert "--- Mailchimp main" in notes(company, amy)
    company.sync()
    assert [each for each, _, _ in events(company)] == [kind]


def test_b1_a_profile_change_by_webhook(company, amy):
    company.person(ADDRESS, "profile", merge_fields={"FNAME": "Amelie"})
    company.told_by_mailchimp("profile", email=ADDRESS, id="ab12cd34ef")
    company.work_off()
    assert events(company) == [("profile_changed", "webhook", "written")]


def test_b1_somebody_new_subscribes(company, amy):
    company.person("new@elsewhere.org", "subscribe")
    company.told_by_mailchimp("subscribe", email="new@elsewhere.org", id="ab12cd34ef")
    company.work_off()
    company.sync()
    assert events(company) == [("subscribed", "webhook", None)]


@pytest.mark.parametrize("first", ["poll", "webhook"])
def test_b2_the_same_by_poll_and_by_webhook_is_one_event(company, amy, first):
    company.person(ADDRESS, "unsubscribe")
    company.person("new@elsewhere.org", "subscribe")
    company.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    company.told_by_mailchimp("subscribe", email="new@elsewhere.org", id="2")
    steps = [company.sync, company.work_off]
    for step in steps if first == "poll" else reversed(steps):
        step()
    assert sorted(events(company)) == [
        ("subscribed", first, None),
        ("unsubscribed", first, "written"),
    ]


def test_b3_an_event_of_no_customer_is_recorded_and_not_written(company, amy):
    company.seed("stranger@elsewhere.org")
    company.sync()
    company.person("stranger@elsewhere.org", "unsubscribe")
    company.clear_journals()
    company.told_by_mailchimp("unsubscribe", email="stranger@elsewhere.org", id="1", action="unsub")
    company.work_off()
    assert ("unsubscribed", "webhook", None) in events(company)
    assert company.calls("quickbooks") == []


def test_b4_an_event_is_written_to_every_customer_at_the_address(company, amy):
    other = company.customer("Other", ADDRESS)
    company.sync()
    company.person(ADDRESS, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    company.work_off()
    assert "Unsubscribed" in notes(company, amy)
    assert "Unsubscribed" in notes(company, other)


def test_b9_our_own_write_told_by_quickbooks_costs_one_read_and_no_write(company, amy):
    company.person(ADDRESS, "unsubscribe")
    company.sync()
    company.clear_journals()
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    assert len(company.calls("quickbooks")) == 1
    assert company.calls("mailchimp") == []


def test_a28_a_changed_address_told_by_webhook_is_an_alias_at_once(company, amy):
    company.person(ADDRESS, "upemail", email_address="amy@new-home.org")
    company.told_by_mailchimp(
        "upemail", old_email=ADDRESS, new_email="amy@new-home.org", new_id="9"
    )
    company.told_by_mailchimp("profile", email="amy@new-home.org", id="9")
    company.work_off()
    assert [kind for kind, _, _ in events(company)] == ["address_changed"]
    assert "the address is now amy@new-home.org" in notes(company, amy)
    company.edit(amy, GivenName="Amelie")
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    assert set(company.statuses()) == {"amy@new-home.org"}


def test_a28_also_before_the_contact_was_ever_read(company):
    amy = company.customer("Amy", ADDRESS)
    company.sync()
    company.person(ADDRESS, "upemail", email_address="amy@new-home.org")
    company.told_by_mailchimp(
        "upemail", old_email=ADDRESS, new_email="amy@new-home.org", new_id="9"
    )
    company.work_off()
    company.edit(amy, GivenName="Amelie")
    company.sync()
    assert set(company.statuses()) == {"amy@new-home.org"}


def test_many_member_events_are_read_as_a_list(company, amy):
    people = [f"p{n}@windsurf-shop.com" for n in range(20)]
    for person in people:
        company.customer(person, person)
    company.sync()
    company.sync()
    for person in people:
        company.person(person, "unsubscribe")
        company.told_by_mailchimp("unsubscribe", email=person, id=person[:6], action="unsub")
    company.clear_journals()
    company.told_by_mailchimp("profile", email=ADDRESS, id="1")
    company.work_off()
    assert [kind for kind, _, _ in events(company)] == ["unsubscribed"] * 20
    listed = [c for c in company.calls("mailchimp") if c["path"].endswith("/members")]
    assert len(listed) == 2
    assert [c["path"] for c in company.calls("mailchimp") if c["method"] == "GET"] == [
        c["path"] for c in listed
    ]
    assert len(batches(company)) == 1


def test_of_many_member_events_only_whom_no_list_brings_is_read_alone(company, amy):
    stayed = [f"p{n}@windsurf-shop.com" for n in range(12)]
    gone = ["deleted@windsurf-shop.com", "forgotten@windsurf-shop.com"]
    for person in stayed + gone:
        company.customer(person, person)
    company.sync()
    company.sync()
    for person in stayed:
        company.person(person, "unsubscribe")
        company.told_by_mailchimp("unsubscribe", email=person, id=person[:6], action="unsub")
    for person, action, said in zip(gone, ("archive", "forget"), ("delete", "unsub"), strict=True):
        company.person(person, action)
        company.told_by_mailchimp("unsubscribe", email=person, id=person[:6], action=said)
    company.clear_journals()
    company.work_off()
    alone = [c["path"] for c in company.calls("mailchimp") if "/members/" in c["path"]]
    assert len(alone) == 1, alone
    kinds = [kind for kind, _, _ in events(company)]
    assert sorted(kinds) == ["archived", "forgotten", *["unsubscribed"] * 12]


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"a=1&a[b]=2", "not_a_form"), (b'{"type": "unsubscribe"}', "not_a_form"),
     (b"type=unsubscribe", "unknown_format")],
)  # fmt: skip
def test_c6_an_unreadable_event_tried_again_is_set_aside_again_and_holds_up_no_other(
    company, amy, body, reason
):
    unreadable = mailchimp_webhooks.read_event(
        body, sync="main", audience_id=AUDIENCE, email_key=company.vault.email_key
    )
    assert unreadable.reason == reason
    with company.database.begin() as connection:
        inbox.deliver(connection, [unreadable], vault=company.vault)
        ids = connection.execute(text("SELECT id FROM ml_connector.webhook_inbox")).scalars()
        assert inbox.requeue(connection, list(ids)) == 1
    company.person(ADDRESS, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    assert company.work_off()["done"] == 1
    assert company.inbox() == {"done": 1, "quarantined": 1}
    assert [kind for kind, _, _ in events(company)] == ["unsubscribed"]
    told = [(e["sync"], e["reason"], e["outcome"], e["error"]) for e in company.audit()]
    assert told.count(("main", "unreadable", "quarantined", reason)) == 2  # as it came, and again


def test_c8_events_in_the_wrong_order_end_in_the_same_state(company, amy):
    bob = company.customer("Bob", "bob@windsurf-shop.com")
    company.edit(bob, Active=False)
    company.told_by_quickbooks(("deleted", bob), ("created", bob))
    company.told_by_quickbooks(("updated", bob))
    company.work_off()
    assert company.statuses() == {ADDRESS: "subscribed"}
    assert company.inbox() == {"done": 3}


def test_c10_an_event_that_fails_is_tried_again_later_and_holds_up_no_other(company, amy):
    bob = company.customer("Bob", "bob@windsurf-shop.com")
    company.told_by_quickbooks(("created", "999999"), ("created", bob))
    counts = company.work_off()
    assert (counts["done"], counts["failed"]) == (1, 1)
    assert company.statuses()["bob@windsurf-shop.com"] == "subscribed"
    assert company.inbox() == {"done": 1, "pending": 1}


def test_c10_after_five_tries_it_is_dead_and_says_why(company, amy):
    company.told_by_quickbooks(("created", "999999"))
    for _ in range(5):
        company.work_off()
        with company.database.begin() as connection:
            connection.execute(
                text("UPDATE ml_connector.webhook_inbox SET next_try_at = clock_timestamp()")
            )
    assert company.inbox() == {"dead": 1}
    with company.database.begin() as connection:
        reason = connection.execute(text("SELECT reason FROM ml_connector.webhook_inbox"))
        assert reason.scalar_one() == "not_found"


def test_events_wait_for_a_system_that_is_away_and_are_not_given_up(company, amy):
    company.fault("quickbooks", match={"path": "/query$"}, action={"kind": "status", "status": 503})
    company.told_by_quickbooks(("updated", amy))
    company.person(ADDRESS, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    for _ in range(7):
        company.work_off()
        with company.database.begin() as connection:
            connection.execute(
                text("UPDATE ml_connector.webhook_inbox SET next_try_at = clock_timestamp()")
            )
    assert company.inbox() == {"done": 1, "pending": 1}
    assert [kind for kind, _, _ in events(company)] == ["unsubscribed"]


def test_events_that_need_no_quickbooks_go_on_without_a_token(company, amy):
    company.quickbooks_control("POST", "tokens/revoke")
    company.told_by_quickbooks(("updated", amy))
    company.person(ADDRESS, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=ADDRESS, id="1", action="unsub")
    with pytest.raises(StopRun) as stopped:
        company.work_off()
    assert isinstance(stopped.value, NeedsReauth)
    assert company.inbox() == {"done": 1, "pending": 1}
    assert events(company) == [("unsubscribed", "webhook", None)]


def test_an_event_of_a_company_no_sync_names_any_more_is_set_aside(company, amy):
    company.told_by_quickbooks(("updated", amy))
    company.realm = "1"
    company.work_off()
    assert company.inbox() == {"quarantined": 1}


def test_a_webhook_leaves_what_a_daily_run_is_about_to_write_to_it(company, amy):
    for number in range(20):
        company.customer(f"C{number}", f"c{number}@windsurf-shop.com")
    company.edit(amy, GivenName="Amelie")

    def told() -> None:
        company.told_by_quickbooks(("updated", amy))
        company.work_off()

    report = company.sync(before_push=told)
    assert len(company.statuses()) == 21
    assert company.fields(ADDRESS)["FNAME"] == "Amelie"
    assert sum(number for kind, _, state, number in report.changes
               if (kind, state) == ("create", "applied")) == 20  # fmt: skip


def test_a_change_that_could_not_be_sent_is_sent_when_its_event_is_tried_again(company, amy):
    """Decided, not sent: Mailchimp was away, or the worker was killed in between."""
    company.edit(amy, GivenName="Amelie")
    company.told_by_quickbooks(("updated", amy))
    company.fault("mailchimp", match={"method": "POST"}, action={"kind": "status", "status": 503})
    with pytest.raises(StopRun):
        company.work_off()
    company.mailchimp_control("DELETE", "faults")
    with company.database.begin() as connection:
        connection.execute(
            text("UPDATE ml_connector.webhook_inbox SET next_try_at = clock_timestamp()")
        )
    company.work_off()
    assert company.fields(ADDRESS)["FNAME"] == "Amelie"
    assert company.inbox() == {"done": 1}
