"""docs/behaviour.md, A31 and A33: large plans wait for a person, previews write nothing."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from ml_connector.errors import PlanOutdated
from ml_connector.store import changes, plans
from ml_connector.sync import guard
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.push import push_shard


@pytest.fixture
def people(firm) -> list[str]:
    """Thirty customers with their contacts, of whom ten were made inactive since."""
    ids = [firm.customer(f"C{n}", f"c{n}@guarded-firm.com") for n in range(30)]
    firm.sync()
    for each in ids[:10]:
        firm.edit(each, Active=False)
    firm.clear_journals()
    return ids


def planned(firm):
    """A run up to its plan."""
    scope = firm.scope()
    firm.fetch(scope)
    return scope, firm.plan(scope)


def carry_out(firm, scope, plan) -> None:
    client = firm.mailchimp_client(scope.calls)
    for shard in plan.shards:
        push_shard(scope, client, plan_id=plan.plan_id, shard=shard, again=False)
    archive_contacts(scope, client, plan_id=plan.plan_id)


def choices(firm) -> list[tuple[str, str]]:
    """What was answered by whom, as the audit has it."""
    rows = [entry for entry in firm.audit() if entry["action"] == "large_plan"]
    return [(row["outcome"], row["actor"]) for row in rows]


def archived(firm) -> int:
    return list(firm.statuses().values()).count("archived")


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
    firm, people, limits, held
):
    firm.settings["guard"] = limits
    scope, plan = planned(firm)
    found = guard.hold(scope, plan_id=plan.plan_id)
    assert (found is not None) == held
    if found:
        assert found.limits[0].startswith("10 contacts would be archived")
        assert found.samples[0][:2] == ("archive", "inactive")


def test_a31_a_plan_waits_if_it_changes_more_than_the_limit(firm, people):
    firm.settings["guard"] = {"max_updates": 2}
    for each in people[10:13]:
        firm.edit(each, GivenName="Changed")
    scope, plan = planned(firm)
    found = guard.hold(scope, plan_id=plan.plan_id)
    assert found is not None
    assert found.limits == ("3 contacts would be changed, 2 are allowed",)


def test_a31_an_approved_plan_is_written_as_it_was_shown_and_the_person_is_in_the_audit(
    firm, people
):
    firm.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(firm)
    assert guard.hold(scope, plan_id=plan.plan_id) is not None
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    carry_out(firm, scope, plan)
    assert archived(firm) == 10
    assert choices(firm) == [("approved", "ada")]


def test_a31_a_task_that_is_tried_again_after_the_answer_asks_nobody_twice(firm, people):
    firm.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(firm)
    guard.hold(scope, plan_id=plan.plan_id)
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    assert guard.hold(scope, plan_id=plan.plan_id) is None
    assert guard.state_of(scope, plan_id=plan.plan_id) == "approved"
    assert choices(firm) == [("approved", "ada")]
    firm.edit(people[3], Active=True)
    firm.told_by_quickbooks(("updated", people[3]))
    firm.work_off()
    assert guard.hold(scope, plan_id=plan.plan_id) is not None, "facts moved: asked anew"


def test_a31_a_rejected_plan_writes_nothing_and_is_proposed_again(firm, people):
    firm.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(firm)
    guard.hold(scope, plan_id=plan.plan_id)
    assert guard.reject(scope, plan_id=plan.plan_id, person="ada") == 10
    carry_out(firm, scope, plan)
    assert firm.writes() == []
    assert choices(firm) == [("rejected", "ada")]
    scope, plan = planned(firm)
    again = guard.hold(scope, plan_id=plan.plan_id)
    assert again is not None
    assert again.size.archives == 10


@pytest.mark.parametrize("moved", ["customer", "contact", "webhook"])
def test_a31_an_approval_is_refused_if_facts_changed_since_the_plan_was_shown(firm, people, moved):
    firm.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(firm)
    guard.hold(scope, plan_id=plan.plan_id)
    if moved == "contact":
        firm.person("c3@guarded-firm.com", "unsubscribe")
        firm.told_by_mailchimp("unsubscribe", email="c3@guarded-firm.com", id="1", action="unsub")
    else:
        firm.edit(people[3], Active=True)
        firm.told_by_quickbooks(("updated", people[3]))
    firm.work_off()
    firm.clear_journals()
    with pytest.raises(PlanOutdated):
        guard.approve(scope, plan_id=plan.plan_id, person="ada")
    carry_out(firm, scope, plan)
    assert firm.writes() == []
    assert choices(firm) == [("outdated", "ada")]


def test_a31_a_plan_that_nobody_answered_is_in_the_audit_as_nobodys_choice(firm, people):
    firm.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(firm)
    guard.hold(scope, plan_id=plan.plan_id)
    assert guard.reject(scope, plan_id=plan.plan_id, person="") == 10
    carry_out(firm, scope, plan)
    assert firm.writes() == []
    assert [outcome for outcome, _ in choices(firm)] == ["unanswered"]


def test_a31_an_opt_out_at_the_former_address_is_a_fact_that_changed(firm, people):
    """The address stays in use, so the plan has no change of its own about its contact."""
    firm.settings["guard"] = {"max_archives": 5}
    firm.customer("Cora", "c20@guarded-firm.com")
    firm.sync()
    firm.move(people[20], "cora-new@guarded-firm.com")
    scope, plan = planned(firm)
    guard.hold(scope, plan_id=plan.plan_id)
    firm.person("c20@guarded-firm.com", "unsubscribe")
    firm.told_by_mailchimp("unsubscribe", email="c20@guarded-firm.com", id="1", action="unsub")
    firm.work_off()
    with pytest.raises(PlanOutdated):
        guard.approve(scope, plan_id=plan.plan_id, person="ada")


def test_a31_a_first_load_is_no_large_change(firm):
    firm.settings["guard"] = {"max_archives": 0, "max_updates": 0}
    firm.customer("Amy", "amy@guarded-firm.com")
    scope, plan = planned(firm)
    assert guard.hold(scope, plan_id=plan.plan_id) is None


def test_a33_a_preview_is_never_held(firm, people):
    firm.settings["guard"] = {"max_archives": 0, "max_archive_share": 0}
    firm.sync(preview=True)
    assert firm.writes() == []
    scope, plan = planned(firm)
    assert guard.hold(scope, plan_id=plan.plan_id) is not None


def test_a31_a_mass_of_archives_told_by_webhooks_waits_for_the_daily_run(firm, people):
    firm.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    firm.told_by_quickbooks(*[("updated", each) for each in people[:10]])
    firm.work_off()
    assert archived(firm) == 0
    scope, plan = planned(firm)
    held = guard.hold(scope, plan_id=plan.plan_id)
    assert held is not None
    assert held.size.archives == 10


def test_a31_in_small_portions_as_well(firm, people):
    firm.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    for each in people[:10]:
        firm.told_by_quickbooks(("updated", each))
        firm.work_off()
    assert archived(firm) == 5
    scope, plan = planned(firm)
    held = guard.hold(scope, plan_id=plan.plan_id)
    assert held is not None
    (limit,) = held.limits
    assert limit.startswith("5 contacts would be archived, 5 were archived by webhooks since")
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    carry_out(firm, scope, plan)
    assert archived(firm) == 10


def test_a31_a_new_day_allows_as_much_again(firm, people):
    firm.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    for each in people[:5]:
        firm.told_by_quickbooks(("updated", each))
    firm.work_off()
    for each in people[5:10]:
        firm.edit(each, Active=True)
    firm.sync()
    for each in people[5:9]:
        firm.edit(each, Active=False)
        firm.told_by_quickbooks(("updated", each))
    firm.work_off()
    assert archived(firm) == 9


def test_a31_a_mass_of_archives_told_together_with_a_move_waits_as_well(firm, people):
    """The mover's new contact becomes stale when the archive of the old one is left."""
    firm.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    firm.move(people[20], "moved@guarded-firm.com")
    firm.told_by_quickbooks(*[("updated", each) for each in (*people[:10], people[20])])
    firm.work_off()
    assert archived(firm) == 0
    assert firm.statuses()["moved@guarded-firm.com"] == "subscribed"
    scope, plan = planned(firm)
    held = guard.hold(scope, plan_id=plan.plan_id)
    assert held is not None
    assert held.size.archives == 11


