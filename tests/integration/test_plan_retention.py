"""Plans are dropped with the months of the audit they belong to, and nothing that is not over."""

from datetime import UTC, datetime

from sqlalchemy import text

from ml_connector.retention import drop_old_plans
from ml_connector.store import plans

AMY, BOB = "amy@birds-sanctuary.com", "bob@windsurf-shop.com"
NOW = datetime(2026, 6, 17, tzinfo=UTC)


def ended(company, when: str) -> None:
    """Have all plans, and what they decided, begin and end at ``when``."""
    with company.database.begin() as connection:
        for change in (
            "UPDATE ml_connector.plans SET created_at = :when, finished_at = :when",
            "UPDATE ml_connector.changes SET decided_at = :when",
        ):
            connection.execute(text(change), {"when": when})


def counted(company, table: str) -> int:
    with company.database.begin() as connection:
        return connection.execute(text(f"SELECT count(*) FROM ml_connector.{table}")).scalar_one()


def drop(company, keep_months: int = 2, **how) -> int:
    return drop_old_plans(company.database, sync="main", now=NOW, keep_months=keep_months, **how)


def test_plans_of_before_the_kept_months_go_with_their_changes_and_intents(company):
    amy = company.customer("Amy", AMY)
    company.customer("Bob", BOB)
    company.sync()
    company.edit(amy, Active=False)
    company.sync()
    company.sync()
    assert [counted(company, table) for table in ("plans", "changes", "archive_intents")] == [
        3,
        3,
        1,
    ]
    ended(company, "2026-04-01T00:00:00Z")
    assert drop(company) == 0
    ended(company, "2026-03-31T23:59:59Z")
    assert drop(company, keep_months=0) == 0
    assert drop(company, batch=2) == 3
    assert [counted(company, table) for table in ("plans", "changes", "archive_intents")] == [
        1,
        0,
        0,
    ]


def test_the_last_run_that_succeeded_stays_and_so_does_what_came_after_it(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.customer("Bob", BOB)
    company.sync()
    company.edit(amy, Active=False)
    company.told_by_quickbooks(("updated", amy))
    company.work_off()  # counts among the archives of the next daily run
    company.sync(preview=True)
    ended(company, "2026-01-01T00:00:00Z")
    assert drop(company) == 1
    assert [counted(company, table) for table in ("plans", "changes")] == [3, 2]


def test_a_run_of_long_ago_that_is_run_again_is_not_old(company):
    company.customer("Amy", AMY)
    company.sync()
    company.sync()
    ended(company, "2026-01-01T00:00:00Z")
    with company.database.begin() as connection:
        first = connection.execute(text("SELECT min(id) FROM ml_connector.plans")).scalar_one()
        plans.finish(connection, plan_id=first, state="finished", counts={})
    drop(company)
    assert counted(company, "plans") == 2


def test_what_is_known_of_contacts_stays_and_the_next_run_has_nothing_to_do(company):
    company.customer("Amy", AMY)
    company.customer("Bob", BOB)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.sync()
    company.sync()
    ended(company, "2026-01-01T00:00:00Z")
    before = company.statuses(), company.decisions()
    assert drop(company) == 2
    company.clear_journals()
    company.sync(full_sync=True)
    assert (company.statuses(), company.decisions()) == before
    assert company.writes() == []


def test_a_plan_with_a_pending_change_stays(company):
    company.customer("Amy", AMY)
    company.customer("Bob", BOB)
    scope = company.scope("killed")
    company.fetch(scope)
    company.plan(scope)
    with company.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.changes SET state = 'applied'
                    WHERE id = (SELECT min(id) FROM ml_connector.changes)""")
        )
        plans.finish(
            connection,
            plan_id=plans.open_plan(connection, sync="main", run_id="a later one"),
            state="finished",
            counts={},
        )
    ended(company, "2026-01-01T00:00:00Z")
    assert drop(company) == 1
    assert (counted(company, "plans"), counted(company, "changes")) == (2, 1)


def test_the_plans_of_another_sync_are_left_to_its_own_runs(company):
    company.customer("Amy", AMY)
    company.sync()
    company.sync()
    ended(company, "2026-01-01T00:00:00Z")
    assert drop_old_plans(company.database, sync="other", now=NOW, keep_months=1) == 0
    assert counted(company, "plans") == 2


def test_plans_are_numbered_one_after_another_however_many_tasks_ask_for_theirs(company):
    with company.database.begin() as connection:
        first = [plans.open_plan(connection, sync="main", run_id="first") for _ in range(3)]
        again = plans.open_plan(connection, sync="main", run_id="first", kind="preview")
        second = plans.open_plan(connection, sync="main", run_id="second")
        kinds = connection.execute(text("SELECT kind FROM ml_connector.plans ORDER BY id"))
        assert list(kinds.scalars()) == ["preview", "sync"]
    assert {*first, again} == {second - 1}
