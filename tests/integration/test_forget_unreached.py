"""`forget` where a sync cannot be reached: everything else is done, and the rest by the next try."""

from functools import partial

import pytest

from ml_connector.errors import SettingsError
from ml_connector.model import RunContext
from ml_connector.privacy import erasure
from ml_connector.privacy.forget import forget
from ml_connector_airflow.tasks import privacy
from tests.integration.test_audit_sealed import seal
from tests.integration.test_forget import AMY, traces

MISSING = SettingsError("there is no Airflow connection 'mailchimp_gone'; add one")


def unfinished(company) -> int:
    with company.database.begin() as connection:
        return len(erasure.unfinished(connection))


@pytest.fixture
def erase(company):
    return partial(
        forget,
        database=company.database,
        vault=company.vault,
        address=AMY,
        delete_contact=False,
        run=RunContext(run_id="forget__1", task_id="forget", actor="operator"),
    )


def test_a_sync_that_cannot_be_opened_holds_up_no_other_and_is_done_by_the_next_try(company, erase):
    company.customer("Amy", AMY, FamilyName="Finchley")
    company.sync()
    seal(company)
    done = erase([], closed={"main": MISSING})
    said = "\n".join(privacy.erasure_report(done))
    assert "main: unreachable (there is no Airflow connection 'mailchimp_gone'" in said
    assert "Mailchimp: no contact erased" in said
    assert ("not finished" in said, done.finished, unfinished(company)) == (True, False, 1)
    assert company.statuses() == {AMY: "subscribed"}
    left = {table for table, _ in traces(company, "Finchley")}
    assert left == {"erasures"}, "whom it is about stays sealed there until it is finished"
    company.sync(full_sync=True)  # suppressed meanwhile
    done = erase([company.open_sync()])
    assert (done.finished, done.left, done.contacts) == (True, (), {"archived": 1})
    assert (company.statuses(), unfinished(company)) == ({AMY: "archived"}, 0)
    assert [row["action"] for row in company.audit()][-1] == "forget"


def test_a_missing_key_of_mailchimp_leaves_quickbooks_to_be_done(company, erase):
    company.settings["activity"] = {"write_to": "notes"}
    amy = company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.pass_time(hours=13)
    company.sync()
    assert "--- Mailchimp" in company.record_of(amy)["Notes"]
    target = company.open_sync()

    def gone():
        raise MISSING

    target.open_mailchimp = gone
    done = erase([target])
    assert (done.blocks, done.finished, len(done.left)) == (1, False, 1)
    assert "--- Mailchimp" not in company.record_of(amy).get("Notes", "")
    assert erase([company.open_sync()]).finished
    assert company.statuses() == {AMY: "archived"}
