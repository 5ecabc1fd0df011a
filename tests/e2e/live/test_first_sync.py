"""docs/tutorials/first-sync.md: what it tells a newcomer to type, typed."""

import json
import re
import shlex
import subprocess
from pathlib import Path

from tests.e2e.airflow import wait_for

PAGE = Path(__file__).resolve().parents[3] / "docs" / "tutorials" / "first-sync.md"


def test_the_commands_of_first_sync_do_what_the_page_says(airflow):
    rename, unsubscribe, look = re.findall(r"`(curl [^`]+)`", PAGE.read_text())
    typed(airflow, rename)
    wait_for(lambda: airflow.member("Birds@Intuit.com")["merge_fields"]["FNAME"] == "Amelia", 60)
    typed(airflow, unsubscribe)
    wait_for(
        lambda: "Unsubscribed from the newsletter" in typed(airflow, look).get("Notes", ""), 60
    )


def typed(airflow, command: str) -> dict:
    ports = airflow.machine.ports
    for usual, name in (("9410", "QUICKBOOKS_PORT"), ("9420", "MAILCHIMP_PORT")):
        command = command.replace(f":{usual}/", f":{ports[name]}/")
    done = subprocess.run(
        ["curl", "-sSf", *shlex.split(command)[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "{}")
