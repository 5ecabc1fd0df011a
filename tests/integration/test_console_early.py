"""The console in a real Chromium whose scripts are late: what people type and press is not lost."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from ml_connector.console.access import PREFIX
from sandbox.running import serving_in_thread
from tests.chromium import chromium
from tests.integration.test_console_hostile import console

PATIENCE = 30_000  # milliseconds
ADDRESS = "amy@birds-sanctuary.com"


@dataclass
class Late:
    """A page whose htmx does not arrive before it is let through."""

    page: Page
    base: str

    def open(self, path: str) -> None:
        self.page.goto(self.base + path, wait_until="commit")

    def let_through(self) -> None:
        self.page.unroute_all()


@pytest.fixture
def late(company) -> Iterator[Late]:
    company.customer("Amy's Bird Sanctuary", ADDRESS)
    company.sync()
    with serving_in_thread({"console": console(company)}) as urls, chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.route("**/static/vendor/htmx*", lambda _route: None)  # held until it is unrouted
        yield Late(page, f"{urls['console']}{PREFIX}/main")


def test_a_search_that_is_faster_than_the_scripts_finds_the_customer(late):
    late.open("/customers")
    search = late.page.locator("input[type=search]")
    search.fill("Bird Sanctuary")
    search.press("Enter")
    found = late.page.get_by_role("link", name="Amy's Bird Sanctuary")
    expect(late.page.locator("main")).to_contain_text("All customers searched.")
    assert found.count() == 1
    found.click()
    expect(late.page.get_by_role("heading", level=1)).to_have_text("Amy's Bird Sanctuary")


def test_customers_are_filtered_and_sorted_before_the_scripts_are_there(late):
    late.open("/customers")
    late.page.get_by_label("Status").first.select_option("Subscribed")
    late.page.get_by_text("More filters").click()
    late.page.locator("input[name=tag_name]").fill("QuickBooks")
    late.page.get_by_role("button", name="Filter").click()
    late.page.wait_for_url("**/customers?status=subscribed&tag=*", wait_until="commit")
    late.page.get_by_role("link", name="Changed in QuickBooks").click()
    late.page.wait_for_url("**&sort=changed", wait_until="commit")
    expect(late.page.get_by_role("row")).to_have_count(2)
    expect(late.page.locator("select[name=tag]")).to_contain_text("QuickBooks")
    late.page.get_by_role("link", name="All customers").click()
    late.page.wait_for_url("**/customers", wait_until="commit")


def test_the_audit_of_an_address_is_found_before_the_scripts_are_there(late):
    late.open("/audit")
    late.page.get_by_label("Rows of an e-mail address").fill(ADDRESS)
    late.page.get_by_role("button", name="Find").click()
    late.page.wait_for_url("**/audit?key=*", wait_until="commit")
    expect(late.page.get_by_role("row")).to_have_count(2)  # the heads, and the contact's creation


def test_a_button_pressed_before_the_scripts_are_there_does_its_work_once(late):
    calls = []
    late.page.on("request", lambda request: calls.append((request.method, request.url)))
    late.open("/setup")
    ping = late.page.get_by_role("button", name="Ping QuickBooks")
    ping.click()
    ping.click()
    late.let_through()
    expect(late.page.locator("main")).to_contain_text("quickbooks answers", timeout=PATIENCE)
    assert [url for method, url in calls if method == "POST"] == [
        f"{late.base}/setup/ping/quickbooks"
    ]
    late.page.get_by_role("button", name="Ping Mailchimp").click()
    expect(late.page.locator("main")).to_contain_text("mailchimp answers", timeout=PATIENCE)


def test_a_form_sent_before_the_scripts_are_there_does_its_work(late, company):
    company.told_by_quickbooks(("updated", "1"))
    with company.database.begin() as connection:
        connection.execute(
            text("UPDATE ml_connector.webhook_inbox SET state = 'dead', reason = 'not_found'")
        )
    late.open("/webhooks?state=dead")
    late.page.get_by_role("button", name="Try all of these again").click()
    late.let_through()
    expect(late.page.get_by_role("status")).to_contain_text("1 event is due", timeout=PATIENCE)
    assert company.inbox() == {"pending": 1}
