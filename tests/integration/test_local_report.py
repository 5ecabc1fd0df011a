"""What `make run REHEARSE=1` prints of a plan that was not written, read as it reads it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import yaml

from local import summary
from ml_connector.sync import guard
from tests.integration.conftest import KEY

AMY = "amy@rehearsed.org"


def test_a_rehearsal_is_printed_with_samples_of_what_it_would_overwrite(company, tmp_path):
    company.settings["adopt"] = "overwrite"
    company.seed(AMY, merge_fields={"FNAME": "Amelia"})
    amy = company.customer("Amy", AMY)
    since = datetime.now(UTC) - timedelta(minutes=1)
    scope = replace(company.scope(), read_only=True)
    planned = company.decide(scope, preview=True)
    guard.hold_plan(scope, plan_id=planned.plan_id)
    company.report(scope, planned)
    sync = company.sync_settings()
    file = tmp_path / "syncs.yaml"
    body = {
        "audience_id": sync.audience_id,
        "new_contact_status": sync.new_contact_status,
        "adopt": "overwrite",
        "fields": {tag: list(sources) for tag, sources in sync.fields.items()},
    }
    file.write_text(yaml.safe_dump({"syncs": {"main": body}}))
    held = summary.held_plan(
        company.database_url.replace("+psycopg", ""),
        sync="main",
        since=since,
        variables={
            "ML_CONNECTOR_HOME": str(tmp_path),
            "ML_CONNECTOR_SYNCS": str(file),
            "ML_CONNECTOR_ENCRYPTION_KEYS": KEY,
            "ML_CONNECTOR_INDEX_KEY": KEY,
        },
    )
    assert held is not None
    assert (held.id, held.why) == (planned.plan_id, "")
    place = held.sentences.index("First Name: 1 value overwritten")
    assert held.sentences[place + 1] == f"  customer {amy}: Amelia -> Amy"
