"""The customer list, engagement and the overview's figures, walked in a real browser."""

import csv
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from ml_connector.console.access import PREFIX
from ml_connector.console.api.app import API_PREFIX
from ml_connector.console.queries.customer_list import PAGE
from tests.e2e.airflow import wait_for
from tests.e2e.live.browser import browsing

LISTS = f"{PREFIX}/main/customers"
READER, SLEEPER, LEAVER = (f"{who}@lists-walked.org" for who in ("reader", "sleeper", "leaver"))
PATIENCE = 30_000  # milliseconds

# Every link to a list of customers, with the number that stands on it or in its row.
FIGURES = """() => [...document.querySelectorAll("main a[href*='/customers?']")].map((link) => {
  const row = link.closest("tr");
  const at = [link.querySelector(".value"), link, ...(row ? row.querySelectorAll("td") : [])];
  const number = at.map((node) => node && node.textContent.trim().match(/^[0-9][0-9,]*/));
  const found = number.find((match) => match);
  return [link.getAttribute("href"), found ? Number(found[0].replaceAll(",", "")) : null];
})"""


@pytest.fixture(scope="module")
def company(airflow):
    """More customers than a page lists: a reader, one who never opened, one who unsubscribed."""
    for email in (READER, SLEEPER, LEAVER):
        airflow.add_customer(email.partition("@")[0].title(), email)
    before = len(requests.get(f"{airflow.quickbooks}/customers", timeout=30).json()["customers"])
    for number in range(PAGE + 1 - before):
        body = {"DisplayName": f"Without an address {number}"}
        requests.post(f"{airflow.quickbooks}/customers", json=body, timeout=30).raise_for_status()
    for email in (READER, SLEEPER, LEAVER):
        wait_for(lambda email=email: email in [m["email_address"] for m in airflow.members()])
    url = f"{airflow.mailchimp}/members/{LEAVER}/unsubscribe"
    requests.post(url, json={}, timeout=30).raise_for_status()
    body = {"title": "News", "recipients": [READER, SLEEPER]}
    sent = requests.post(f"{airflow.mailchimp}/campaigns", json=body, timeout=30).json()
    opened = {"email_address": READER, "action": "open"}
    url = f"{airflow.mailchimp}/campaigns/{sent['id']}/activity"
    requests.post(url, json=opened, timeout=30).raise_for_status()
    assert airflow.finished(airflow.trigger(full_sync=True)) == "success"
    return airflow


@pytest.fixture(scope="module")
def opened(company):
    with browsing(company, accept_downloads=True) as browser:
        browser.context.set_default_timeout(PATIENCE)
        yield browser
        assert browser.trouble == []


@pytest.fixture
def page(opened):
    page = opened.page()
    yield page
    page.close()


def test_every_figure_on_the_overview_leads_to_a_list_of_that_many(company, page):
    page.goto(f"{company.url}{PREFIX}/main")
    figures = page.evaluate(FIGURES)
    asked = {name for link, _ in figures for name in parse_qs(urlsplit(link).query)}
    assert asked >= {"audience", "status", "engagement", "decision"}
    for link, number in figures:
        page.goto(f"{company.url}{link}")
        assert (link, listed(page)) == (link, number)


def test_filters_combine_and_stay_in_the_address(company, page):
    page.goto(f"{company.url}{LISTS}")
    everybody = listed(page)
    choose(page, decision="skipped")
    skipped = listed(page)
    choose(page, reason="no_email")
    assert 0 < listed(page) <= skipped < everybody
    assert {"decision=skipped", "reason=no_email"} <= set(urlsplit(page.url).query.split("&"))
    choose(page, engagement="engaged")
    assert listed(page) == 0


def test_the_list_is_sorted_by_a_heading_and_turned_page_by_page(company, page):
    page.goto(f"{company.url}{LISTS}")
    total = listed(page)
    page.locator("thead a[href*='sort=id'], thead a[href*='sort=-id']").click()
    page.wait_for_url("**sort=-id**")
    first = ids(page)
    assert first == sorted(first, reverse=True)
    page.locator("a[rel=next]").click()
    page.wait_for_url("**after=**")
    second = ids(page)
    assert second == sorted(second, reverse=True)
    assert first[-1] > second[0]
    assert [len(first), len(second)] == [PAGE, min(PAGE, total - PAGE)]


def test_the_file_has_the_customers_of_the_filter(company, page):
    page.goto(f"{company.url}{LISTS}?decision=contact")
    number = listed(page)
    with page.expect_download() as downloading:
        page.locator("a[download]").click()
    file = Path(downloading.value.path())
    rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    assert len(rows) == number
    assert READER in {row["email"] for row in rows}


def test_who_reads_and_who_never_opened_shows_on_list_page_and_interface(company, page):
    for email, engagement in ((READER, "engaged"), (SLEEPER, "never_opened")):
        path = f"{API_PREFIX}/v1/customers?engagement={engagement}&limit=500"
        rows = page.request.get(f"{company.url}{path}").json()["rows"]
        found = {row["email"]: row for row in rows}
        page.goto(f"{company.url}{LISTS}?engagement={engagement}")
        assert listed(page) == len(rows)
        shown = page.locator("tbody tr", has_text=email)
        label = page.locator(f"select[name=engagement] option[value={engagement}]").inner_text()
        expect(shown).to_contain_text(label)
        shown.locator("a").first.click()
        page.wait_for_url(f"**/customers/{found[email]['id']}")
        expect(page.locator("main")).to_contain_text(label)


def listed(page: Page) -> int:
    """How many customers the page says that the list has."""
    said = page.locator("#found").inner_text()
    found = re.match(r"([\d,]+) customers?\b", said)
    return int(found[1].replace(",", "")) if found else 0


def ids(page: Page) -> list[int]:
    return [int(text) for text in page.locator("tbody tr td:first-child").all_inner_texts()]


def choose(page: Page, **filters: str) -> None:
    for name, value in filters.items():
        page.locator(f"select[name={name}]").select_option(value)
    page.locator("form.filter button[type=submit]").click()
    page.wait_for_url(lambda url: all(f"{n}={v}" in url for n, v in filters.items()))