def test_a31_a_change_that_became_stale_brings_nobody_elses_archive_into_the_run(firm, people):
    """Ten were left to the next daily run while this one writes."""
    firm.sync()
    for each in people[:10]:
        firm.edit(each, Active=True)
    firm.sync()
    firm.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    firm.edit(people[20], GivenName="Changed")

    def meanwhile() -> None:
        for each in people[:10]:
            firm.edit(each, Active=False)
        firm.edit(people[20], GivenName="Changed again")
        firm.told_by_quickbooks(*[("updated", each) for each in people[:10]])
        firm.work_off()
        firm.fetch(firm.scope(), ids=[people[20]])

    firm.sync(before_push=meanwhile)
    assert archived(firm) == 0
    assert firm.fields("c20@guarded-firm.com")["FNAME"] == "Changed again"


def test_a31_more_archives_than_were_asked_about_are_left_to_the_next_run(firm, people):
    """Webhooks archived as many as they may while the daily run wrote what it may."""
    firm.settings["guard"] = {"max_archives": 6, "max_archive_share": 0}
    for each in people[5:10]:
        firm.edit(each, Active=True)
    scope, plan = planned(firm)
    assert guard.hold(scope, plan_id=plan.plan_id) is None
    for each in people[10:13]:
        firm.edit(each, Active=False)
    firm.told_by_quickbooks(*[("updated", each) for each in people[10:13]])
    firm.work_off()
    carry_out(firm, scope, plan)
    assert archived(firm) == 3
    scope, plan = planned(firm)
    held = guard.hold(scope, plan_id=plan.plan_id)
    assert held is not None
    assert (held.size.archives, held.size.already) == (5, 3)


