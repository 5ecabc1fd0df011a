"""Plans are dropped with the months of the audit they belong to, and nothing that is not over."""

from datetime import UTC, datetime

from sqlalchemy import text

from ml_connector.retention import drop_old_plans
from ml_connector.store import plans

AMY, BOB = "amy@birds-sanctuary.com", "bob@windsurf-shop.com"
NOW = datetime(2026, 6, 17, tzinfo=UTC)


def ended(firm, when: str) -> None:
    """Have all plans, and what they decided, begin and end at ``when``."""
    with firm.database.begin() as connection:
        for change in (
            "UPDATE ml_connector.plans SET created_at = :when, finished_at = :when",
            "UPDATE ml_connector.changes SET decided_at = :when",
        ):
            connection.execute(text(change), {"when": when})


def counted(firm, table: str) -> int:
    with firm.database.begin() as connection:
        return connection.execute(text(f"SELECT count(*) FROM ml_connector.{table}")).scalar_one()


def drop(firm, keep_months: int = 2, **how) -> int:
    return drop_old_plans(firm.database, sync="main", now=NOW, keep_months=keep_months, **how)


def test_plans_of_before_the_kept_months_go_with_their_changes_and_intents(firm):
    amy = firm.customer("Amy", AMY)
    firm.customer("Bob", BOB)
    firm.sync()
    firm.edit(amy, Active=False)
    firm.sync()
    firm.sync()
    assert [counted(firm, table) for table in ("plans", "changes", "archive_intents")] == [3, 3, 1]
    ended(firm, "2026-04-01T00:00:00Z")
    assert drop(firm) == 0
    ended(firm, "2026-03-31T23:59:59Z")
    assert drop(firm, keep_months=0) == 0
    assert drop(firm, batch=2) == 3
    assert [counted(firm, table) for table in ("plans", "changes", "archive_intents")] == [1, 0, 0]


def test_the_last_run_that_succeeded_stays_and_so_does_what_came_after_it(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.customer("Bob", BOB)
    firm.sync()
    firm.edit(amy, Active=False)
    firm.told_by_quickbooks(("updated", amy))
    firm.work_off()  # counts among the archives of the next daily run
    firm.sync(preview=True)
    ended(firm, "2026-01-01T00:00:00Z")
    assert drop(firm) == 1
    assert [counted(firm, table) for table in ("plans", "changes")] == [3, 2]


def test_a_run_of_long_ago_that_is_run_again_is_not_old(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    firm.sync()
    ended(firm, "2026-01-01T00:00:00Z")
    with firm.database.begin() as connection:
        first = connection.execute(text("SELECT min(id) FROM ml_connector.plans")).scalar_one()
        plans.finish(connection, plan_id=first, state="finished", counts={})
    drop(firm)
    assert counted(firm, "plans") == 2


def test_what_is_known_of_contacts_stays_and_the_next_run_has_nothing_to_do(firm):
    firm.customer("Amy", AMY)
    firm.customer("Bob", BOB)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.sync()
    firm.sync()
    ended(firm, "2026-01-01T00:00:00Z")
    before = firm.statuses(), firm.decisions()
    assert drop(firm) == 2
    firm.clear_journals()
    firm.sync(full_sync=True)
    assert (firm.statuses(), firm.decisions()) == before
    assert firm.writes() == []


def test_a_plan_with_a_pending_change_stays(firm):
    firm.customer("Amy", AMY)
    firm.customer("Bob", BOB)
    scope = firm.scope("killed")
    firm.fetch(scope)
    firm.plan(scope)
    with firm.database.begin() as connection:
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
    ended(firm, "2026-01-01T00:00:00Z")
    assert drop(firm) == 1
    assert (counted(firm, "plans"), counted(firm, "changes")) == (2, 1)


def test_the_plans_of_another_sync_are_left_to_its_own_runs(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    firm.sync()
    ended(firm, "2026-01-01T00:00:00Z")
    assert drop_old_plans(firm.database, sync="other", now=NOW, keep_months=1) == 0
    assert counted(firm, "plans") == 2
