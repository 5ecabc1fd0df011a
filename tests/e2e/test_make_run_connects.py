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

from local.settings import SANDBOX_AUDIENCE
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.e2e.airflow import Airflow
from tests.e2e.machine import Machine
from tests.e2e.test_make_run import until

CONSOLE = "/ml-connector/console/main"


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


def browser_of(machine: Machine) -> requests.Session:
    """A browser that is logged in to Airflow; it keeps cookies and follows redirects."""
    browser = requests.Session()
    token = Airflow(machine).http.headers["Authorization"].removeprefix("Bearer ")
    browser.cookies.set("_token", token, domain="127.0.0.1", path="/")
    return browser


def test_without_a_token_nothing_runs_until_both_buttons_were_pressed_then_the_sync_does(
    machine, accounts
):
    chosen = {"MAILCHIMP_AUDIENCE_ID": SANDBOX_AUDIENCE, "NEW_CONTACT_STATUS": "pending"}
    with machine.start(*dotenv(accounts, **chosen)) as process:
        killed = threading.Timer(400, os.killpg, (process.pid, signal.SIGINT))
        killed.start()
        output = "".join(until(process.stdout, "no sync runs before you connect"))
        page = re.search(r"(http://\S+/setup) ", output)[1]
        browser, console = browser_of(machine), page.removesuffix("/setup")
        setup = browser.get(page, timeout=60).text
        for system in ("mailchimp", "quickbooks"):
            assert f'href="{CONSOLE}/setup/connect/{system}"' in setup
        for url in accounts.values():
            assert requests.get(f"{url}/_sandbox/journal", timeout=30).json()["calls"] == []
        said = browser.get(f"{console}/setup/connect/mailchimp", timeout=60).text
        assert "Connected to the account Sample Company." in said
        said = browser.get(f"{console}/setup/connect/quickbooks", timeout=60).text
        assert "Connected to the company Sandbox Company_US_1." in said
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


def test_a_single_run_without_a_token_says_what_to_do_first(machine, accounts):
    code, output = machine.run(*dotenv(accounts))
    assert code != 0
    assert "QuickBooks and Mailchimp not connected yet: start `make run`" in output
