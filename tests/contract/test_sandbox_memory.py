"""A sandbox that is stopped and started again remembers everything."""

import subprocess
import sys
import time

import pytest
import requests

from sandbox import memory
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread

AUTH = ("any", "sandbox-key-us99")


def mock_apps():
    apps = {"quickbooks": create_quickbooks(), "mailchimp": create_mailchimp()}
    return apps, {name: app.remembers for name, app in apps.items()}


def test_customers_members_tokens_and_clock_come_back(tmp_path):
    apps, roots = mock_apps()
    with serving_in_thread(apps) as urls:
        quickbooks, mailchimp = urls["quickbooks"], urls["mailchimp"]
        requests.patch(f"{quickbooks}/_sandbox/customers/1", json={"GivenName": "Anna"}, timeout=5)
        requests.put(f"{quickbooks}/_sandbox/clock", json={"offset_seconds": 90}, timeout=5)
        requests.put(
            f"{mailchimp}/3.0/lists/a1b2c3d4e5/members/a@x.com",
            json={"email_address": "a@x.com", "status_if_new": "subscribed"},
            auth=AUTH,
            timeout=5,
        )
        tokens = requests.get(f"{quickbooks}/_sandbox/tokens", timeout=5).json()
    memory.save(tmp_path / "state", roots)
    apps, roots = mock_apps()
    memory.load(tmp_path / "state", roots)
    with serving_in_thread(apps) as urls:
        quickbooks, mailchimp = urls["quickbooks"], urls["mailchimp"]
        one = requests.get(f"{quickbooks}/_sandbox/customers/1", timeout=5).json()
        again = requests.patch(
            f"{quickbooks}/_sandbox/customers/2", json={"GivenName": "Bob"}, timeout=5
        ).json()
        members = requests.get(
            f"{mailchimp}/3.0/lists/a1b2c3d4e5/members", auth=AUTH, timeout=5
        ).json()
        assert requests.get(f"{quickbooks}/_sandbox/tokens", timeout=5).json() == tokens
    assert (one["GivenName"], one["SyncToken"]) == ("Anna", "1")
    assert again["GivenName"] == "Bob"
    assert [each["email_address"] for each in members["members"]] == ["a@x.com"]
    assert apps["quickbooks"].clock.offset_seconds == 90
    assert apps["mailchimp"].account.audiences["a1b2c3d4e5"].clock is apps["mailchimp"].clock


def test_only_the_owner_may_read_the_file(tmp_path):
    memory.save(tmp_path / "state", mock_apps()[1])
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(memory.ForgottenError, match="state is damaged"):
        memory.load(tmp_path / "state", mock_apps()[1])


def test_the_command_writes_its_state_when_it_is_stopped(tmp_path):
    options = (
        "--quickbooks-port",
        "0",
        "--mailchimp-port",
        "0",
        "--state",
        str(tmp_path / "state"),
    )
    command = [sys.executable, "-m", "sandbox", *options]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            process.stdout.readline()
            time.sleep(0.05)
            process.terminate()
            assert process.wait(timeout=10) == 0
        assert (tmp_path / "state").exists()
