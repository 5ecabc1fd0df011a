"""docs/reference/behaviour.md, A46: nothing is written for a sync before a person approved its first plan."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from ml_connector.audit import trail
from ml_connector.audit.trail import Selection
from ml_connector.errors import SettingsError
from ml_connector.replay import replay
from ml_connector.settings import Sync
from ml_connector.store import cursors
from ml_connector.sync import forecast, guard, rehearsal
from ml_connector.sync.guard import HeldPlan
from ml_connector.wire.transport import ReadOnly
from tests.integration.test_behaviour_guard import carry_out

AMY, BEN, CY = "amy@first-run.net", "ben@first-run.net", "cy@first-run.net"


@pytest.fixture
def firm(company):
    """Three customers; one is in the audience, one there opted out, one is new."""
    company.settings["first_run"] = "ask"
    company.seed(AMY, merge_fields={"FNAME": "Amelia"})
    company.seed(BEN, status="unsubscribed")
    for name, address in (("Amy", AMY), ("Ben", BEN), ("Cy", CY), ("Di", None)):
        company.customer(name, address)
    company.clear_journals()
    return company


def run(company, *, approve: bool = False) -> HeldPlan | None:
    """Run the sync as the DAG does; return why its plan was held."""
    scope = company.scope()
    planned = company.decide(scope)
    held = guard.hold_plan(scope, plan_id=planned.plan_id)
    if held is None or approve:
        if held:
            guard.approve(scope, plan_id=planned.plan_id, person="admin")
        carry_out(company, scope, planned)
    else:
        guard.reject(scope, plan_id=planned.plan_id, person="")
    company.report(scope, planned)
    return held


def people_of(firm) -> list[str]:
    found = firm.quickbooks_control("GET", "customers")
    return [each["Id"] for each in found["customers"]]


def test_who_says_nothing_is_asked():
    fields = {"name": "main", "audience_id": "a", "new_contact_status": "pending", "fields": {}}
    assert Sync.model_validate(fields).first_run == "ask"


def test_a46_the_first_plan_waits_however_small_and_nothing_is_written(firm):
    held = run(firm)
    assert held is not None
    assert held.first == "this is the first run of the sync"
    assert held.limits == ()
    assert firm.writes() == []
    assert run(firm) is not None, "an unanswered question is asked again"
    assert firm.writes() == []


def test_a46_a_trial_with_one_customer_lets_the_first_plan_for_all_wait(firm):
    scope, cy = firm.scope(), people_of(firm)[2]
    planned = firm.decide(scope, ids=[cy])
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is not None
    guard.approve(scope, plan_id=planned.plan_id, person="admin")
    carry_out(firm, scope, planned)
    firm.report(scope, planned)
    assert set(firm.statuses()) == {AMY, BEN, CY}
    firm.clear_journals()
    held = run(firm)
    assert held is not None
    assert held.first == "so far only plans for single customers were approved"
    assert firm.writes() == []
    assert run(firm, approve=True) is not None
    assert run(firm) is None


def test_a46_the_question_says_what_the_plan_does(firm):
    held = run(firm)
    assert held is not None
    assert held.forecast.creates == {"subscribed": 1}
    assert held.forecast.matched == {"subscribed": 1, "unsubscribed": 1}
    assert list(held.forecast.sentences())[:5] == [
        "1 new contact (1 subscribed)",
        "2 contacts changed",
        "2 customers already in the audience (1 subscribed, 1 unsubscribed)",
        "1 opt-out or bounce respected",
        "1 customer without a contact: no e-mail address",
    ]


def test_a46_the_question_counts_what_is_overwritten_and_names_no_value(firm):
    firm.settings["adopt"] = "overwrite"
    held = run(firm)
    assert held is not None
    (one,) = held.forecast.overwrites
    assert (one.field, one.contacts) == ("First Name", 1)
    assert "First Name: 1 value overwritten" in list(held.forecast.sentences())
    assert "Amelia" not in str(held)


def test_a46_what_is_left_alone_is_not_overwritten(firm):
    held = run(firm)
    assert held is not None
    assert held.forecast.overwrites == [], "adopt: fill_empty keeps Amelia"


def rehearsed(firm) -> list[str]:
    """The report of a preview, as the terminal shows it."""
    scope = replace(firm.scope(), read_only=True)
    planned = firm.decide(scope, preview=True)
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is None
    firm.report(scope, planned)
    return rehearsal.report_of(scope, plan_id=planned.plan_id)


def test_e1_a_rehearsal_shows_what_would_be_overwritten_with_samples(firm):
    firm.settings["adopt"] = "overwrite"
    amy = people_of(firm)[0]
    told = rehearsed(firm)
    place = told.index("First Name: 1 value overwritten")
    assert told[place + 1] == f"  customer {amy}: Amelia -> Amy"
    assert "1 customer without a contact: no e-mail address" in told


def test_e1_a_rehearsal_of_a_later_run_shows_old_and_new_values(firm):
    run(firm, approve=True)
    cy = people_of(firm)[2]
    firm.edit(cy, GivenName="Cyrus")
    told = rehearsed(firm)
    assert f"  customer {cy}: Cy -> Cyrus" in told
    assert told.count("1 customer without a contact: no e-mail address") == 1


def test_e1_a_first_run_after_a_rehearsal_does_what_the_rehearsal_said(firm):
    told = rehearsed(firm)
    held = run(firm, approve=True)
    assert held is not None
    assert held.first == "this is the first run of the sync"
    said = [line for line in held.forecast.sentences() if "to QuickBooks" not in line]
    assert said == [line for line in told if "to QuickBooks" not in line]
    assert firm.statuses() == {AMY: "subscribed", BEN: "unsubscribed", CY: "subscribed"}


def test_a46_an_approved_plan_is_written_and_later_ones_are_not_asked_about(firm):
    assert run(firm, approve=True) is not None
    assert firm.statuses()[CY] == "subscribed"
    firm.customer("Eva", "eva@first-run.net")
    assert run(firm) is None
    assert "eva@first-run.net" in firm.statuses()


def test_a46_first_run_write_asks_nobody(firm):
    firm.settings["first_run"] = "write"
    assert run(firm) is None
    assert firm.statuses()[CY] == "subscribed"


def test_a46_a_sync_that_wrote_before_it_could_be_asked_goes_on(firm):
    firm.settings["first_run"] = "write"
    run(firm)
    with firm.database.begin() as connection:
        connection.execute(text("DELETE FROM ml_connector.cursors WHERE name = 'approved'"))
    firm.settings["first_run"] = "ask"
    firm.customer("Eva", "eva@first-run.net")
    assert run(firm) is None


def test_a46_another_consent_of_new_contacts_is_asked_about(firm):
    run(firm, approve=True)
    firm.settings["new_contact_status"] = "pending"
    firm.customer("Eva", "eva@first-run.net")
    held = run(firm)
    assert held is not None
    assert held.first == "new contacts would get another status than before"


def test_a46_another_audience_is_asked_about(firm):
    run(firm, approve=True)
    with firm.database.begin() as connection:
        known = cursors.get(connection, sync="main", name="approved")
        known["audience"] = "ffffffffff"
        cursors.put(connection, sync="main", name="approved", value=known)
    firm.customer("Eva", "eva@first-run.net")
    held = run(firm)
    assert held is not None
    assert held.first == "the audience is another one than before"


def test_a46_the_first_plan_that_creates_contacts_after_create_never_is_asked_about(firm):
    firm.settings["create"] = "never"
    assert run(firm, approve=True) is not None
    firm.settings["create"] = "all"
    held = run(firm)
    assert held is not None
    assert held.first == "contacts would be created, which `create: never` excluded so far"
    assert set(firm.statuses()) == {AMY, BEN}
    assert run(firm, approve=True) is not None
    firm.settings["create"] = "never"
    firm.customer("Eva", "eva@first-run.net")
    assert run(firm) is None


def test_a46_a_new_marketing_permission_is_asked_about(firm):
    run(firm, approve=True)
    firm.mailchimp_control("PUT", "permissions", {"permissions": ["Email"]})
    firm.settings["marketing_permissions"] = {"Email": "consent: order form"}
    firm.customer("Eva", "eva@first-run.net")
    held = run(firm)
    assert held is not None
    assert held.first.startswith("new contacts would get marketing permissions")


def test_a46_a_rehearsal_with_another_audience_lets_the_former_one_be_asked_about(firm):
    run(firm, approve=True)
    former = firm.sync_settings().audience_id
    firm.mailchimp_control("POST", "audiences", {"id": "b1b2c3d4e5", "name": "Other"})
    firm.settings |= {"audience_id": "b1b2c3d4e5", "fields": {"FNAME": "GivenName"}}
    rehearsed(firm)
    firm.settings["audience_id"] = former
    firm.customer("Eva", "eva@first-run.net")
    firm.clear_journals()
    held = run(firm)
    assert held is not None
    assert held.first == "the audience is another one than before"
    assert firm.writes() == []


def test_a46_months_of_silence_are_asked_about(firm):
    run(firm, approve=True)
    ended = datetime.now(UTC) - timedelta(days=61)
    with firm.database.begin() as connection:
        known = cursors.get(connection, sync="main", name="approved")
        known["at"] = ended.isoformat()
        cursors.put(connection, sync="main", name="approved", value=known)
    firm.customer("Eva", "eva@first-run.net")
    held = run(firm)
    assert held is not None
    assert held.first == "the sync was silent for 61 days"


def test_a46_webhooks_before_the_first_plan_write_nothing_to_either_side(firm):
    firm.told_by_quickbooks(*(("updated", each) for each in people_of(firm)[:2]))
    firm.person(AMY, "unsubscribe")
    firm.told_by_mailchimp("unsubscribe", email=AMY, action="unsub", reason="manual")
    firm.work_off()
    assert firm.inbox() == {"done": 3}
    assert firm.writes() == []
    written = [
        c for c in firm.calls("quickbooks") if c["method"] != "GET" and "query" not in c["path"]
    ]
    assert written == []
    held = run(firm, approve=True)
    assert held is not None
    assert firm.statuses() == {AMY: "unsubscribed", BEN: "unsubscribed", CY: "subscribed"}


def test_a46_a_replay_before_the_first_plan_is_refused(firm):
    run(firm, approve=True)
    firm.settings["new_contact_status"] = "pending"
    scope = firm.scope()
    with scope.database.begin() as connection:
        rows = trail.select(connection, Selection(ids=(1,)))
    with pytest.raises(SettingsError, match="its plan was not approved"):
        replay(firm.open_sync(), rows)


def test_e1_a_preview_reads_both_systems_and_not_one_write_can_leave(firm):
    firm.fetch(firm.scope())  # with a token: its own transport may be posted to
    firm.around = lambda _system, transport: ReadOnly(transport)
    firm.sync(preview=True)
    assert firm.calls("quickbooks")
    assert firm.calls("mailchimp")
    scope = firm.scope()
    planned = firm.decide(scope)
    with pytest.raises(SettingsError, match="nothing was sent"):
        firm.push(scope, planned)
    assert firm.writes() == []


def test_e1_a_preview_says_what_a_run_would_do(firm):
    scope = replace(firm.scope(), read_only=True)
    planned = firm.decide(scope, preview=True)
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is None
    with firm.database.begin() as connection:
        stored = connection.execute(
            text("SELECT counts -> 'forecast' FROM ml_connector.plans WHERE id = :id"),
            {"id": planned.plan_id},
        ).scalar_one()
    expected = forecast.shown(stored)
    assert expected is not None
    assert next(expected.sentences()) == "1 new contact (1 subscribed)"
