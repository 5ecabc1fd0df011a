"""docs/reference/behaviour.md, A31 and A33: large plans wait for a person, previews write nothing."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from ml_connector.errors import PlanOutdated
from ml_connector.store import claims, plans
from ml_connector.sync import guard
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.push import push_shard


@pytest.fixture
def people(company) -> list[str]:
    """Thirty customers with their contacts, of whom ten were made inactive since."""
    ids = [company.customer(f"C{n}", f"c{n}@guarded-firm.com") for n in range(30)]
    company.sync()
    for each in ids[:10]:
        company.edit(each, Active=False)
    company.clear_journals()
    return ids


def planned(company):
    """A run up to its plan."""
    scope = company.scope()
    company.fetch(scope)
    return scope, company.plan(scope)


def carry_out(company, scope, plan) -> None:
    client = company.mailchimp_client(scope.calls)
    for shard in plan.shards:
        push_shard(scope, client, plan_id=plan.plan_id, shard=shard, again=False)
    archive_contacts(scope, client, plan_id=plan.plan_id)


def choices(company) -> list[tuple[str, str]]:
    """What was answered by whom, as the audit has it."""
    rows = [entry for entry in company.audit() if entry["action"] == "large_plan"]
    return [(row["outcome"], row["actor"]) for row in rows]


def archived(company) -> int:
    return list(company.statuses().values()).count("archived")


@pytest.mark.parametrize(
    ("limits", "held"),
    [
        ({}, False),
        ({"max_archives": 9, "max_archive_share": 0.1}, True),
        ({"max_archives": 10, "max_archive_share": 0}, False),
        ({"max_archives": 0, "max_archive_share": 0.33}, True),
        ({"max_archives": 0, "max_archive_share": 0.34}, False),
    ],
)
def test_a31_a_plan_waits_if_it_archives_more_than_the_larger_of_both_limits(
    company, people, limits, held
):
    company.settings["guard"] = limits
    scope, plan = planned(company)
    found = guard.hold_plan(scope, plan_id=plan.plan_id)
    assert (found is not None) == held
    if found:
        assert found.limits[0].startswith("10 contacts would be archived")
        assert found.samples[0][:2] == ("archive", "inactive")


def test_a31_a_plan_waits_if_it_changes_more_than_the_limit(company, people):
    company.settings["guard"] = {"max_updates": 2}
    for each in people[10:13]:
        company.edit(each, GivenName="Changed")
    scope, plan = planned(company)
    found = guard.hold_plan(scope, plan_id=plan.plan_id)
    assert found is not None
    assert found.limits == ("3 contacts would be changed, 2 are allowed",)


def test_a31_an_approved_plan_is_written_as_it_was_shown_and_the_person_is_in_the_audit(
    company, people
):
    company.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(company)
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is not None
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    carry_out(company, scope, plan)
    assert archived(company) == 10
    assert choices(company) == [("approved", "ada")]


def test_a31_a_task_that_is_tried_again_after_the_answer_asks_nobody_twice(company, people):
    company.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(company)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is None
    assert guard.plan_state(scope, plan_id=plan.plan_id) == "approved"
    assert choices(company) == [("approved", "ada")]
    company.edit(people[3], Active=True)
    company.told_by_quickbooks(("updated", people[3]))
    company.work_off()
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is not None, "facts moved: asked anew"


def test_a31_a_rejected_plan_writes_nothing_and_is_proposed_again(company, people):
    company.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(company)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    assert guard.reject(scope, plan_id=plan.plan_id, person="ada") == 10
    carry_out(company, scope, plan)
    assert company.writes() == []
    assert choices(company) == [("rejected", "ada")]
    scope, plan = planned(company)
    again = guard.hold_plan(scope, plan_id=plan.plan_id)
    assert again is not None
    assert again.forecast.size.archives == 10


@pytest.mark.parametrize("moved", ["customer", "contact", "webhook"])
def test_a31_an_approval_is_refused_if_facts_changed_since_the_plan_was_shown(
    company, people, moved
):
    company.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(company)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    if moved == "contact":
        company.person("c3@guarded-firm.com", "unsubscribe")
        company.told_by_mailchimp(
            "unsubscribe", email="c3@guarded-firm.com", id="1", action="unsub"
        )
    else:
        company.edit(people[3], Active=True)
        company.told_by_quickbooks(("updated", people[3]))
    company.work_off()
    company.clear_journals()
    with pytest.raises(PlanOutdated):
        guard.approve(scope, plan_id=plan.plan_id, person="ada")
    carry_out(company, scope, plan)
    assert company.writes() == []
    assert choices(company) == [("outdated", "ada")]


def test_a31_a_plan_that_nobody_answered_is_in_the_audit_as_nobodys_choice(company, people):
    company.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(company)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    assert guard.reject(scope, plan_id=plan.plan_id, person="") == 10
    carry_out(company, scope, plan)
    assert company.writes() == []
    assert [outcome for outcome, _ in choices(company)] == ["unanswered"]


def test_a31_an_opt_out_at_the_former_address_is_a_fact_that_changed(company, people):
    """The address stays in use, so the plan has no change of its own about its contact."""
    company.settings["guard"] = {"max_archives": 5}
    company.customer("Cora", "c20@guarded-firm.com")
    company.sync()
    company.move(people[20], "cora-new@guarded-firm.com")
    scope, plan = planned(company)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    company.person("c20@guarded-firm.com", "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email="c20@guarded-firm.com", id="1", action="unsub")
    company.work_off()
    with pytest.raises(PlanOutdated):
        guard.approve(scope, plan_id=plan.plan_id, person="ada")


def test_a31_a_first_load_is_no_large_change(company):
    company.settings["guard"] = {"max_archives": 0, "max_updates": 0}
    company.customer("Amy", "amy@guarded-firm.com")
    scope, plan = planned(company)
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is None


def test_a33_a_preview_is_never_held(company, people):
    company.settings["guard"] = {"max_archives": 0, "max_archive_share": 0}
    company.sync(preview=True)
    assert company.writes() == []
    scope, plan = planned(company)
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is not None


def test_a31_a_mass_of_archives_told_by_webhooks_waits_for_the_daily_run(company, people):
    company.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    company.told_by_quickbooks(*[("updated", each) for each in people[:10]])
    company.work_off()
    assert archived(company) == 0
    scope, plan = planned(company)
    held = guard.hold_plan(scope, plan_id=plan.plan_id)
    assert held is not None
    assert held.forecast.size.archives == 10


def test_a31_in_small_portions_as_well(company, people):
    company.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    for each in people[:10]:
        company.told_by_quickbooks(("updated", each))
        company.work_off()
    assert archived(company) == 5
    scope, plan = planned(company)
    held = guard.hold_plan(scope, plan_id=plan.plan_id)
    assert held is not None
    (limit,) = held.limits
    assert limit.startswith("5 contacts would be archived, 5 were archived by webhooks since")
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    carry_out(company, scope, plan)
    assert archived(company) == 10


def test_a31_the_share_is_of_the_contacts_before_webhooks_archived_any(company, people):
    company.settings["guard"] = {"max_archives": 0, "max_archive_share": 0.2}  # 6 of 30
    for some in (people[:5], people[5:6]):
        company.told_by_quickbooks(*[("updated", each) for each in some])
        company.work_off()
    assert archived(company) == 6


def test_a31_a_new_day_allows_as_much_again(company, people):
    company.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    for each in people[:5]:
        company.told_by_quickbooks(("updated", each))
    company.work_off()
    for each in people[5:10]:
        company.edit(each, Active=True)
    company.sync()
    for each in people[5:9]:
        company.edit(each, Active=False)
        company.told_by_quickbooks(("updated", each))
    company.work_off()
    assert archived(company) == 9


def test_a31_a_mass_of_archives_told_together_with_a_move_waits_as_well(company, people):
    """The mover's new contact becomes stale when the archive of the old one is left."""
    company.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    company.move(people[20], "moved@guarded-firm.com")
    company.told_by_quickbooks(*[("updated", each) for each in (*people[:10], people[20])])
    company.work_off()
    assert archived(company) == 0
    assert company.statuses()["moved@guarded-firm.com"] == "subscribed"
    scope, plan = planned(company)
    held = guard.hold_plan(scope, plan_id=plan.plan_id)
    assert held is not None
    assert held.forecast.size.archives == 11


