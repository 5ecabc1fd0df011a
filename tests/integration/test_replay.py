"""Replay: the record behind a row is evaluated against today, never sent again as it was."""

import pytest
from sqlalchemy import text

from ml_connector.audit import chain, trail
from ml_connector.audit.trail import Selection
from ml_connector.errors import SettingsError
from ml_connector.replay import Replayed, replay
from tests.integration.audit_journal import assert_audit_matches_journal
from tests.integration.company import Company

AMY = "amy@finch.org"


def again(company: Company, **chosen: object) -> Replayed:
    """Replay what is chosen: all failed rows if nothing else is said."""
    with company.database.begin() as connection:
        rows = trail.select(connection, Selection(**(chosen or {"failed": True})))
    return replay(company.open_sync(), rows)


def rows(company: Company, **wanted: object) -> list[dict]:
    return [row for row in company.audit() if wanted.items() <= row.items()]


def throttled(company: Company, *emails: str) -> None:
    company.mailchimp_control("PUT", "settings", {"throttled": list(emails)})


def test_a_contact_that_was_put_off_is_written_once_mailchimp_takes_it(company, contract):
    throttled(company, AMY)
    amy = company.customer("Amy", AMY)
    company.sync()
    throttled(company)
    (parked,) = rows(company, action="create")
    done = again(company)
    assert (done.rows, done.written) == ({"evaluated": 1}, {"applied": 1})
    assert company.statuses() == {AMY: "subscribed"}
    (asked,) = rows(company, action="replay")
    assert (asked["cause"], asked["customer_id"]) == (f"replay:{parked['id']}", amy)
    created = rows(company, action="create")[-1]
    assert (created["outcome"], created["origin"]) == ("applied", f"replay:{parked['id']}")
    assert_audit_matches_journal(company)


def test_what_is_sent_is_what_the_record_is_today(company):
    throttled(company, AMY)
    amy = company.customer("Amy", AMY)
    company.sync()
    throttled(company)
    company.edit(amy, GivenName="Amelia")
    again(company)
    assert company.fields(AMY) == {"FNAME": "Amelia"}


def test_a_record_that_is_right_by_now_is_not_written(company):
    throttled(company, AMY)
    company.customer("Amy", AMY)
    company.sync()
    throttled(company)
    again(company)
    company.clear_journals()
    done = again(company)
    assert (done.rows, done.written) == ({"evaluated": 1}, {})
    assert company.writes() == []


def test_a_refusal_is_tried_again_although_nothing_changed_here(company):
    words = {"email_address": AMY, "error": f"{AMY} looks fake or invalid", "error_code": "ERROR"}
    answer = {"new_members": [], "updated_members": [], "errors": [words]}
    company.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "body", "body": answer}
    )
    company.customer("Amy", AMY)
    company.sync()
    company.sync()
    assert company.statuses() == {}
    again(company)
    assert company.statuses() == {AMY: "subscribed"}


def test_tags_are_those_of_today_and_a_marketers_stay(company):
    company.seed(AMY, tags=["VIP"])
    company.settings["tags"] = ["Old"]
    amy = company.customer("Amy", AMY)
    company.sync()
    assert company.tags(AMY) == {"VIP", "Old"}
    words = {"email_address": AMY, "error": f"{AMY} looks fake or invalid", "error_code": "ERROR"}
    answer = {"new_members": [], "updated_members": [], "errors": [words]}
    refused = {"kind": "body", "body": answer}
    company.fault("mailchimp", match={"method": "POST"}, times=1, action=refused)
    company.settings["tags"] = ["Between"]
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.tags(AMY) == {"VIP", "Old"}
    company.settings["tags"] = ["New"]
    assert again(company).written == {"applied": 1}
    assert company.tags(AMY) == {"VIP", "New"}
    again(company)
    assert company.tags(AMY) == {"VIP", "New"}
    company.sync()
    assert company.tags(AMY) == {"VIP", "New"}


def test_consent_is_not_raised(company, contract):
    """Replaying the creation of somebody who has opted out since leaves the opt-out."""
    amy = company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "unsubscribe")
    (created,) = rows(company, action="create")
    again(company, ids=[created["id"]])
    assert company.statuses() == {AMY: "unsubscribed"}
    company.move(amy, "new@finch.org")
    again(company, ids=[created["id"]])
    assert company.statuses() == {AMY: "archived", "new@finch.org": "unsubscribed"}


def test_a30_a_suppressed_person_stays_out(company, contract):
    throttled(company, AMY)
    amy = company.customer("Amy", AMY)
    company.sync()
    throttled(company)
    with company.database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ml_connector.suppressions (email_key, reason) VALUES (:key, 'asked')"
            ),
            {"key": company.vault.email_key(AMY)},
        )
    again(company)
    again(company)
    assert company.statuses() == {}
    assert company.decisions() == {amy: ("skipped", "suppressed", None)}


def test_a22_a_final_refusal_stays_final(company):
    company.seed(AMY)
    company.person(AMY, "forget")
    company.customer("Amy", AMY)
    company.sync()
    company.clear_journals()
    again(company)
    assert company.writes() == []
    assert company.statuses() == {AMY: "forgotten"}


def test_a19_a_contact_that_a_marketer_archived_stays_archived(company):
    company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "archive")
    company.sync()
    (refused,) = rows(company, action="skip")
    again(company, ids=[refused["id"], *(row["id"] for row in rows(company, action="create"))])
    assert company.statuses() == {AMY: "archived"}


