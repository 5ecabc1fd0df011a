"""Every page of the console passes axe-core's rules of WCAG 2.2 AA in a real Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlalchemy import text

from ml_connector.console.access import PREFIX
from ml_connector.sync import guard
from sandbox.running import serving_in_thread
from tests.chromium import chromium
from tests.contract.npm import NodeMissingError, NpmFailedError, installed
from tests.integration.test_console import fill
from tests.integration.test_console_hostile import console

OWN = Path(__file__).resolve().parents[1] / "axe"
LAPTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FOUND = """rules => axe.run(document, { runOnly: rules }).then(result => result.violations.map(
  each => `${each.id}: ${each.nodes.map(node => `${node.target} ${node.any[0]?.message ?? ""}`)}`
))"""
ORDER = """() => {
  const places = [...document.querySelectorAll("main a, main button, main input, main select")]
    .filter(each => each.checkVisibility()).map(each => each.getBoundingClientRect());
  return places.filter((place, at) => at && place.bottom < places[at - 1].top
    && place.left <= places[at - 1].left && !document.querySelector(".two")).length;
}"""
"""How often the focus jumps up without going right, on a page in one column."""


@pytest.fixture
def served(company) -> Iterator[tuple[str, list[str]]]:
    """The console over a filled company, and the paths of its pages."""
    ids = fill(company)
    company.customer("New", "new@birds-sanctuary.com")
    company.settings["guard"] = {"max_updates": 0}
    company.edit(ids["Bo"], GivenName="Bob")
    scope = company.scope()
    plan = company.decide(scope).plan_id
    assert guard.hold_plan(scope, plan_id=plan) is not None
    key = company.vault.email_key("amy@birds-sanctuary.com").hex()
    with company.database.begin() as connection:
        event = connection.execute(
            text("SELECT id FROM ml_connector.webhook_inbox WHERE state = 'dead'")
        ).scalar_one()
    pages = [
        "", "/customers", f"/customers/{ids['Amy']}", f"/customers/{ids['Cy']}", f"/contacts/{key}",
        "/audit", "/audit/1", "/audit?outcome=gave_up", "/webhooks", f"/webhooks/{event}", "/plans",
        f"/plans/{plan}", "/plans/1", "/drift", "/setup", "/customers/no-such",
    ]  # fmt: skip
    with serving_in_thread({"console": console(company)}) as urls:
        yield f"{urls['console']}{PREFIX}/main", pages


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        # A folder of its own: npm ci empties node_modules, below a Prism that runs as well.
        return installed("axe-core/axe.min.js", OWN).read_text("utf-8")
    except (NodeMissingError, NpmFailedError) as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.mark.parametrize(
    ("scheme", "size"),
    [("light", LAPTOP), ("dark", LAPTOP), ("light", PHONE)],
    ids=["light", "dark", "phone"],
)
def test_every_page_passes_axe(served, axe, browser, scheme, size):
    base, pages = served
    context = browser.new_context(color_scheme=scheme, viewport=size)
    page = context.new_page()
    found: list[str] = []
    for path in pages:
        page.goto(base + path)
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        page.evaluate(axe)
        faults = page.evaluate(FOUND, RULES)
        jumps = page.evaluate(ORDER)
        wide = page.evaluate("document.documentElement.scrollWidth")
        faults += [f"{jumps} jumps of the focus"] if jumps else []
        faults += [f"{wide} px wide"] if wide > size["width"] else []
        found += [f"{path}: {fault}" for fault in faults]
    context.close()
    assert not found, "\n".join(found)
