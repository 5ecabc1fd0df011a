"""drt-core's REST API destination writing members: ``run_drt.py URL LIST MEMBERS``.

Write only. Its pacing of 10 calls a second is its own and stays.
"""

import json
import sys
from pathlib import Path

from drt.config.models import RestApiDestinationConfig, SyncOptions
from drt.destinations.rest_api import RestApiDestination

url, audience, members = sys.argv[1:]
config = RestApiDestinationConfig(
    type="rest_api",
    url=f"{url}/3.0/lists/{audience}",
    headers={"Content-Type": "application/json", "Authorization": "Bearer sandbox-key-us99"},
    body_mode="batch",
    batch_template='{"members": {{ rows | tojson }}, "update_existing": true}',
    max_records_per_request=500,
)
with Path(members).open(encoding="utf-8") as file:
    records = [json.loads(line) for line in file]
result = RestApiDestination().load(records, config, SyncOptions())
print(json.dumps({"written": result.success, "failed": result.failed}))
sys.exit(bool(result.failed))
