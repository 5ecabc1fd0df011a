"""Like changes as one row: each still has its own fate, its own audit row, and can be found."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from ml_connector.console.queries import plans as plan_queries
from ml_connector.console.queries.timeline import read_timeline
from ml_connector.model import ChangeState, Kind
from ml_connector.store import batches, changes, claims, customers
from ml_connector.sync import planner
from ml_connector.sync.push import push_shard
from tests.integration.company import Company

COUNT = 12


def address(number: int) -> str:
    return f"c{number}@finch-farm.org"


@pytest.fixture
def planned(company: Company):
    """A company of twelve whose creations are queued, and its plan."""
    ids = [company.customer(f"Customer {n}", address(n)) for n in range(COUNT)]
    scope = company.scope()
    company.fetch(scope)
    return scope, company.plan(scope), ids


def key_of(company: Company, customer_id: str) -> bytes:
    with company.database.begin() as connection:
        (key,) = customers.address_keys(connection, sync="main", ids=[customer_id])
    return key


def batched(company: Company) -> list[tuple[str, int]]:
    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT state, size FROM ml_connector.change_batches ORDER BY id")
        ).all()
    return [tuple(row) for row in rows]


def states(company: Company) -> dict[str, str]:
    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT customer_id, state FROM ml_connector.all_changes ORDER BY id")
        ).all()
    return dict(map(tuple, rows))


def push(company: Company, scope, plan) -> dict[str, int]:
    client = company.mailchimp_client(scope.calls)
    return push_shard(scope, client, plan_id=plan.plan_id, shard=0, threads=2)


def test_like_changes_are_one_row_and_settled_as_one(company, planned):
    scope, plan, ids = planned
    assert batched(company) == [("pending", COUNT)]
    assert push(company, scope, plan) == {"applied": COUNT}
    assert batched(company) == [("applied", COUNT)]
    assert states(company) == dict.fromkeys(ids, "applied")
    with company.database.begin() as connection:
        causes = connection.execute(
            text("SELECT 'change:' || id FROM ml_connector.all_changes")
        ).scalars()
    written = [row for row in company.audit() if row["action"] == "create"]
    assert sorted(row["cause"] for row in written) == sorted(causes)


def test_a_refused_contact_leaves_its_batch_and_the_others_are_applied(company):
    good = [company.customer(f"Customer {n}", address(n)) for n in range(COUNT)]
    bad = company.customer("Fake", "fake@example.com")
    company.sync()
    assert states(company) == {**dict.fromkeys(good, "applied"), bad: "failed"}
    assert batched(company) == [("applied", COUNT)]


def test_a35_a_contact_has_one_pending_change_whoever_decides_next(company, planned):
    scope, plan, ids = planned
    company.edit(ids[3], GivenName="Changed")
    later = company.scope("webhook")
    company.fetch(later)
    planner.decide_on(later, plan_id=later.plan_id("webhooks"), customer_ids=[ids[3]])
    with company.database.begin() as connection:
        pending = connection.execute(
            text("""SELECT customer_id, count(*) FROM ml_connector.all_changes
                    WHERE state = 'pending' GROUP BY customer_id""")
        ).all()
    assert dict(map(tuple, pending)) == dict.fromkeys(ids, 1)
    assert batched(company) == [("pending", COUNT - 1)]
    assert push(company, scope, plan) == {"applied": COUNT - 1}


def test_changes_that_became_outdated_leave_the_batch_and_are_decided_again(company, planned):
    scope, plan, ids = planned
    company.edit(ids[0], GivenName="Changed")
    company.fetch(company.scope("later"))
    assert push(company, scope, plan) == {"superseded": 1, "applied": COUNT}
    assert company.members()[address(0)]["merge_fields"]["FNAME"] == "Changed"
    assert batched(company) == [("applied", COUNT - 1)]


def test_a_batch_that_a_decision_holds_is_waited_for(company, planned):
    scope, plan, _ = planned
    with ThreadPoolExecutor(1) as pool:
        with company.database.begin() as other:
            held = batches.lock_at(other, sync="main", keys=[key_of(company, planned[2][0])])
            assert len(list(held)) == 1
            pushing = pool.submit(push, company, scope, plan)
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not other.execute(waiting).scalar_one():
                assert not pushing.done()
        assert pushing.result() == {"applied": COUNT}


def test_a_decision_waits_for_a_call_under_way_and_leaves_what_was_applied(company):
    amy = company.customer("Amy", address(0))
    company.sync()
    company.edit(amy, GivenName="Amelie")
    scope = company.scope()
    company.fetch(scope)
    plan = company.plan(scope)

    def decide():
        with company.database.begin() as connection:
            return changes.supersede_at(connection, sync="main", keys=[key_of(company, amy)])

    with ThreadPoolExecutor(1) as pool:
        with company.database.begin() as pusher:
            (held,) = claims.claim(
                pusher, plan_id=plan.plan_id, shard=None, kinds=[Kind.UPDATE], chunk=1
            )
            deciding = pool.submit(decide)
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not pusher.execute(waiting).scalar_one():
                assert not deciding.done()
            changes.settle(pusher, [changes.SettledChange(id=held.id, state=ChangeState.APPLIED)])
        assert deciding.result() == (set(), set())
    assert states(company)[amy] == "applied"


def test_a_rejected_plan_supersedes_its_batches_and_its_customers_wait_again(company, planned):
    _, plan, ids = planned
    with company.database.begin() as connection:
        dropped = changes.supersede(connection, sync="main", plan_id=plan.plan_id)
    assert (dropped, batched(company)) == (COUNT, [("superseded", COUNT)])
    company.sync()
    assert set(company.statuses().values()) == {"subscribed"}
    assert len(company.statuses()) == len(ids)


def test_the_console_pages_through_batches_and_rows_alike(company, planned):
    scope, plan, ids = planned
    with company.database.begin() as connection:
        ((batch_id, _, at),) = batches.lock_at(
            connection, sync="main", keys=[key_of(company, ids[5])]
        )
        batches.take_out(connection, batch_id=batch_id, ids=at)
    seen = [
        row.customer_id
        for row in plan_queries.iter_changes(company.database.begin, plan_id=plan.plan_id)
    ]
    assert sorted(seen) == sorted(ids)
    with company.database.begin() as connection:
        first = plan_queries.changes(connection, plan_id=plan.plan_id, limit=4)
        rest = plan_queries.changes(connection, plan_id=plan.plan_id, after=first[-1].id)
    assert [row.customer_id for row in (*first, *rest)] == seen
    for id_ in (ids[5], ids[6]):
        with company.database.begin() as connection:
            timeline = read_timeline(
                connection,
                sync="main",
                realm="",
                customer_id=id_,
                keys=[key_of(company, id_)],
                vault=scope.vault,
            )
        decided = [entry for entry in timeline.entries if entry.kind == "decided"]
        assert [entry.row["customer_id"] for entry in decided] == [id_]