def test_a_customer_whose_write_back_was_refused_is_written_again(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "unsubscribe")
    fault = {
        "Error": [{"Message": "no", "Detail": "no", "code": "6000"}],
        "type": "ValidationFault",
    }
    answer = {"BatchItemResponse": [{"bId": "0", "Fault": fault}]}
    company.fault(
        "quickbooks", match={"path": "batch"}, times=1, action={"kind": "body", "body": answer}
    )
    company.sync()
    (failed,) = rows(company, action="write_notes")
    assert failed["outcome"] == "failed"
    done = again(company)
    assert done.written_back == {"shown": 1}
    assert "unsubscribed" in company.record_of(amy)["Notes"].lower()
    assert rows(company, action="write_notes")[-1]["origin"] == f"replay:{failed['id']}"
    company.clear_journals()
    again(company)
    assert [call for call in company.calls("quickbooks") if call["write"]] == []


def test_a_dead_webhook_is_due_again(company):
    company.told_by_quickbooks(("updated", "77"))
    for _ in range(5):
        with company.database.begin() as connection:
            connection.execute(text("UPDATE ml_connector.webhook_inbox SET next_try_at = now()"))
        company.work_off()
    assert company.inbox() == {"dead": 1}
    done = again(company)
    assert (done.rows, company.inbox()) == ({"requeued": 1}, {"pending": 1})
    assert again(company).rows == {"left": 1}


def test_what_has_no_record_behind_it_is_left(company):
    company.customer("Amy", AMY)
    company.fault("mailchimp", times=1, action={"kind": "status", "status": 429, "body": "{}"})
    company.sync()
    (met,) = rows(company, action="rate_limited")
    assert again(company, ids=[met["id"]]).rows == {"left": 1}


def test_all_failed_ones_of_a_time_a_sync_and_a_reason_can_be_chosen(company):
    throttled(company, AMY, "ben@finch.org")
    company.customer("Amy", AMY)
    company.sync()
    between = company.clock()
    company.customer("Ben", "ben@finch.org")
    company.sync()
    first, second = (row["id"] for row in rows(company, outcome="parked"))

    def chosen(**what: object) -> list[int]:
        with company.database.begin() as connection:
            return [row.id for row in trail.select(connection, Selection(failed=True, **what))]

    assert chosen() == [first, second]
    assert chosen(since=between) == [second]
    assert chosen(until=between) == [first]
    assert chosen(sync="main", reason="new_customer") == [first, second]
    assert chosen(sync="other") == []
    assert chosen(reason="address_changed") == []
    with company.database.begin() as connection:
        assert trail.select(connection, Selection()) == []


def test_more_rows_than_are_replayed_at_a_time_are_refused_with_what_to_narrow_them_by(company):
    throttled(company, AMY, "ben@finch.org")
    for name, email in (("Amy", AMY), ("Ben", "ben@finch.org")):
        company.customer(name, email)
    company.sync()
    failed = Selection(failed=True)
    with company.database.begin() as connection:
        assert len(trail.select(connection, failed, most=2)) == 2
        with pytest.raises(SettingsError, match="choose fewer, by sync, reason or time"):
            trail.select(connection, failed, most=1)


@pytest.mark.endurance
def test_replaying_a_thousand_rows_twice_gives_the_same_end_state(company):
    """Among them opt-outs, suppressed people, changed and departed customers."""
    emails = [f"c{number}@finch.org" for number in range(1000)]
    company.quickbooks_control("POST", "company", {"empty": True})
    ids = [company.customer(f"C{number}", email) for number, email in enumerate(emails)]
    throttled(company, *emails)
    company.sync()
    assert len(rows(company, outcome="parked")) == 1000
    throttled(company, *emails[900:])
    for email in emails[:50]:
        company.seed(email, status="unsubscribed")
    for customer_id in ids[50:60]:
        company.edit(customer_id, Active=False)
    company.quickbooks_control(
        "POST", "customers/edit-many", {"ids": ids[60:70], "fields": {"FamilyName": "New"}}
    )
    with company.database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ml_connector.suppressions (email_key, reason) VALUES (:key, 'asked')"
            ),
            [{"key": company.vault.email_key(email)} for email in emails[70:80]],
        )
    chosen = [row["id"] for row in rows(company, outcome="parked")]
    first = again(company, ids=chosen)
    assert first.rows == {"evaluated": 1000}
    after_one = (company.statuses(), {e: m["merge_fields"] for e, m in company.members().items()})
    assert sum(status == "unsubscribed" for status in after_one[0].values()) == 50
    assert len(after_one[0]) == 880
    again(company, ids=chosen)
    assert (
        company.statuses(),
        {e: m["merge_fields"] for e, m in company.members().items()},
    ) == after_one
    origins = {row["cause"] for row in rows(company, action="replay")}
    assert origins == {f"replay:{each}" for each in chosen}
    assert {row["origin"] for row in rows(company, action="create", outcome="applied")} <= origins
    assert_audit_matches_journal(company)
    chain.seal(company.database, company.vault)
    with company.database.begin() as connection:
        assert chain.verify(connection, company.vault).findings == []


def test_any_row_can_be_chosen_by_its_id(company):
    company.customer("Amy", AMY)
    company.customer("Ben", AMY)
    company.sync()
    done = again(company, ids=[row["id"] for row in company.audit()])
    assert (done.rows, done.written) == ({"evaluated": 2}, {})