def test_a31_a_change_that_became_stale_brings_nobody_elses_archive_into_the_run(company, people):
    """Ten were left to the next daily run while this one writes."""
    company.sync()
    for each in people[:10]:
        company.edit(each, Active=True)
    company.sync()
    company.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    company.edit(people[20], GivenName="Changed")

    def meanwhile() -> None:
        for each in people[:10]:
            company.edit(each, Active=False)
        company.edit(people[20], GivenName="Changed again")
        company.told_by_quickbooks(*[("updated", each) for each in people[:10]])
        company.work_off()
        company.fetch(company.scope(), ids=[people[20]])

    company.sync(before_push=meanwhile)
    assert archived(company) == 0
    assert company.fields("c20@guarded-firm.com")["FNAME"] == "Changed again"


def test_a31_more_archives_than_were_asked_about_are_left_to_the_next_run(company, people):
    """Webhooks archived as many as they may while the daily run wrote what it may."""
    company.settings["guard"] = {"max_archives": 6, "max_archive_share": 0}
    for each in people[5:10]:
        company.edit(each, Active=True)
    scope, plan = planned(company)
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is None
    for each in people[10:13]:
        company.edit(each, Active=False)
    company.told_by_quickbooks(*[("updated", each) for each in people[10:13]])
    company.work_off()
    carry_out(company, scope, plan)
    assert archived(company) == 3
    scope, plan = planned(company)
    held = guard.hold_plan(scope, plan_id=plan.plan_id)
    assert held is not None
    assert (held.forecast.size.archives, held.forecast.size.already) == (5, 3)


