"""The console retries the failed and parked customers of a list, and nobody else."""

import pytest
from sqlalchemy import text

from ml_connector.console.outside import RunUnderWay
from ml_connector.console.visit import Started
from ml_connector.errors import SettingsError
from ml_connector.store import plans
from tests.integration.company import Company
from tests.integration.test_console import FakeOutside, Visitor, words_of

AT = "retry-mail.net"


@pytest.fixture
def firm(company) -> Company:
    """Fake and Fake Too are refused, Parked waits, Told is refused by QuickBooks, Well is well."""
    settings = {"refuse_fake_domains": True, "throttled": [f"parked@{AT}"]}
    company.mailchimp_control("PUT", "settings", settings)
    company.customer("Fake", "fake@example.com")
    company.customer("Fake Too", "too@example.com")
    company.customer("Parked", f"parked@{AT}")
    told = company.customer("Told", f"told@{AT}")
    company.customer("Well", f"well@{AT}")
    company.sync()
    change(
        company,
        """INSERT INTO ml_connector.activity_blocks (sync, customer_id, customer_no, state, attempts)
           VALUES ('main', :id, :number, 'refused', 5)
           ON CONFLICT (sync, customer_id) DO UPDATE SET state = 'refused', attempts = 5""",
        id=told,
        number=int(told),
    )
    company.mailchimp_control("PUT", "settings", {"refuse_fake_domains": False, "throttled": []})
    return company


def change(company: Company, statement: str, **values: object) -> None:
    with company.database.begin() as connection:
        connection.execute(text(statement), values)


def user_of(company: Company, started: list, outside: FakeOutside | None = None) -> Visitor:
    def start(sync, *, preview, actor):
        started.append((sync.name, preview, actor))
        return Started(said="The sync has started.", link="/dags/d/runs/r")

    return Visitor(company, "user", start=start, outside=outside or FakeOutside())


def retry(user: Visitor, shown: int, **given: str):
    return user.post("/main/customers/retry/start", {**given, "shown": str(shown)})


def asked(company: Company) -> list[dict]:
    return [row for row in company.audit() if row["action"] == "retry_customers"]


def test_a_list_is_counted_by_reason_confirmed_marked_due_and_synced(firm):
    started: list = []
    user = user_of(firm, started)
    page = user.page("/main/customers/retry")
    assert "4 of 5 customers in the list failed or are parked" in page
    assert "2: Mailchimp rejected the address as fake or invalid" in page
    assert "1: QuickBooks refused its activity" in page
    assert "Retry 4 customers" in page
    assert firm.statuses().keys() == {f"told@{AT}", f"well@{AT}"}
    assert started == [], "looking starts nothing"

    answer = retry(user, 4)
    assert "4 customers are due again. The sync has started." in answer.text
    assert started == [("main", False, "user")]
    (row,) = asked(firm)
    assert (row["actor"], row["after"]) == ("user", {"filter": {}, "customers": 4})
    again = retry(user, 4)
    assert (again.status_code, len(started)) == (404, 1)
    firm.sync()
    assert firm.statuses().keys() >= {"fake@example.com", "too@example.com", f"parked@{AT}"}


def test_only_the_customers_of_the_filter_are_retried(firm):
    user = user_of(firm, [])
    filtered = {"reason": "parked"} if "parked" in reasons(firm) else {"waiting": "mailchimp"}
    query = "&".join(f"{name}={value}" for name, value in filtered.items())
    assert "Retry 1 customer" in user.page(f"/main/customers/retry?{query}")
    retry(user, 1, **filtered)
    assert asked(firm)[0]["after"] == {"filter": filtered, "customers": 1}
    firm.sync()
    assert f"parked@{AT}" in firm.statuses()
    assert "fake@example.com" not in firm.statuses()
    listed = user.get("/main/customers?waiting=retry").text
    assert [name in listed for name in (">Fake<", ">Fake Too<", ">Told<", ">Parked<")] == [
        *(True, True, True, False)
    ]


def reasons(company: Company) -> set[str]:
    with company.database.begin() as connection:
        found = connection.execute(text("SELECT reason FROM ml_connector.customers"))
        return set(found.scalars())


@pytest.mark.parametrize("reason", ["forgotten", "compliance", "undone"])
def test_what_rests_on_a_person_is_not_retried(firm, reason):
    change(
        firm,
        "UPDATE ml_connector.contacts SET refused_reason = :reason WHERE refused_reason IS NOT NULL",
        reason=reason,
    )
    user = user_of(firm, [])
    assert "2 of 5 customers" in user.page("/main/customers/retry")
    retry(user, 2)
    firm.sync()
    assert "fake@example.com" not in firm.statuses()


