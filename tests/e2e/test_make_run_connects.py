"""`make run` with real accounts and no token: a person connects both on the console, then it syncs.

The mock servers stand for the real accounts: they run on their own, as `make run` starts none.
"""

import os
import re
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import pytest
import requests
from playwright.sync_api import FrameLocator, expect

from local.settings import SANDBOX_AUDIENCE
from ml_connector.settings import load_syncs
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.e2e.airflow import Airflow
from tests.e2e.live.browser import Watched, browsing, console_in
from tests.e2e.machine import Machine
from tests.e2e.test_make_run import until
from tests.plants import copied

SETUP = "/ml-connector/console/main/setup"
CONSENT = {
    "QuickBooks": "Connected to the company Sandbox Company_US_1.",
    "Mailchimp": "Connected to the account Sample Company.",
}


@pytest.fixture
def machine():
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-e2e-"))
    yield Machine(folder / "state")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def accounts():
    with serving_in_thread(
        {"quickbooks": create_quickbooks(), "mailchimp": create_mailchimp()}
    ) as urls:
        yield urls


def dotenv(accounts, **more: str) -> list[str]:
    """What a person fills into `.env`: the keys of both apps. The URLs lead to the mock servers."""
    given = {
        "QUICKBOOKS_CLIENT_ID": "sandbox-client",
        "QUICKBOOKS_CLIENT_SECRET": "sandbox-secret",
        "QUICKBOOKS_BASE_URL": accounts["quickbooks"],
        "QUICKBOOKS_TOKEN_URL": f"{accounts['quickbooks']}/oauth2/v1/tokens/bearer",
        "MAILCHIMP_CLIENT_ID": "sandbox-client",
        "MAILCHIMP_CLIENT_SECRET": "sandbox-secret",
        "MAILCHIMP_TOKEN_URL": f"{accounts['mailchimp']}/oauth2/token",
        **more,
    }
    return [f"{name}={value}" for name, value in given.items()]


def pressed(watched: Watched, frame: FrameLocator, system: str, url: str) -> list[str]:
    """Press a Connect button as a person does; return the pages that the browser went to."""
    visited: list[str] = []

    def note(request) -> None:
        if request.is_navigation_request():
            visited.append(request.url.split("?")[0])

    watched.context.on("request", note)
    with watched.context.expect_page() as opened:
        frame.get_by_role("link", name=f"Connect {system}").first.click()
    expect(opened.value.locator("main")).to_contain_text(CONSENT[system], timeout=60_000)
    watched.context.remove_listener("request", note)
    assert sum(each.startswith(url) for each in visited) == 1, visited
    opened.value.close()
    return [each.partition(SETUP)[2] for each in visited if not each.startswith(url)]


def no_call(accounts) -> bool:
    journals = [
        requests.get(f"{url}/_sandbox/journal", timeout=30).json() for url in accounts.values()
    ]
    return all(journal["calls"] == [] for journal in journals)


def test_without_a_token_nothing_runs_until_both_buttons_were_pressed_then_the_sync_does(
    machine, accounts
):
    chosen = {"MAILCHIMP_AUDIENCE_ID": SANDBOX_AUDIENCE, "NEW_CONTACT_STATUS": "pending"}
    with machine.start(*dotenv(accounts, **chosen)) as process:
        killed = threading.Timer(400, os.killpg, (process.pid, signal.SIGINT))
        killed.start()
        output = "".join(until(process.stdout, "no sync runs before you connect"))
        assert re.search(rf"http://\S+{SETUP} ", output)
        with browsing(Airflow(machine)) as watched:
            page = watched.page()
            frame = console_in(page, watched.airflow)
            frame.get_by_role("link", name="Setup", exact=True).click()
            assert no_call(accounts)
            # Intuit redirects to localhost, where nobody is logged in: that is one hop more.
            assert pressed(watched, frame, "QuickBooks", accounts["quickbooks"]) == [
                "/connect/quickbooks",
                "/connected",
                "/connected",
            ]
            assert pressed(watched, frame, "Mailchimp", accounts["mailchimp"]) == [
                "/connect/mailchimp",
                "/connected/mailchimp",
            ]
            assert all(each.startswith("asked ") for each in watched.trouble), watched.trouble
        output += "".join(until(process.stdout, "Ctrl-C stops it"))
        killed.cancel()
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert "sync_customers__main started" in output
    assert "25 new contacts (25 pending)" in output
    assert "Failed" not in output
    log = (machine.home / "logs" / "api-server.log").read_text()
    assert "setup/connected" in log
    assert re.search(r"setup/connected\S* query=\S", log) is None  # the query holds a code
    assert machine.left_running() == []


def written(accounts) -> int:
    """How many calls wrote to either account since the mock servers started."""
    journals = [
        requests.get(f"{url}/_sandbox/journal?write=true", timeout=30).json()
        for url in accounts.values()
    ]
    return sum(len(journal["calls"]) for journal in journals)


def test_the_commands_of_first_company_do_what_the_page_says(accounts, tmp_path):
    """From a fresh clone. The buttons are pressed above, so `.env` holds a token and a key."""
    clone = copied(tmp_path / "clone")
    keys = {
        "QUICKBOOKS_REALM_ID": "9341450000000001",
        "QUICKBOOKS_REFRESH_TOKEN": "sandbox-refresh-token",
        "MAILCHIMP_API_KEY": "sandbox-key-us99",
        "MAILCHIMP_BASE_URL": f"{accounts['mailchimp']}/3.0",
    }
    example = (clone / ".env.example").read_text()
    (clone / ".env").write_text("\n".join([example, *dotenv(accounts, **keys)]))
    machine = Machine(clone / ".state", clone)
    page = (clone / "docs/tutorials/first-company.md").read_text()
    connect, init, rehearse, show, write, look = re.findall(r"^\$ (.+)$", page, re.MULTILINE)
    assert connect == look == "make run"

    # Company, audience, consent, no other field, tags, schedule, time zone, write it.
    answers = ["1", "1", "pending", "", "Customers", "0 3 * * *", "", "y"]
    code, output = machine.type(init, stdin="\n".join(answers) + "\n")
    assert code == 0, output
    assert "Sandbox Company_US_1" in output
    assert "a rehearsal can only read" in output
    assert "25 new contacts (25 pending)" in output
    assert load_syncs(clone / "syncs.yaml")["main"].new_contact_status == "pending"
    for command in (rehearse, show):
        code, output = machine.type(command)
        assert code == 0, output
        assert "25 new contacts (25 pending)" in output
        assert written(accounts) == 0, command
    code, output = machine.type(write)
    assert code == 0, output
    members = requests.get(f"{accounts['mailchimp']}/_sandbox/members", timeout=30).json()
    assert [each["status"] for each in members["members"]] == ["pending"] * 25
    assert machine.left_running() == []


def test_a_single_run_without_a_token_says_what_to_do_first(machine, accounts):
    code, output = machine.run(*dotenv(accounts))
    assert code != 0
    assert "QuickBooks and Mailchimp not connected yet: start `make run`" in output
