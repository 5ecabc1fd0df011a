"""Airflow behind a reverse proxy and under a path, in a real browser: each link has the path once.

The proxy passes on what is under the path, with the path, as Airflow's guide for reverse proxies
says. It knows nothing else: a link without the path is a 404, and is remembered.
"""

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests import forks
from tests.chromium import chromium
from tests.integration.conftest import KEY
from tests.integration.test_receiver_mounted import api_server

PATH = "/airflow"
CONSOLE = f"{PATH}/ml-connector/console"
PATIENCE = 180_000  # milliseconds
DAILY = ["airflow", "dags", "test", "sync_customers__main"]


class Proxy(ThreadingHTTPServer):
    """Passes requests under the path on to ``upstream``, a port."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.upstream = 0
        self.wrong: list[str] = []


class Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, content = 404, [], b""
        if self.path.startswith(f"{PATH}/"):
            upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            status, headers, content = answer.status, answer.getheaders(), answer.read()
            upstream.close()
        if status == 404 and self.path != "/favicon.ico":
            self.server.wrong.append(self.path)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def environment(company, connected_environment, proxy) -> dict[str, str]:
    quickbooks = json.loads(connected_environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    quickbooks["extra"]["token_url"] = f"{company.quickbooks}/oauth2/v1/tokens/bearer"
    return {
        **connected_environment,
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{proxy.server_port}{PATH}",
        "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
        "AIRFLOW__API__SECRET_KEY": "s" * 32,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(
            {"refresh_token": "sandbox-refresh-token"}
        ),
        "ML_CONNECTOR_ENCRYPTION_KEYS": KEY,
        "ML_CONNECTOR_INDEX_KEY": KEY,
        "ML_CONNECTOR_FIRST_RUN": "ask",
    }


@contextmanager
def browsing(base: str, *, strangers: tuple[str, ...]) -> Iterator[tuple[BrowserContext, list]]:
    """Open a browser; yield it and what it asked for that is neither under the path nor known."""
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(PATIENCE)
        asked: list[str] = []
        known = (f"{base}/", f"{base.replace('127.0.0.1', 'localhost')}/", *strangers)

        def look(request) -> None:
            if not request.url.startswith((*known, "data:", "blob:")):
                asked.append(request.url)

        context.on("request", look)
        yield context, asked


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[forks.Forked]:
    """Run the daily DAG; it is ended if it still waits for an answer."""
    with forks.start(DAILY, env=environment, log=log) as daily:
        try:
            yield daily
        finally:
            daily.kill()


def once(url: str, base: str) -> str:
    """Return an address of ours, which has the path once."""
    assert url.startswith(f"{base}/"), url
    assert url.count(PATH + "/") == 1, url
    return url


def wait_for_the_question(page: Page, base: str, daily: forks.Forked, log: Path) -> None:
    """Airflow's page of questions shows those that are there when it is opened."""
    deadline = time.monotonic() + PATIENCE / 1000
    asked = f"{base}/api/v2/dags/~/dagRuns/~/hitlDetails"
    while not page.request.get(asked).json()["hitl_details"]:
        assert daily.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(1)


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_each_link_of_the_console_in_airflow_has_the_path_once(
    company, environment, proxy, tmp_path
):
    base = environment["AIRFLOW__API__BASE_URL"]
    company.mailchimp_control("PUT", "settings", {"refuse_fake_domains": True})
    company.customer("Amy", "amy@finch.org")
    company.customer("Fake", "fake@example.com")
    forks.run(["airflow", "dags", "reserialize"], env=environment)
    with (
        api_server(environment, tmp_path / "api-server.log") as url,
        browsing(base, strangers=(company.quickbooks,)) as (context, strayed),
        running(environment, tmp_path / "daily.log") as daily,
    ):
        proxy.upstream = urlsplit(url).port or 0
        page = context.new_page()
        the_frame_shows_the_console_and_its_icon(page, base)
        wait_for_the_question(page, base, daily, tmp_path / "daily.log")
        the_question_links_to_the_plan_which_is_approved_there(page, base)
        assert daily.wait(90) == 0, (tmp_path / "daily.log").read_text()[-3000:]
        assert company.statuses() == {"amy@finch.org": "subscribed"}
        a_replay_links_to_its_run(page, base)
        the_consent_page_leads_back(context, page, base)

        wrong = json.loads(environment["AIRFLOW_CONN_MAILCHIMP_DEFAULT"]) | {"password": "no-us99"}
        given = environment | {"AIRFLOW_CONN_MAILCHIMP_DEFAULT": json.dumps(wrong)}
        assert forks.run(DAILY, env=given).returncode != 0
        with company.database.begin() as connection:
            query = "SELECT link FROM ml_connector.alerts ORDER BY raised_at"
            links = [once(link, base) for link in connection.exec_driver_sql(query).scalars()]
        assert "/dags/sync_customers__main/runs/" in links[-1]
        page.goto(links[-1])
        task = urlsplit(links[-1]).path.rpartition("/")[2]
        expect(page.get_by_text(task, exact=True).first).to_be_visible(timeout=PATIENCE)
        assert (strayed, proxy.wrong) == ([], [])


def the_frame_shows_the_console_and_its_icon(page: Page, base: str) -> None:
    page.goto(f"{base}/")
    entry = page.get_by_role("link", name="Connector").or_(
        page.get_by_role("button", name="Connector")
    )
    entry.first.wait_for()
    icon = entry.first.locator("img").first
    assert once(icon.evaluate("one => one.src"), base).endswith("/static/icon.svg")
    icon.evaluate("one => one.decode()")  # fails if it is no image
    entry.first.click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("link", name="Customers", exact=True)).to_be_visible(timeout=PATIENCE)


def the_question_links_to_the_plan_which_is_approved_there(page: Page, base: str) -> None:
    page.goto(f"{base}/required_actions")
    page.get_by_role("link", name=re.compile("The plan waits|main: ")).first.click()
    link = page.get_by_role("link", name=re.compile(r"^plan \d+$"))
    page.goto(once(link.evaluate("one => one.href"), base))
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(page.locator("#answered")).to_contain_text("Approval sent", timeout=PATIENCE)


def a_replay_links_to_its_run(page: Page, base: str) -> None:
    page.goto(f"{base}/ml-connector/console/main/audit")
    page.get_by_label("Outcome").select_option("failed")
    page.get_by_role("button", name="Filter").click()
    page.locator("td.n a").first.click()
    page.get_by_role("button", name="Replay").click()
    link = page.get_by_role("status").get_by_role("link", name="Follow it in Airflow")
    page.goto(once(link.evaluate("one => one.href"), base))
    expect(page.get_by_text("Replay audit rows").first).to_be_visible(timeout=PATIENCE)


def the_consent_page_leads_back(context: BrowserContext, page: Page, base: str) -> None:
    page.goto(f"{base}/ml-connector/console/main/setup")
    with context.expect_page() as opened:
        page.get_by_role("link", name="Connect QuickBooks").first.click()
    said = opened.value.locator("main")
    expect(said).to_contain_text("Connected to the company", timeout=PATIENCE)
    once(opened.value.url, base)