@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_a31_an_answer_outlives_a_task_that_failed_afterwards(company, people, answer):
    company.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(company)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    getattr(guard, answer)(scope, plan_id=plan.plan_id, person="ada")
    with company.database.begin() as connection:
        plans.fail(connection, plan_id=plan.plan_id, error="Mailchimp is away")
    assert guard.plan_state(scope, plan_id=plan.plan_id) == {"approve": "approved"}.get(
        answer, "rejected"
    )
    carry_out(company, scope, plan)
    assert archived(company) == (10 if answer == "approve" else 0)


def test_a31_an_archive_that_may_have_been_applied_is_finished_and_not_left(company, people):
    """Its worker was killed: left to the next run, it would pass for a marketer's."""
    company.settings["guard"] = {"max_archives": 20}
    scope, plan = planned(company)
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is None
    with company.database.begin() as connection:
        change, key = connection.execute(
            text("SELECT id, customer_id FROM ml_connector.changes WHERE kind = 'archive' LIMIT 1")
        ).one()
        claims.mark_started(connection, change_id=change)
    (email,) = (f"c{n}@guarded-firm.com" for n, id_ in enumerate(people) if id_ == key)
    company.mailchimp_client(scope.calls).archive(email)
    company.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    fewer = replace(scope, sync=company.sync_settings())
    archive_contacts(fewer, company.mailchimp_client(scope.calls), plan_id=plan.plan_id)
    assert archived(company) == 1
    (row,) = [row for row in company.audit() if row["action"] == "archive"]
    assert (row["customer_id"], row["outcome"]) == (key, "applied")


def test_a31_an_answer_is_no_answer_to_the_plan_of_a_run_that_is_planned_anew(company, people):
    company.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(company)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    guard.reject(scope, plan_id=plan.plan_id, person="ada")
    company.settings["guard"] = {"max_archives": 20}
    scope = replace(scope, sync=company.sync_settings())
    assert company.plan(scope).plan_id == plan.plan_id
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is None
    assert guard.plan_state(scope, plan_id=plan.plan_id) == "open"
