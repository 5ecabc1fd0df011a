"""Promise 6: every external write has exactly one audit row, and every audit row a cause.

``audit_journal`` compares the trail with what both stand-ins saw.
"""

import pytest

from ml_connector.errors import QuotaExhausted
from tests.integration.audit_journal import assert_audit_matches_journal
from tests.integration.firm import ADDRESS, AUDIENCE, Firm

AMY = "amy@finch.org"


def rows(firm: Firm, **wanted: object) -> list[dict]:
    return [row for row in firm.audit() if wanted.items() <= row.items()]


def a_busy_week(firm: Firm) -> None:
    """All kinds of changes, refusals, write-back, conflicts and webhooks."""
    firm.mailchimp_control("PUT", "settings", {"throttled": ["slow@finch.org"]})
    firm.seed("c2@finch.org", tags=["VIP"])
    firm.seed("c3@finch.org", status="unsubscribed")
    firm.seed("gone@finch.org")
    firm.person("gone@finch.org", "forget")
    ids = {n: firm.customer(f"C{n}", f"c{n}@finch.org", BillAddr=ADDRESS) for n in range(1, 13)}
    for name in ("slow", "gone", "marketed", "bounced"):
        ids[name] = firm.customer(name, f"{name}@finch.org")
    firm.customer("Shares with C1", "c1@finch.org")
    firm.customer("Fake", "fake@fake-domain.org")
    firm.customer("Has none")
    firm.customer("Wrong", "not an address")
    firm.sync()
    firm.edit(ids[1], FamilyName="Changed")
    firm.move(ids[4], "moved4@finch.org")
    firm.person("c5@finch.org", "unsubscribe")
    firm.move(ids[5], "moved5@finch.org")
    for each in (6, 7, "marketed", "bounced"):
        firm.edit(ids[each], Active=False)
    firm.person("c8@finch.org", "unsubscribe")
    firm.person("c9@finch.org", "clean")

    def meanwhile() -> None:
        firm.person("marketed@finch.org", "archive")
        firm.person("bounced@finch.org", "clean")

    firm.sync(
        before_archive=meanwhile,
        before_write_back=lambda: firm.edit(ids[8], Notes="Somebody was faster"),
    )
    firm.edit(ids[6], Active=True, DisplayName="C6")
    firm.edit(ids[9], FamilyName="Changed though cleaned")
    firm.settings["on_inactive"] = "tag"
    firm.edit(ids[10], Active=False)
    firm.sync()
    firm.edit(ids[10], Active=True, DisplayName="C10")
    firm.sync()
    firm.settings["on_inactive"] = "archive"
    new = firm.customer("New", "new@finch.org")
    firm.edit(ids[11], Active=False)
    firm.edit(ids[12], FamilyName="By webhook")
    firm.person("c2@finch.org", "unsubscribe")
    firm.told_by_quickbooks(("created", new), ("updated", ids[11]), ("updated", ids[12]))
    firm.told_by_quickbooks(("updated", "99999"))
    firm.told_by_mailchimp("unsubscribe", email="c2@finch.org")
    firm.work_off()
    firm.sync(full_sync=True)


def test_after_a_busy_week_every_write_has_its_row_and_every_row_its_write(firm, contract):
    a_busy_week(firm)
    done = {(row["action"], row["outcome"]) for row in firm.audit()}
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
    assert assert_audit_matches_journal(firm) > 30


