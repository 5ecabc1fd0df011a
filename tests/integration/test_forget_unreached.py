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


def unfinished(firm) -> int:
    with firm.database.begin() as connection:
        return len(erasure.unfinished(connection))


@pytest.fixture
def erase(firm):
    return partial(
        forget,
        database=firm.database,
        vault=firm.vault,
        address=AMY,
        delete_contact=False,
        run=RunContext(run_id="forget__1", task_id="forget", actor="operator"),
    )


def test_a_sync_that_cannot_be_opened_holds_up_no_other_and_is_done_by_the_next_try(firm, erase):
    firm.customer("Amy", AMY, FamilyName="Finchley")
    firm.sync()
    seal(firm)
    done = erase([], closed={"main": MISSING})
    said = "\n".join(privacy.told(done))
    assert "main: not reached (there is no Airflow connection 'mailchimp_gone'" in said
    assert ("not finished" in said, done.finished, unfinished(firm)) == (True, False, 1)
    assert firm.statuses() == {AMY: "subscribed"}
    left = {table for table, _ in traces(firm, "Finchley")}
    assert left == {"erasures"}, "whom it is about stays sealed there until it is finished"
    firm.sync(full_sync=True)  # suppressed meanwhile
    done = erase([firm.open_sync()])
    assert (done.finished, done.left, done.contacts) == (True, (), {"archived": 1})
    assert (firm.statuses(), unfinished(firm)) == ({AMY: "archived"}, 0)
    assert [row["action"] for row in firm.audit()][-1] == "forget"


def test_a_missing_key_of_mailchimp_leaves_quickbooks_to_be_done(firm, erase):
    firm.settings["activity"] = {"write_to": "notes"}
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.pass_time(hours=13)
    firm.sync()
    assert "--- Mailchimp" in firm.record_of(amy)["Notes"]
    target = firm.open_sync()

    def gone():
        raise MISSING

    target.open_mailchimp = gone
    done = erase([target])
    assert (done.blocks, done.finished, len(done.left)) == (1, False, 1)
    assert "--- Mailchimp" not in firm.record_of(amy).get("Notes", "")
    assert erase([firm.open_sync()]).finished
    assert firm.statuses() == {AMY: "archived"}
