"""The console starts runs and shows how far they are."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from ml_connector.console.outside import RunUnderWay
from ml_connector.console.visit import Started
from ml_connector.store import plans
from tests.integration.company import Company
from tests.integration.test_console import FakeOutside, Visitor, words_of

RUN = "manual__now"


@pytest.fixture
def started() -> list[tuple]:
    return []


@pytest.fixture
def outside() -> FakeOutside:
    return FakeOutside()


@pytest.fixture
def user(company, started, outside) -> Visitor:
    def start(sync, *, preview, actor):
        if outside.under_way:
            return Started(said="A run is already queued.", link="/dags/d/runs/r", ok=False)
        started.append((sync.name, preview, actor))
        outside.under_way = under_way(company, preview=preview, queued=True)
        return Started(said="Started.")

    return Visitor(company, "user", start=start, outside=outside)


def under_way(company: Company, *tasks: str, queued=False, preview=False, ago=0) -> RunUnderWay:
    return RunUnderWay(
        run_id=RUN,
        preview=preview,
        queued=queued,
        since=company.clock() - timedelta(seconds=ago),
        tasks=frozenset(tasks),
        link=f"/dags/sync_customers__main/runs/{RUN}",
    )


def plan_of(company: Company, state: str = "open", **read: tuple[int, int | None]) -> int:
    """The plan of the run under way, in a state, with numbers read."""
    with company.database.begin() as connection:
        plan_id = plans.open_plan(connection, sync="main", run_id=RUN)
        for kind, (number, total) in read.items():
            plans.note_read(connection, plan_id=plan_id, kind=kind, number=number, total=total)
        connection.execute(
            text("UPDATE ml_connector.plans SET state = :state WHERE id = :id"),
            {"state": state, "id": plan_id},
        )
    return plan_id


def planned(company: Company, plan_id: int, *, written: int, pending: int) -> None:
    states = ["applied"] * written + ["pending"] * pending
    with company.database.begin() as connection:
        for number, state in enumerate(states):
            connection.execute(
                text("""INSERT INTO ml_connector.changes
                            (plan_id, sync, email_key, kind, reason, state, shard)
                        VALUES (:plan, 'main', :key, 'update', 'fields_changed', :state, 0)"""),
                {"plan": plan_id, "key": number.to_bytes(32), "state": state},
            )


def polled(visitor: Visitor, query: str = ""):
    return visitor.get(f"/main/run/progress{query}", headers={"HX-Request": "true"})


def test_sync_now_and_preview_start_one_run_each_in_the_users_name(user, started, outside):
    assert "Sync now" in user.page("/main")
    answer = user.post("/main/run")
    assert answer.status_code == 200
    assert "Queued" in words_of(answer.text)
    outside.under_way = None
    user.post("/main/run?preview=1")
    assert started == [("main", False, "user"), ("main", True, "user")]


def test_runs_that_a_user_starts_are_audited_with_who_it_was_and_refused_ones_are_not(
    company, user, outside
):
    user.post("/main/run")
    user.post("/main/run")
    outside.under_way = None
    user.post("/main/run?preview=1")
    found = [(row["action"], row["outcome"], row["actor"]) for row in company.audit()]
    assert found == [("start_run", "requested", "user"), ("start_preview", "requested", "user")]


def test_a_second_click_starts_nothing_and_is_told_why(user, started):
    user.post("/main/run")
    again = user.post("/main/run")
    assert again.status_code == 409
    assert "A run is already queued." in again.text
    assert 'href="/dags/d/runs/r"' in again.text
    assert len(started) == 1


def test_who_may_only_look_sees_the_run_and_no_button(company, outside):
    viewer = Visitor(company, "viewer", outside=outside)
    assert "Sync now</button>" not in viewer.get("/main").text
    assert viewer.post("/main/run").status_code == 403
    outside.under_way = under_way(company, "push")
    assert "Writing to Mailchimp" in viewer.page("/main")


def test_a_run_that_waits_for_approval_is_named_instead_of_started(company, user, outside):
    plan_id = plan_of(company, "waiting")
    outside.under_way = under_way(company, "approval")
    refused = words_of(user.post("/main/run").text)
    assert f"A run waits for approval. Approve or reject plan {plan_id} first." in refused
    assert "Waits for approval" in refused


def test_a_run_under_way_shows_what_it_has_read_planned_and_written(company, user, outside):
    outside.under_way = under_way(company, "fetch_customers")
    plan_id = plan_of(company, customers=(2000, 5000), members=(700, None))
    said = words_of(user.page("/main"))
    assert "Reading customers from QuickBooks" in said
    assert re.search("Customers read 2.000 of 5.000", said)
    assert "Members read 700" in said
    assert "Sync now" not in said

    outside.under_way = under_way(company, "push")
    planned(company, plan_id, written=3, pending=9)
    said = words_of(user.page(f"/main/plans/{plan_id}"))
    assert "Changes planned 12" in said
    assert "Changes written 3 of 12" in said


def test_the_time_left_follows_from_what_was_written_since_the_page_was_opened(
    company, user, outside
):
    outside.under_way = under_way(company, "push")
    planned(company, plan_of(company), written=3, pending=9)
    first = int(company.clock().timestamp()) - 60
    assert "All written" not in polled(user).text
    assert "All written in 3 min" in words_of(polled(user, f"?run={RUN}&mark={first}.0").text)
    for mark in ("9" * 400 + ".1", f"{first + 10**9}.0", "x.y", "1.", f"{first}.3"):
        assert "All written" not in polled(user, f"?run={RUN}&mark={mark}").text


def test_a_page_asks_again_until_the_run_has_ended_and_then_loads_anew(company, user, outside):
    outside.under_way = under_way(company, "report")
    plan_id = plan_of(company)
    assert f'hx-get="/ml-connector/console/main/run/progress?run={RUN}' in user.get("/main").text
    assert "hx-refresh" not in polled(user, f"?run={RUN}").headers
    outside.under_way = None
    assert polled(user, f"?run={RUN}").headers["hx-refresh"] == "true"
    preview = polled(user, f"?run={RUN}&preview=1")
    assert preview.headers["hx-redirect"].endswith(f"/main/plans/{plan_id}")
    assert "hx-get" not in polled(user).text, "without a run nothing asks again"


def test_a_run_that_stays_queued_says_where_to_look(company, user, outside):
    outside.under_way = under_way(company, queued=True, ago=20)
    assert "scheduler" not in user.page("/main")
    outside.under_way = under_way(company, queued=True, ago=200)
    assert "Check that its scheduler runs" in user.page("/main")


def test_customers_to_decide_on_are_counted_while_the_run_decides(company, user, outside):
    company.customer("Amy", "amy@run-mail.net")
    company.sync(preview=True)
    outside.under_way = under_way(company, "plan")
    plan_of(company)
    assert "Customers to decide on 1" in user.page("/main")
