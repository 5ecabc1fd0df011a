"""The console in a real browser, inside Airflow's frame."""

import pytest
import requests
from playwright.sync_api import expect

from ml_connector.console.access import PREFIX
from tests.e2e.airflow import refuse_fakes, trail_of, wait_for
from tests.e2e.live.browser import browsing, console_in

PHONE = {"viewport": {"width": 390, "height": 844}}
PAGES = ("", "/customers", "/audit", "/webhooks", "/plans", "/setup")
PATIENCE = 30_000  # milliseconds
SEARCHED = "All customers searched."  # what stood there before the search says no such thing


@pytest.fixture
def watched(airflow):
    with browsing(airflow) as opened:
        opened.context.set_default_timeout(PATIENCE)
        yield opened
        assert opened.trouble == []


def test_amys_page_tells_of_her_unsubscribe(airflow, watched):
    customer = airflow.add_customer("Amy's Second Nest", "second@birds-nest-amy.com")
    assert airflow.finished(airflow.trigger()) == "success"
    url = f"{airflow.mailchimp}/members/second@birds-nest-amy.com/unsubscribe"
    requests.post(url, json={}, timeout=30).raise_for_status()
    wait_for(lambda: "Unsubscribed" in notes(airflow, customer), 60)

    page = watched.page()
    frame = console_in(page, airflow)
    open_customer(frame, "Amy's Second Nest")
    expect(frame.locator("main")).to_contain_text("nsubscribed", timeout=PATIENCE)
    open_customer(frame, "Amy's Bird Sanctuary")


def test_a_failed_row_is_replayed_and_succeeds(airflow, watched):
    airflow.end_webhooks()
    airflow.add_customer("replayed one", "replayed@example.com")  # refused as fake, for now
    assert airflow.finished(airflow.trigger()) == "success"
    (failed,) = [row for row in trail_of(airflow, "replayed") if row["outcome"] == "failed"]
    refuse_fakes(airflow, refuse=False)

    page = watched.page()
    frame = console_in(page, airflow)
    frame.get_by_role("link", name="Audit", exact=True).click()
    frame.get_by_label("Outcome").select_option("failed")
    frame.get_by_role("button", name="Filter").click()
    frame.get_by_role("link", name=str(failed["id"]), exact=True).click()
    frame.get_by_role("button", name="Replay").click()
    expect(frame.get_by_role("status")).to_contain_text("has started", timeout=PATIENCE)
    rows = wait_for(
        lambda: [row for row in trail_of(airflow, "replayed") if row["outcome"] == "applied"], 90
    )
    assert rows[-1]["origin"] == f"replay:{failed['id']}"
    assert rows[-1]["actor"] == "admin"
    refuse_fakes(airflow, refuse=True)
    airflow.begin_webhooks()


def test_setup_pings_both_systems(airflow, watched):
    page = watched.page()
    frame = console_in(page, airflow)
    frame.get_by_role("link", name="Setup", exact=True).click()
    for name in ("QuickBooks", "Mailchimp"):
        frame.get_by_role("button", name=f"Ping {name}").click()
        expect(frame.locator("main")).to_contain_text(f"{name} responds", timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_and_can_be_read(airflow, scheme):
    with browsing(airflow, **PHONE, color_scheme=scheme) as opened:
        page = opened.page()
        for path in PAGES:
            page.goto(f"{airflow.url}{PREFIX}/main{path}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, (path, wide)
            low = page.evaluate(CONTRAST)
            assert low == [], (path, low)
        assert opened.trouble == []


def test_the_keyboard_alone_reaches_a_customer(airflow, watched):
    page = watched.page()
    page.goto(f"{airflow.url}{PREFIX}/main/customers")
    page.keyboard.type("Amy's Bird Sanctuary")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text(SEARCHED, timeout=PATIENCE)
    link = page.get_by_role("link", name="Amy's Bird Sanctuary").first
    link.wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if link.evaluate("one => one === document.activeElement"):
            break
    outline = link.evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Enter")
    page.wait_for_url("**/customers/*")


def open_customer(frame, name: str) -> None:
    """Search for a customer by name, and open what was found; back once its page stands there.

    Each step waits for what only the next page shows: one asked of a page that is about to be
    replaced would be lost with it.
    """
    heading = frame.get_by_role("heading", level=1)
    frame.get_by_role("link", name="Customers", exact=True).click()
    expect(heading).to_have_text("Customers", timeout=PATIENCE)
    expect(frame.locator("main")).not_to_contain_text(SEARCHED, timeout=PATIENCE)
    search = frame.locator("input[type=search]")
    search.fill(name)
    search.press("Enter")
    expect(frame.locator("main")).to_contain_text(SEARCHED, timeout=PATIENCE)
    frame.get_by_role("link", name=name).first.click()
    expect(heading).to_contain_text(name, timeout=PATIENCE)


def notes(airflow, customer: str) -> str:
    found = requests.get(f"{airflow.quickbooks}/customers/{customer}", timeout=30).json()
    return found.get("Notes") or ""


# Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parsed = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return rgb(getComputedStyle(document.documentElement).colorScheme.includes("dark") ? "#000" : "#fff");
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !node.checkVisibility() || node.closest("[aria-hidden=true], .skip, option")) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.45) low.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""
