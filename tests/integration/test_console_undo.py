"""The plan's page offers to undo a run to those who may, and says how many contacts it concerns."""

import pytest
from sqlalchemy import text

from ml_connector.console.visit import Started
from tests.integration.company import Company
from tests.integration.test_console import Visitor
from tests.integration.undoing import last_run, undo


@pytest.fixture
def plan_id(company) -> int:
    company.customer("Amy", "amy@undo-mail.net")
    company.sync()
    return newest_plan(company)


def newest_plan(company: Company) -> int:
    with company.database.begin() as connection:
        found = connection.execute(text("SELECT max(id) FROM ml_connector.plans"))
        return int(found.scalar_one())


def test_a_run_is_undone_and_previewed_from_its_plans_page(company, plan_id):
    asked = []

    def start(sync, plan_id, *, dry_run, actor):
        asked.append((sync.name, plan_id, dry_run, actor))
        return Started(said="The undo has started.", link="/dags/undo_run/runs/r")

    user = Visitor(company, "user", undo=start)
    page = user.page(f"/main/plans/{plan_id}")
    assert "Undo this run" in page
    assert "It archives 1 contact. Contacts that changed since" in page
    assert "The undo has started." in user.post(f"/main/plans/{plan_id}/undo?preview=1").text
    answer = user.post(f"/main/plans/{plan_id}/undo").text
    assert 'href="/dags/undo_run/runs/r"' in answer
    assert asked == [("main", plan_id, True, "user"), ("main", plan_id, False, "user")]
    viewer = Visitor(company, "viewer", undo=start)
    assert "Undo this run</button>" not in viewer.get(f"/main/plans/{plan_id}").text
    assert viewer.post(f"/main/plans/{plan_id}/undo").status_code == 403
    assert user.post("/main/plans/999/undo").status_code == 404


def test_the_undos_own_page_names_the_run_and_lists_what_it_left(company, plan_id):
    company.person("amy@undo-mail.net", "unsubscribe")
    undo(company, last_run(company), preview=True)
    user = Visitor(company, "user", undo=lambda *_, **__: Started(said=""))
    page = user.page(f"/main/plans/{newest_plan(company)}")
    assert f"Undoes plan {plan_id}" in page
    assert "it was changed since that run" in page
    assert "unchanged" in page
    assert "Undo this run" not in page, "a preview wrote nothing"


def test_the_page_of_an_undone_run_names_the_undo(company, plan_id):
    user = Visitor(company, "user", undo=lambda *_, **__: Started(said=""))
    run = last_run(company)
    undo(company, run, preview=True)
    assert "Undone by" not in user.page(f"/main/plans/{plan_id}")
    undo(company, run)
    assert f"Undone by plan {newest_plan(company)}" in user.page(f"/main/plans/{plan_id}")
