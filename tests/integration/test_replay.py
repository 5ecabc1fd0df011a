"""Replay: the record behind a row is evaluated against today, never sent again as it was."""

import pytest
from sqlalchemy import text

from ml_connector.audit import chain, trail
from ml_connector.audit.trail import Chosen
from ml_connector.errors import SettingsError
from ml_connector.replay import Replayed, replay
from tests.integration.audit_journal import assert_audit_matches_journal
from tests.integration.firm import Firm

AMY = "amy@finch.org"


def again(firm: Firm, **chosen: object) -> Replayed:
    """Replay what is chosen: all failed rows if nothing else is said."""
    with firm.database.begin() as connection:
        rows = trail.choose(connection, Chosen(**(chosen or {"failed": True})))
    return replay(firm.open_sync(), rows)


def rows(firm: Firm, **wanted: object) -> list[dict]:
    return [row for row in firm.audit() if wanted.items() <= row.items()]


def throttled(firm: Firm, *emails: str) -> None:
    firm.mailchimp_control("PUT", "settings", {"throttled": list(emails)})


def test_a_contact_that_was_put_off_is_written_once_mailchimp_takes_it(firm, contract):
    throttled(firm, AMY)
    amy = firm.customer("Amy", AMY)
    firm.sync()
    throttled(firm)
    (parked,) = rows(firm, action="create")
    done = again(firm)
    assert (done.rows, done.written) == ({"evaluated": 1}, {"applied": 1})
    assert firm.statuses() == {AMY: "subscribed"}
    (asked,) = rows(firm, action="replay")
    assert (asked["cause"], asked["customer_id"]) == (f"replay:{parked['id']}", amy)
    created = rows(firm, action="create")[-1]
    assert (created["outcome"], created["origin"]) == ("applied", f"replay:{parked['id']}")
    assert_audit_matches_journal(firm)


def test_what_is_sent_is_what_the_record_is_today(firm):
    throttled(firm, AMY)
    amy = firm.customer("Amy", AMY)
    firm.sync()
    throttled(firm)
    firm.edit(amy, GivenName="Amelia")
    again(firm)
    assert firm.fields(AMY) == {"FNAME": "Amelia"}


def test_a_record_that_is_right_by_now_is_not_written(firm):
    throttled(firm, AMY)
    firm.customer("Amy", AMY)
    firm.sync()
    throttled(firm)
    again(firm)
    firm.clear_journals()
    done = again(firm)
    assert (done.rows, done.written) == ({"evaluated": 1}, {})
    assert firm.writes() == []


def test_a_refusal_is_tried_again_although_nothing_changed_here(firm):
    words = {"email_address": AMY, "error": f"{AMY} looks fake or invalid", "error_code": "ERROR"}
    answer = {"new_members": [], "updated_members": [], "errors": [words]}
    firm.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "body", "body": answer}
    )
    firm.customer("Amy", AMY)
    firm.sync()
    firm.sync()
    assert firm.statuses() == {}
    again(firm)
    assert firm.statuses() == {AMY: "subscribed"}


def test_tags_are_those_of_today_and_a_marketers_stay(firm):
    firm.seed(AMY, tags=["VIP"])
    firm.settings["tags"] = ["Old"]
    amy = firm.customer("Amy", AMY)
    firm.sync()
    assert firm.tags(AMY) == {"VIP", "Old"}
    words = {"email_address": AMY, "error": f"{AMY} looks fake or invalid", "error_code": "ERROR"}
    answer = {"new_members": [], "updated_members": [], "errors": [words]}
    refused = {"kind": "body", "body": answer}
    firm.fault("mailchimp", match={"method": "POST"}, times=1, action=refused)
    firm.settings["tags"] = ["Between"]
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert firm.tags(AMY) == {"VIP", "Old"}
    firm.settings["tags"] = ["New"]
    assert again(firm).written == {"applied": 1}
    assert firm.tags(AMY) == {"VIP", "New"}
    again(firm)
    assert firm.tags(AMY) == {"VIP", "New"}
    firm.sync()
    assert firm.tags(AMY) == {"VIP", "New"}


def test_consent_is_not_raised(firm, contract):
    """Replaying the creation of somebody who has opted out since leaves the opt-out."""
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    (created,) = rows(firm, action="create")
    again(firm, ids=[created["id"]])
    assert firm.statuses() == {AMY: "unsubscribed"}
    firm.move(amy, "new@finch.org")
    again(firm, ids=[created["id"]])
    assert firm.statuses() == {AMY: "archived", "new@finch.org": "unsubscribed"}


def test_a30_a_suppressed_person_stays_out(firm, contract):
    throttled(firm, AMY)
    amy = firm.customer("Amy", AMY)
    firm.sync()
    throttled(firm)
    with firm.database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ml_connector.suppressions (email_key, reason) VALUES (:key, 'asked')"
            ),
            {"key": firm.vault.email_key(AMY)},
        )
    again(firm)
    again(firm)
    assert firm.statuses() == {}
    assert firm.decisions() == {amy: ("skipped", "suppressed", None)}


def test_a22_a_final_refusal_stays_final(firm):
    firm.seed(AMY)
    firm.person(AMY, "forget")
    firm.customer("Amy", AMY)
    firm.sync()
    firm.clear_journals()
    again(firm)
    assert firm.writes() == []
    assert firm.statuses() == {AMY: "forgotten"}


def test_a19_a_contact_that_a_marketer_archived_stays_archived(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "archive")
    firm.sync()
    (refused,) = rows(firm, action="skip")
    again(firm, ids=[refused["id"], *(row["id"] for row in rows(firm, action="create"))])
    assert firm.statuses() == {AMY: "archived"}


