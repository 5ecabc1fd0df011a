"""Promise 6: every external write has exactly one audit row, and every audit row a cause.

``audit_journal`` compares the trail with what both mock servers saw.
"""

import pytest

from ml_connector.errors import QuotaExhausted
from tests.integration.audit_journal import assert_audit_matches_journal
from tests.integration.company import ADDRESS, AUDIENCE, Company

AMY = "amy@finch.org"


def rows(company: Company, **wanted: object) -> list[dict]:
    return [row for row in company.audit() if wanted.items() <= row.items()]


def a_busy_week(company: Company) -> None:
    """All kinds of changes, refusals, write-back, conflicts and webhooks."""
    company.mailchimp_control("PUT", "settings", {"throttled": ["slow@finch.org"]})
    company.seed("c2@finch.org", tags=["VIP"])
    company.seed("c3@finch.org", status="unsubscribed")
    company.seed("gone@finch.org")
    company.person("gone@finch.org", "forget")
    ids = {n: company.customer(f"C{n}", f"c{n}@finch.org", BillAddr=ADDRESS) for n in range(1, 13)}
    for name in ("slow", "gone", "marketed", "bounced"):
        ids[name] = company.customer(name, f"{name}@finch.org")
    company.customer("Shares with C1", "c1@finch.org")
    company.customer("Fake", "fake@fake-domain.org")
    company.customer("Has none")
    company.customer("Wrong", "not an address")
    company.sync()
    company.edit(ids[1], FamilyName="Changed")
    company.move(ids[4], "moved4@finch.org")
    company.person("c5@finch.org", "unsubscribe")
    company.move(ids[5], "moved5@finch.org")
    for each in (6, 7, "marketed", "bounced"):
        company.edit(ids[each], Active=False)
    company.person("c8@finch.org", "unsubscribe")
    company.person("c9@finch.org", "clean")

    def meanwhile() -> None:
        company.person("marketed@finch.org", "archive")
        company.person("bounced@finch.org", "clean")

    company.sync(
        before_archive=meanwhile,
        before_write_back=lambda: company.edit(ids[8], Notes="Somebody was faster"),
    )
    company.edit(ids[6], Active=True, DisplayName="C6")
    company.edit(ids[9], FamilyName="Changed though cleaned")
    company.settings["on_inactive"] = "tag"
    company.edit(ids[10], Active=False)
    company.sync()
    company.edit(ids[10], Active=True, DisplayName="C10")
    company.sync()
    company.settings["on_inactive"] = "archive"
    new = company.customer("New", "new@finch.org")
    company.edit(ids[11], Active=False)
    company.edit(ids[12], FamilyName="By webhook")
    company.person("c2@finch.org", "unsubscribe")
    company.told_by_quickbooks(("created", new), ("updated", ids[11]), ("updated", ids[12]))
    company.told_by_quickbooks(("updated", "99999"))
    company.told_by_mailchimp("unsubscribe", email="c2@finch.org")
    company.work_off()
    company.sync(full_sync=True)


def test_after_a_busy_week_every_write_has_its_row_and_every_row_its_write(company, contract):
    a_busy_week(company)
    done = {(row["action"], row["outcome"]) for row in company.audit()}
    assert done >= {
        ("create", "applied"),
        ("create", "failed"),
        ("create", "parked"),
        ("update", "applied"),
        ("archive", "applied"),
        ("archive", "refused"),
        ("archive", "failed"),
        ("restore", "applied"),
        ("write_notes", "applied"),
        ("write_notes", "conflict"),
        ("skip", "skipped"),
        ("link", "linked"),
        ("webhook", "done"),
    }
    assert assert_audit_matches_journal(company) > 30


def test_the_comparison_notices_a_row_too_few_one_too_many_and_one_of_another_call(company):
    company.customer("Amy", AMY)
    company.sync()
    (row,) = [row for row in company.audit() if row["action"] == "create"]
    for rows_of_another_story in ([], [row, row], [row | {"request_id": "other"}]):
        with pytest.raises(AssertionError):
            assert_audit_matches_journal(company, rows=rows_of_another_story)
    assert assert_audit_matches_journal(company) == 1


@pytest.mark.parametrize("write_to", ["attachment", "both"])
def test_attached_notes_have_their_rows_too(company, write_to):
    company.settings["activity"] = {"write_to": write_to}
    company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.sync()
    company.settings["activity"] = {"write_to": "notes"}
    company.person(AMY, "subscribe")
    company.sync()
    assert rows(company, action="attach_note", outcome="applied")
    assert assert_audit_matches_journal(company) >= 3


def test_an_archive_by_webhook_whose_answer_was_lost_stays_ours_and_has_its_row(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, Active=False)
    lost = {"kind": "drop", "when": "after"}
    company.fault("mailchimp", match={"method": "DELETE"}, times=4, action=lost)
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    company.edit(amy, CompanyName="Told again")
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    company.sync()
    (archived,) = rows(company, action="archive")
    assert (archived["outcome"], archived["after"]["status"]) == ("applied", "archived")
    assert_audit_matches_journal(company)
    company.edit(amy, Active=True, DisplayName="Amy")
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}


def test_a_call_whose_answer_was_lost_is_one_effect_and_one_row(company, contract):
    amy = company.customer("Amy", AMY)
    company.customer("Ben", "ben@finch.org")
    lost = {"kind": "drop", "when": "after"}
    company.fault("mailchimp", match={"method": "POST"}, times=1, action=lost)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.fault("quickbooks", match={"path": "batch"}, times=1, action=lost)
    company.sync()
    company.edit(amy, Active=False)
    company.fault("mailchimp", match={"method": "DELETE"}, times=1, action=lost)
    company.sync()
    assert_audit_matches_journal(company)
    assert len(rows(company, customer_id=amy, action="write_notes")) == 1
    (archived,) = rows(company, customer_id=amy, action="archive")
    assert archived["outcome"] == "applied"