def test_the_comparison_notices_a_row_too_few_one_too_many_and_one_of_another_call(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    (row,) = [row for row in firm.audit() if row["action"] == "create"]
    for rows_of_another_story in ([], [row, row], [row | {"request_id": "other"}]):
        with pytest.raises(AssertionError):
            assert_audit_matches_journal(firm, rows=rows_of_another_story)
    assert assert_audit_matches_journal(firm) == 1


@pytest.mark.parametrize("write_to", ["attachment", "both"])
def test_attached_notes_have_their_rows_too(firm, write_to):
    firm.settings["activity"] = {"write_to": write_to}
    firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.sync()
    firm.settings["activity"] = {"write_to": "notes"}
    firm.person(AMY, "subscribe")
    firm.sync()
    assert rows(firm, action="attach_note", outcome="applied")
    assert assert_audit_matches_journal(firm) >= 3


def test_an_archive_by_webhook_whose_answer_was_lost_stays_ours_and_has_its_row(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.edit(amy, Active=False)
    lost = {"kind": "drop", "when": "after"}
    firm.fault("mailchimp", match={"method": "DELETE"}, times=4, action=lost)
    firm.told_by_quickbooks(("updated", amy))
    firm.work_off()
    firm.edit(amy, CompanyName="Told again")
    firm.told_by_quickbooks(("updated", amy))
    firm.work_off()
    firm.sync()
    (archived,) = rows(firm, action="archive")
    assert (archived["outcome"], archived["after"]["status"]) == ("applied", "archived")
    assert_audit_matches_journal(firm)
    firm.edit(amy, Active=True, DisplayName="Amy")
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}


def test_a_call_whose_answer_was_lost_is_one_effect_and_one_row(firm, contract):
    amy = firm.customer("Amy", AMY)
    firm.customer("Ben", "ben@finch.org")
    lost = {"kind": "drop", "when": "after"}
    firm.fault("mailchimp", match={"method": "POST"}, times=1, action=lost)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.fault("quickbooks", match={"path": "batch"}, times=1, action=lost)
    firm.sync()
    firm.edit(amy, Active=False)
    firm.fault("mailchimp", match={"method": "DELETE"}, times=1, action=lost)
    firm.sync()
    assert_audit_matches_journal(firm)
    assert len(rows(firm, customer_id=amy, action="write_notes")) == 1
    (archived,) = rows(firm, customer_id=amy, action="archive")
    assert archived["outcome"] == "applied"


def test_tags_put_on_and_taken_off_by_calls_of_their_own_are_told_by_their_contacts_row(firm):
    firm.mailchimp_control("PUT", "settings", {"batch_contract": "status_required"})
    firm.settings |= {"on_inactive": "tag", "inactive_tag": "Former"}
    firm.seed(AMY)
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.edit(amy, Active=False)
    firm.sync()
    firm.edit(amy, Active=True, DisplayName="Amy")
    firm.sync()
    took_off = firm.audit()[-1]["after"]["further_calls"]
    assert [(call["did"], call["tags"]) for call in took_off] == [("removed_tags", ["Former"])]
    assert_audit_matches_journal(firm)


def test_a19_an_archive_that_found_its_contact_archived_by_a_marketer_says_refused(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.edit(amy, Active=False)
    report = firm.sync(before_archive=lambda: firm.person(AMY, "archive"))
    (row,) = rows(firm, action="archive")
    assert (row["outcome"], row["error"], row["request_id"]) == (
        "refused",
        "archived already, by a marketer",
        None,
    )
    assert report.changes == [("archive", "inactive", "applied", 1)]
    assert_audit_matches_journal(firm)


def test_an_archive_of_somebody_deleted_for_good_says_refused(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.edit(amy, Active=False)
    firm.sync(before_archive=lambda: firm.person(AMY, "forget"))
    (row,) = rows(firm, action="archive")
    assert (row["outcome"], row["after"]["status"]) == ("refused", "forgotten")
    assert_audit_matches_journal(firm)


@pytest.mark.parametrize(
    ("system", "action"),
    [
        ("quickbooks", {"kind": "status", "status": 429, "headers": {"Retry-After": "7"}}),
        ("mailchimp", {"kind": "status", "status": 429, "body": "{}"}),
        ("mailchimp", {"kind": "html", "status": 403}),
    ],
)
def test_each_rate_limit_and_each_edge_block_met_has_a_row_with_the_seconds_waited(
    firm, system, action
):
    firm.customer("Amy", AMY)
    firm.fault(system, times=2, action=action)
    firm.sync()
    met = rows(firm, action="rate_limited")
    assert [(row["system"], row["outcome"], row["attempts"]) for row in met] == [
        (system, "waited", 1),
        (system, "waited", 2),
    ]
    assert [row["after"]["seconds_waited"] for row in met] == firm.waits[:2]
    assert {row["cause"] for row in met} == {"run:run-1"}
    assert AMY not in str(met)


def test_a_rate_limit_that_outlasts_the_tries_ends_with_a_row_that_says_so(firm):
    firm.customer("Amy", AMY)
    firm.fault("mailchimp", action={"kind": "status", "status": 429, "body": "{}"})
    with pytest.raises(QuotaExhausted):
        firm.sync()
    met = rows(firm, action="rate_limited")
    assert [row["outcome"] for row in met] == ["waited", "waited", "waited", "gave_up"]


def test_every_webhook_that_came_to_its_end_has_a_row(firm):
    amy = firm.customer("Amy", AMY)
    firm.told_by_quickbooks(("created", amy))
    firm.told_by_mailchimp("unsubscribe", email="nobody@finch.org")
    firm.work_off()
    settled = {row["cause"]: row for row in rows(firm, action="webhook")}
    assert {row["outcome"] for row in settled.values()} == {"done"}
    assert {row["system"] for row in settled.values()} == {"quickbooks", "mailchimp"}
    assert {row["sync"] for row in settled.values()} == {"main"}
    (created,) = rows(firm, action="create")
    assert created["origin"] in settled
    assert created["cause"].startswith("change:")


def test_a_webhook_nobody_can_work_on_is_told_once_it_is_dead_and_not_before(firm, postpone_none):
    firm.told_by_quickbooks(("updated", "99999"))
    for _ in range(5):
        assert rows(firm, action="webhook") == []
        postpone_none()
        firm.work_off()
    (row,) = rows(firm, action="webhook")
    assert (row["outcome"], row["error"], row["attempts"]) == ("dead", "not_found", 5)


@pytest.fixture
def postpone_none(firm):
    """Makes whatever waits in the inbox due."""
    from sqlalchemy import text

    def due() -> None:
        with firm.database.begin() as connection:
            connection.execute(text("UPDATE ml_connector.webhook_inbox SET next_try_at = now()"))

    return due


def test_what_a_member_did_by_webhook_is_written_to_the_customer_with_the_webhook_as_origin(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.told_by_mailchimp("unsubscribe", email=AMY)
    firm.work_off()
    (webhook,) = rows(firm, action="webhook")
    (note,) = rows(firm, action="write_notes")
    assert note["origin"] == webhook["cause"]
    assert note["cause"].startswith("event:")
    assert_audit_matches_journal(firm)


def test_an_event_told_of_another_audience_is_told_in_the_audit_when_it_comes_in(firm):
    """Settled on delivery: nothing will ever work on it."""
    from urllib.parse import urlencode

    from ml_connector.mailchimp import webhooks
    from ml_connector.webhooks import inbox

    form = {"type": "unsubscribe", "fired_at": "2026-01-01 00:00:00", "data[list_id]": "other"}
    event = webhooks.read_event(
        urlencode(form).encode(),
        sync="main",
        audience_id=AUDIENCE,
        email_key=firm.vault.email_key,
    )
    with firm.database.begin() as connection:
        inbox.deliver(connection, [event, event], vault=firm.vault)
    (row,) = rows(firm, action="webhook")
    assert (row["outcome"], row["task_id"]) == (event.state, "receiver")
    assert event.state in ("ignored", "quarantined")