@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_a31_an_answer_outlives_a_task_that_failed_afterwards(firm, people, answer):
    firm.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(firm)
    guard.hold(scope, plan_id=plan.plan_id)
    getattr(guard, answer)(scope, plan_id=plan.plan_id, person="ada")
    with firm.database.begin() as connection:
        plans.fail(connection, plan_id=plan.plan_id, error="Mailchimp is away")
    assert guard.state_of(scope, plan_id=plan.plan_id) == {"approve": "approved"}.get(
        answer, "rejected"
    )
    carry_out(firm, scope, plan)
    assert archived(firm) == (10 if answer == "approve" else 0)


def test_a31_an_archive_that_may_have_been_applied_is_finished_and_not_left(firm, people):
    """Its worker was killed: left to the next run, it would pass for a marketer's."""
    firm.settings["guard"] = {"max_archives": 20}
    scope, plan = planned(firm)
    assert guard.hold(scope, plan_id=plan.plan_id) is None
    with firm.database.begin() as connection:
        change, key = connection.execute(
            text("SELECT id, customer_id FROM ml_connector.changes WHERE kind = 'archive' LIMIT 1")
        ).one()
        changes.mark_started(connection, change_id=change)
    (email,) = (f"c{n}@guarded-firm.com" for n, id_ in enumerate(people) if id_ == key)
    firm.mailchimp_client(scope.calls).archive(email)
    firm.settings["guard"] = {"max_archives": 5, "max_archive_share": 0}
    fewer = replace(scope, sync=firm.sync_settings())
    archive_contacts(fewer, firm.mailchimp_client(scope.calls), plan_id=plan.plan_id)
    assert archived(firm) == 1
    (row,) = [row for row in firm.audit() if row["action"] == "archive"]
    assert (row["customer_id"], row["outcome"]) == (key, "applied")


def test_a31_an_answer_is_no_answer_to_the_plan_of_a_run_that_is_planned_anew(firm, people):
    firm.settings["guard"] = {"max_archives": 5}
    scope, plan = planned(firm)
    guard.hold(scope, plan_id=plan.plan_id)
    guard.reject(scope, plan_id=plan.plan_id, person="ada")
    firm.settings["guard"] = {"max_archives": 20}
    scope = replace(scope, sync=firm.sync_settings())
    assert firm.plan(scope).plan_id == plan.plan_id
    assert guard.hold(scope, plan_id=plan.plan_id) is None
    assert guard.state_of(scope, plan_id=plan.plan_id) == "open"