def test_tags_put_on_and_taken_off_by_calls_of_their_own_are_told_by_their_contacts_row(company):
    company.mailchimp_control("PUT", "settings", {"batch_contract": "status_required"})
    company.settings |= {"on_inactive": "tag", "inactive_tag": "Former"}
    company.seed(AMY)
    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, Active=False)
    company.sync()
    company.edit(amy, Active=True, DisplayName="Amy")
    company.sync()
    took_off = company.audit()[-1]["after"]["further_calls"]
    assert [(call["did"], call["tags"]) for call in took_off] == [("removed_tags", ["Former"])]
    assert_audit_matches_journal(company)


def test_a19_an_archive_that_found_its_contact_archived_by_a_marketer_says_refused(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, Active=False)
    report = company.sync(before_archive=lambda: company.person(AMY, "archive"))
    (row,) = rows(company, action="archive")
    assert (row["outcome"], row["error"], row["request_id"]) == (
        "refused",
        "archived already, by a marketer",
        None,
    )
    assert report.changes == [("archive", "inactive", "applied", 1)]
    assert_audit_matches_journal(company)


def test_an_archive_of_somebody_deleted_for_good_says_refused(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, Active=False)
    company.sync(before_archive=lambda: company.person(AMY, "forget"))
    (row,) = rows(company, action="archive")
    assert (row["outcome"], row["after"]["status"]) == ("refused", "forgotten")
    assert_audit_matches_journal(company)


@pytest.mark.parametrize(
    ("system", "action"),
    [
        ("quickbooks", {"kind": "status", "status": 429, "headers": {"Retry-After": "7"}}),
        ("mailchimp", {"kind": "status", "status": 429, "body": "{}"}),
        ("mailchimp", {"kind": "html", "status": 403}),
    ],
)
def test_each_rate_limit_and_each_edge_block_met_has_a_row_with_the_seconds_waited(
    company, system, action
):
    company.customer("Amy", AMY)
    company.fault(system, times=2, action=action)
    company.sync()
    met = rows(company, action="rate_limited")
    assert [(row["system"], row["outcome"], row["attempts"]) for row in met] == [
        (system, "waited", 1),
        (system, "waited", 2),
    ]
    assert [row["after"]["seconds_waited"] for row in met] == company.waits[:2]
    assert {row["cause"] for row in met} == {"run:run-1"}
    assert AMY not in str(met)


def test_a_rate_limit_that_outlasts_the_tries_ends_with_a_row_that_says_so(company):
    company.customer("Amy", AMY)
    company.fault("mailchimp", action={"kind": "status", "status": 429, "body": "{}"})
    with pytest.raises(QuotaExhausted):
        company.sync()
    met = rows(company, action="rate_limited")
    assert [row["outcome"] for row in met] == ["waited", "waited", "waited", "gave_up"]


def test_every_webhook_that_came_to_its_end_has_a_row(company):
    amy = company.customer("Amy", AMY)
    company.told_by_quickbooks(("created", amy))
    company.told_by_mailchimp("unsubscribe", email="nobody@finch.org")
    company.work_off()
    settled = {row["cause"]: row for row in rows(company, action="webhook")}
    assert {row["outcome"] for row in settled.values()} == {"done"}
    assert {row["system"] for row in settled.values()} == {"quickbooks", "mailchimp"}
    assert {row["sync"] for row in settled.values()} == {"main"}
    (created,) = rows(company, action="create")
    assert created["origin"] in settled
    assert created["cause"].startswith("change:")


def test_a_webhook_nobody_can_work_on_is_told_once_it_is_dead_and_not_before(
    company, postpone_none
):
    company.told_by_quickbooks(("updated", "99999"))
    for _ in range(5):
        assert rows(company, action="webhook") == []
        postpone_none()
        company.work_off()
    (row,) = rows(company, action="webhook")
    assert (row["outcome"], row["error"], row["attempts"]) == ("dead", "not_found", 5)


@pytest.fixture
def postpone_none(company):
    """Makes whatever waits in the inbox due."""
    from sqlalchemy import text

    def due() -> None:
        with company.database.begin() as connection:
            connection.execute(text("UPDATE ml_connector.webhook_inbox SET next_try_at = now()"))

    return due


def test_what_a_member_did_by_webhook_is_written_to_the_customer_with_the_webhook_as_origin(
    company,
):
    company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=AMY)
    company.work_off()
    (webhook,) = rows(company, action="webhook")
    (note,) = rows(company, action="write_notes")
    assert note["origin"] == webhook["cause"]
    assert note["cause"].startswith("event:")
    assert_audit_matches_journal(company)


def test_an_event_told_of_another_audience_is_told_in_the_audit_when_it_comes_in(company):
    """Settled on delivery: nothing will ever work on it."""
    from urllib.parse import urlencode

    from ml_connector.mailchimp import webhooks
    from ml_connector.webhooks import inbox

    form = {"type": "unsubscribe", "fired_at": "2026-01-01 00:00:00", "data[list_id]": "other"}
    event = webhooks.read_event(
        urlencode(form).encode(),
        sync="main",
        audience_id=AUDIENCE,
        email_key=company.vault.email_key,
    )
    with company.database.begin() as connection:
        inbox.deliver(connection, [event, event], vault=company.vault)
    (row,) = rows(company, action="webhook")
    assert (row["outcome"], row["task_id"]) == (event.state, "receiver")
    assert event.state in ("ignored", "quarantined")
