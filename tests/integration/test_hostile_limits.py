"""What a server, a database or a sender may do to a run: it stays bounded and loses nothing."""

from collections import Counter

import pytest
from sqlalchemy import make_url, text

from ml_connector.privacy.erased_payloads import erase_suppressed
from ml_connector.store.database import Database

AMY = "amy@finch.org"


@pytest.fixture
def impatient(company):
    """A company whose database ends transactions that are idle for a second."""
    name = make_url(company.database_url).database
    with company.database.begin() as connection:
        connection.execute(
            text(f'ALTER DATABASE "{name}" SET idle_in_transaction_session_timeout = 1000')
        )
    former, company.database = company.database, Database(company.database_url)
    yield company
    with former.begin() as connection:
        connection.execute(
            text(f'ALTER DATABASE "{name}" RESET idle_in_transaction_session_timeout')
        )
    company.database.close()
    company.database = former


@pytest.mark.parametrize(
    ("system", "method"), [("mailchimp", "POST"), ("mailchimp", "DELETE"), ("quickbooks", "POST")]
)
def test_a_database_that_ends_idle_transactions_loses_no_outcome(impatient, system, method):
    slow = {"kind": "delay", "seconds": 2.0}
    amy = impatient.customer("Amy", AMY)
    impatient.customer("Ben", "ben@finch.org")
    if (system, method) != ("mailchimp", "POST"):
        impatient.sync()
        impatient.person(AMY, "unsubscribe")
        impatient.edit(amy, Active=method != "DELETE")
    path = "/batch" if system == "quickbooks" else "/lists/"
    impatient.fault(system, match={"method": method, "path": path}, action=slow)
    impatient.sync()
    with impatient.database.begin() as connection:
        states = connection.execute(text("SELECT state FROM ml_connector.changes")).scalars()
        assert set(states) == {"applied"}
    outcomes = Counter(row["outcome"] for row in impatient.audit() if row["action"] != "engagement")
    assert set(outcomes) <= {"applied", "skipped"}, outcomes


def test_a_long_webhook_of_nobody_costs_a_daily_run_no_time(company):
    """Searched in quadratic time it took minutes: the test's time limit would end it."""
    company.told_by_mailchimp("unsubscribe", email="x" * 200_000)
    with company.database.begin() as connection:
        connection.execute(text("UPDATE ml_connector.webhook_inbox SET state = 'quarantined'"))
        connection.execute(
            text("INSERT INTO ml_connector.suppressions (email_key, reason) VALUES (:key, 'test')"),
            {"key": b"k" * 32},
        )
    assert erase_suppressed(company.database, company.vault) == 0
