"""A sandbox that is stopped and started again remembers everything, also across an upgrade."""

import gzip
import inspect
import io
import pickle
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import requests

from sandbox import memory
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.started import program

AUTH = ("any", "sandbox-key-us99")
LIST = "a1b2c3d4e5"
FIRST_VERSION = Path(__file__).parent / "samples" / "sandbox-0.1.0.state.gz"
"""Written by the sandbox of 0.1.0: members with tags, a campaign with activity and an opt-out, a
webhook, a deleted member, a merged customer, an attached note, tokens."""


def mock_apps():
    apps = {"QuickBooks": create_quickbooks(), "Mailchimp": create_mailchimp()}
    return apps, {name: app.remembers for name, app in apps.items()}


def test_customers_members_tokens_and_clock_come_back(tmp_path):
    apps, roots = mock_apps()
    with serving_in_thread(apps) as urls:
        quickbooks, mailchimp = urls["QuickBooks"], urls["Mailchimp"]
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
        quickbooks, mailchimp = urls["QuickBooks"], urls["Mailchimp"]
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
    assert apps["QuickBooks"].clock.offset_seconds == 90
    assert apps["Mailchimp"].account.audiences["a1b2c3d4e5"].clock is apps["Mailchimp"].clock


@pytest.fixture
def upgraded(tmp_path):
    """This version's mock servers with the state that 0.1.0 wrote; their base URLs."""
    apps, roots = mock_apps()
    (tmp_path / "state").write_bytes(gzip.decompress(FIRST_VERSION.read_bytes()))
    memory.load(tmp_path / "state", roots)
    with serving_in_thread(apps) as urls:
        yield urls


def test_every_read_works_on_a_state_of_the_first_version(upgraded):
    mailchimp, quickbooks = f"{upgraded['Mailchimp']}/3.0", upgraded["QuickBooks"]

    def read(path):
        answer = requests.get(f"{mailchimp}{path}", auth=AUTH, timeout=5)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    [campaign] = read("/campaigns")["campaigns"]
    [webhook] = read(f"/lists/{LIST}/webhooks")["webhooks"]
    for path in ("abuse-reports", "merge-fields", "merge-fields/1", "tag-search?name=W", ""):
        read(f"/lists/{LIST}/{path}".rstrip("/"))
    for path in ("email-activity", "sent-to", "unsubscribed"):
        assert read(f"/reports/{campaign['id']}/{path}")["total_items"]
    read(f"/lists/{LIST}/webhooks/{webhook['id']}")
    members = read(f"/lists/{LIST}/members")["members"]
    assert {each["email_address"]: each["tags_count"] for each in members} == {
        "ada@abel.net": 1,
        "ben@baker.net": 1,
    }
    for path in ("audiences", "settings", "members", "webhooks/deliveries"):
        assert requests.get(f"{upgraded['Mailchimp']}/_sandbox/{path}", timeout=5).ok, path
    for path in ("customers", "attachables", "settings", "tokens", "bookkeeper", "webhooks"):
        assert requests.get(f"{quickbooks}/_sandbox/{path}", timeout=5).ok, path


def test_every_write_works_on_a_state_of_the_first_version(upgraded):
    audience = f"{upgraded['Mailchimp']}/3.0/lists/{LIST}"
    members, quickbooks = f"{upgraded['Mailchimp']}/_sandbox/members", upgraded["QuickBooks"]
    new = {"email_address": "new@abel.net", "status_if_new": "subscribed"}
    tags = {"tags": [{"name": "Retail", "status": "active"}]}
    [campaign] = requests.get(
        f"{upgraded['Mailchimp']}/3.0/campaigns", auth=AUTH, timeout=5
    ).json()["campaigns"]
    complaint = {"abuse": True, "campaign_id": campaign["id"]}
    for method, url, body in [
        ("PUT", f"{audience}/members/new@abel.net", new),
        ("POST", f"{audience}/members/ada@abel.net/tags", tags),
        ("POST", f"{audience}/merge-fields", {"name": "Region", "type": "text"}),
        ("POST", f"{members}/ada@abel.net/unsubscribe", complaint),
        ("DELETE", f"{audience}/members/ben@baker.net", None),
        ("POST", f"{quickbooks}/_sandbox/customers", {"DisplayName": "New Customer"}),
        ("POST", f"{quickbooks}/_sandbox/customers/merge", {"survivor": "4", "loser": "5"}),
    ]:
        answer = requests.request(method, url, json=body, auth=AUTH, timeout=5)
        assert answer.ok, (method, url, answer.text)
    reports = requests.get(f"{audience}/abuse-reports", auth=AUTH, timeout=5).json()
    assert reports["total_items"] == 1


def test_every_class_in_a_state_file_has_defaults_for_fields_that_an_older_file_lacks():
    # A new class in the file, or one that lost its defaults, would break the next upgrade.
    found, roots = set(), mock_apps()[1]

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            found.add(super().find_class(module, name))
            return super().find_class(module, name)

        def persistent_load(self, name):
            half, number = name.split(".")
            return roots[half][int(number)]

    Reader(io.BytesIO(gzip.decompress(FIRST_VERSION.read_bytes()))).load()
    ours = {each for each in found if each.__module__.startswith("sandbox.")}
    assert {"Audience", "Campaign", "Webhook", "Tombstone", "Row"} <= {e.__name__ for e in ours}
    positional = {each for each in ours if issubclass(each, msgspec.Struct | tuple)}
    assert {
        each.__name__ for each in ours - positional if not issubclass(each, memory.Remembered)
    } == {"Row"}
    # A customer's row is read by the order of its fields; `__setstate__` fills what came later.
    row = next(each for each in ours if each.__name__ == "Row")
    assert list(inspect.signature(row).parameters) == [
        *("id", "sync_token", "active", "name", "full_name", "parent", "created", "updated", "raw"),
        "custom",
    ]


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
        with program(command, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            process.stdout.readline()
            time.sleep(0.05)
            process.terminate()
            assert process.wait(timeout=10) == 0
        assert (tmp_path / "state").exists()
