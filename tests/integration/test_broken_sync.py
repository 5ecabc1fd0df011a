"""One sync of several has a connection that is not there: the others' webhooks go on."""

from pathlib import Path

import pytest
import yaml

AMY = "amy@finch.org"


@pytest.fixture
def process(connected_environment, run):
    """Process the inbox by the command, with a second sync whose connection is missing."""
    settings = Path(connected_environment["ML_CONNECTOR_SYNCS"])
    said = yaml.safe_load(settings.read_text())
    broken = {
        "audience_id": "b2c3d4e5f6",
        "quickbooks_conn_id": "quickbooks_gone",
        "new_contact_status": "subscribed",
    }
    said["syncs"] = {"broken": said["syncs"]["main"] | broken, **said["syncs"]}
    settings.write_text(yaml.safe_dump(said, sort_keys=False))
    return lambda: run("process-webhooks")


def test_a_sync_whose_connection_is_missing_holds_up_no_other_and_loses_nothing(company, process):
    amy = company.customer("Amy", AMY)
    company.told_by_quickbooks(("created", amy))
    realm, company.realm = company.realm, "9341450000000009"
    company.told_by_quickbooks(("created", "1"))  # the company of the broken sync, or of none
    company.realm = realm
    code, said = process()
    assert (code, "'quickbooks_gone'" in said) == (2, True), said
    assert company.statuses() == {AMY: "subscribed"}
    assert company.inbox() == {"done": 1, "pending": 1}