def test_a_customer_whose_write_back_was_refused_is_written_again(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    fault = {
        "Error": [{"Message": "no", "Detail": "no", "code": "6000"}],
        "type": "ValidationFault",
    }
    answer = {"BatchItemResponse": [{"bId": "0", "Fault": fault}]}
    firm.fault(
        "quickbooks", match={"path": "batch"}, times=1, action={"kind": "body", "body": answer}
    )
    firm.sync()
    (failed,) = rows(firm, action="write_notes")
    assert failed["outcome"] == "failed"
    done = again(firm)
    assert done.written_back == {"shown": 1}
    assert "unsubscribed" in firm.record_of(amy)["Notes"].lower()
    assert rows(firm, action="write_notes")[-1]["origin"] == f"replay:{failed['id']}"
    firm.clear_journals()
    again(firm)
    assert [call for call in firm.calls("quickbooks") if call["write"]] == []


def test_a_dead_webhook_is_due_again(firm):
    firm.told_by_quickbooks(("updated", "77"))
    for _ in range(5):
        with firm.database.begin() as connection:
            connection.execute(text("UPDATE ml_connector.webhook_inbox SET next_try_at = now()"))
        firm.work_off()
    assert firm.inbox() == {"dead": 1}
    done = again(firm)
    assert (done.rows, firm.inbox()) == ({"requeued": 1}, {"pending": 1})
    assert again(firm).rows == {"left": 1}


def test_what_has_no_record_behind_it_is_left(firm):
    firm.customer("Amy", AMY)
    firm.fault("mailchimp", times=1, action={"kind": "status", "status": 429, "body": "{}"})
    firm.sync()
    (met,) = rows(firm, action="rate_limited")
    assert again(firm, ids=[met["id"]]).rows == {"left": 1}


def test_all_failed_ones_of_a_time_a_sync_and_a_reason_can_be_chosen(firm):
    throttled(firm, AMY, "ben@finch.org")
    firm.customer("Amy", AMY)
    firm.sync()
    between = firm.clock()
    firm.customer("Ben", "ben@finch.org")
    firm.sync()
    first, second = (row["id"] for row in rows(firm, outcome="parked"))

    def chosen(**what: object) -> list[int]:
        with firm.database.begin() as connection:
            return [row.id for row in trail.choose(connection, Chosen(failed=True, **what))]

    assert chosen() == [first, second]
    assert chosen(since=between) == [second]
    assert chosen(until=between) == [first]
    assert chosen(sync="main", reason="new_customer") == [first, second]
    assert chosen(sync="other") == []
    assert chosen(reason="address_changed") == []
    with firm.database.begin() as connection:
        assert trail.choose(connection, Chosen()) == []


def test_more_rows_than_are_replayed_at_a_time_are_refused_with_what_to_narrow_them_by(firm):
    throttled(firm, AMY, "ben@finch.org")
    for name, email in (("Amy", AMY), ("Ben", "ben@finch.org")):
        firm.customer(name, email)
    firm.sync()
    failed = Chosen(failed=True)
    with firm.database.begin() as connection:
        assert len(trail.choose(connection, failed, most=2)) == 2
        with pytest.raises(SettingsError, match="choose fewer, by sync, reason or time"):
            trail.choose(connection, failed, most=1)


def test_replaying_a_thousand_rows_twice_gives_the_same_end_state(firm):
    """Among them opt-outs, suppressed people, changed and departed customers."""
    emails = [f"c{number}@finch.org" for number in range(1000)]
    firm.quickbooks_control("POST", "company", {"empty": True})
    ids = [firm.customer(f"C{number}", email) for number, email in enumerate(emails)]
    throttled(firm, *emails)
    firm.sync()
    assert len(rows(firm, outcome="parked")) == 1000
    throttled(firm, *emails[900:])
    for email in emails[:50]:
        firm.seed(email, status="unsubscribed")
    for customer_id in ids[50:60]:
        firm.edit(customer_id, Active=False)
    firm.quickbooks_control(
        "POST", "customers/edit-many", {"ids": ids[60:70], "fields": {"FamilyName": "New"}}
    )
    with firm.database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ml_connector.suppressions (email_key, reason) VALUES (:key, 'asked')"
            ),
            [{"key": firm.vault.email_key(email)} for email in emails[70:80]],
        )
    chosen = [row["id"] for row in rows(firm, outcome="parked")]
    first = again(firm, ids=chosen)
    assert first.rows == {"evaluated": 1000}
    after_one = (firm.statuses(), {e: m["merge_fields"] for e, m in firm.members().items()})
    assert sum(status == "unsubscribed" for status in after_one[0].values()) == 50
    assert len(after_one[0]) == 880
    again(firm, ids=chosen)
    assert (firm.statuses(), {e: m["merge_fields"] for e, m in firm.members().items()}) == after_one
    origins = {row["cause"] for row in rows(firm, action="replay")}
    assert origins == {f"replay:{each}" for each in chosen}
    assert {row["origin"] for row in rows(firm, action="create", outcome="applied")} <= origins
    assert_audit_matches_journal(firm)
    chain.seal(firm.database, firm.vault)
    with firm.database.begin() as connection:
        assert chain.verify(connection, firm.vault).findings == []


def test_any_row_can_be_chosen_by_its_id(firm):
    firm.customer("Amy", AMY)
    firm.customer("Ben", AMY)
    firm.sync()
    done = again(firm, ids=[row["id"] for row in firm.audit()])
    assert (done.rows, done.written) == ({"evaluated": 2}, {})