@pytest.mark.parametrize("reason", ["forgotten", "compliance", "undone"])
def test_a_parked_contact_that_rests_on_a_person_is_not_retried(firm, reason):
    change(
        firm,
        "UPDATE ml_connector.contacts SET refused_reason = :reason WHERE parked_until IS NOT NULL",
        reason=reason,
    )
    user = user_of(firm, [])
    assert "3 of 5 customers" in user.page("/main/customers/retry")
    retry(user, 3)
    with firm.database.begin() as connection:
        query = "SELECT refused_reason FROM ml_connector.contacts WHERE parked_until IS NOT NULL"
        assert connection.execute(text(query)).scalar_one() == reason


def test_nothing_is_retried_while_a_plan_waits_for_approval(firm):
    with firm.database.begin() as connection:
        plan_id = plans.open_plan(connection, sync="main", run_id="r")
    change(firm, "UPDATE ml_connector.plans SET state = 'waiting' WHERE run_id = 'r'")
    outside = FakeOutside(
        under_way=RunUnderWay(
            run_id="r", preview=False, queued=False, since=None, tasks=frozenset(), link=""
        )
    )
    user = user_of(firm, [], outside)
    assert f"Approve or reject plan {plan_id} first." in user.page("/main/customers/retry")
    refused = retry(user, 4)
    assert refused.status_code == 409
    assert f"Approve or reject plan {plan_id} first." in refused.text
    assert asked(firm) == []


def test_nothing_is_retried_while_the_run_writes_its_approved_plan_or_an_undo_waits(firm):
    with firm.database.begin() as connection:
        ours = plans.open_plan(connection, sync="main", run_id="r")
        undo = plans.open_plan(connection, sync="main", run_id="u", kind="undo")
    change(firm, "UPDATE ml_connector.plans SET state = 'approved' WHERE run_id = 'r'")
    change(firm, "UPDATE ml_connector.plans SET state = 'waiting' WHERE run_id = 'u'")
    under_way = RunUnderWay(
        run_id="r", preview=False, queued=False, since=None, tasks=frozenset(), link=""
    )
    during = retry(user_of(firm, [], FakeOutside(under_way=under_way)), 4)
    assert during.status_code == 409
    assert f"A run writes the approved plan {ours}." in during.text
    later = retry(user_of(firm, []), 4)
    assert later.status_code == 409
    assert f"An undo waits for approval. Approve or reject plan {undo} first." in later.text
    assert asked(firm) == []


def test_more_than_were_shown_are_not_retried(firm):
    started: list = []
    grown = retry(user_of(firm, started), 3)
    assert grown.status_code == 409
    assert "Now 4 customers are to be retried. Look at the list again." in grown.text
    assert (asked(firm), started) == ([], [])
    assert 'name="shown" value="4"' in user_of(firm, []).get("/main/customers/retry").text


def test_a_wrong_filter_does_not_retry_everybody(firm):
    user = user_of(firm, [])
    refused = retry(user, 4, waiting="nonsense")
    assert refused.status_code == 400
    assert "waiting: one of" in refused.text
    assert user.get("/main/customers/retry?waiting=nonsense").status_code == 400
    assert asked(firm) == []


def test_activity_that_the_sync_no_longer_writes_is_not_retried(firm):
    firm.settings["activity"] = {"write_to": "none"}
    user = user_of(firm, [])
    assert "3 of 5 customers" in user.page("/main/customers/retry")
    assert "3 customers are due again." in retry(user, 3).text


def test_nothing_is_retried_if_airflow_would_refuse_the_run(firm):
    paused = Started(said="The DAG d is paused.", ok=False)
    user = Visitor(firm, "user", refusal=lambda _sync: paused, start=None)
    refused = retry(user, 4)
    assert (refused.status_code, "The DAG d is paused." in refused.text) == (409, True)
    assert asked(firm) == []


def test_a_start_that_fails_after_the_marking_is_told_with_what_was_marked(firm):
    def start(sync, *, preview, actor):
        raise SettingsError("there is no Airflow connection 'q'")

    answer = retry(Visitor(firm, "user", start=start), 4)
    said = "due again with the next run, but none was started: there is no Airflow connection 'q'."
    assert (answer.status_code, said in words_of(answer.text)) == (200, True)
    assert "notice bad" in answer.text


def test_a_retry_that_airflow_starts_no_run_for_says_when_it_happens(firm):
    def start(sync, *, preview, actor):
        return Started(said="The DAG d is paused.", ok=False)

    answer = words_of(retry(Visitor(firm, "user", start=start), 4).text)
    due = "4 customers are due again with the next run, but none was started:"
    assert f"{due} The DAG d is paused." in answer
    assert Visitor(firm, "viewer").post("/main/customers/retry/start").status_code == 403
    assert "Retry failed" not in Visitor(firm, "viewer").page("/main/customers")
