"""Singer customers on stdin into an audience, with Mailchimp's own client: ``batch_writer.py URL LIST``.

As its guide shows: 500 members a call, one call after the other.
"""

import json
import sys

import mailchimp_marketing

ROWS = 500


def member(customer: dict) -> dict:
    """Return the member that a QuickBooks customer becomes."""
    return {
        "email_address": customer["PrimaryEmailAddr"]["Address"],
        "status_if_new": "subscribed",
        "merge_fields": {
            "FNAME": customer.get("GivenName") or "",
            "LNAME": customer.get("FamilyName") or "",
        },
    }


url, audience = sys.argv[1:]
client = mailchimp_marketing.Client({"api_key": "sandbox-key-us99", "server": "us99"})
client.api_client.host = f"{url}/3.0"
written = failed = 0


def send(members: list[dict]) -> None:
    """Write one batch."""
    global written, failed
    body = {"members": members, "update_existing": True}
    answer = client.lists.batch_list_members(audience, body)
    failed += answer["error_count"]
    written += answer["total_created"] + answer["total_updated"]


waiting: list[dict] = []
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] != "RECORD":
        continue
    customer = message["record"]
    if customer.get("Active") and (customer.get("PrimaryEmailAddr") or {}).get("Address"):
        waiting.append(member(customer))
    if len(waiting) == ROWS:
        send(waiting)
        waiting = []
if waiting:
    send(waiting)
print(json.dumps({"written": written, "failed": failed}))
