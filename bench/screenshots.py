"""``python -m bench.screenshots``: the pictures in docs/images, of a machine as ``make run`` starts it."""

import sys
from pathlib import Path

import requests

from ml_connector.console.access import PREFIX
from tests.e2e import sender
from tests.e2e.airflow import Airflow, staying_up, wait_for
from tests.e2e.live.browser import browsing, console_in

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
PAGES = ("", "/customers", "/customers/1", "/audit", "/webhooks", "/plans", "/setup")
NAMES = ("overview", "customers", "customer", "audit", "webhooks", "plans", "setup")
LOADED = 1500  # milliseconds for charts to be drawn


def main() -> None:
    """Let some things happen, then take each page in its frame's size, light; and one of Airflow."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with staying_up() as airflow:
        _happen(airflow)
        with browsing(airflow, viewport={"width": 1280, "height": 860}) as opened:
            page = opened.page()
            for name, path in zip(NAMES, PAGES, strict=True):
                page.goto(f"{airflow.url}{PREFIX}/main{path}")
                page.wait_for_timeout(LOADED)
                page.screenshot(path=FOLDER / f"console-{name}.png")
            console_in(page, airflow).locator("main").wait_for()
            page.wait_for_timeout(LOADED)
            page.screenshot(path=FOLDER / "console-in-airflow.png")
    for picture in sorted(FOLDER.glob("console-*.png")):
        sys.stdout.write(f"{picture.name} {picture.stat().st_size // 1024} kB\n")


def _happen(airflow: Airflow) -> None:
    """A few days' worth of events around Amy, in a minute."""
    airflow.edit(1, GivenName="Amelia")
    wait_for(lambda: airflow.member("Birds@Intuit.com")["merge_fields"]["FNAME"] == "Amelia", 60)
    person = f"{airflow.mailchimp}/members/Birds@Intuit.com"
    requests.post(f"{person}/unsubscribe", json={"reason": "Too many mails"}, timeout=30)
    wait_for(lambda: "Unsubscribed" in _notes(airflow), 60)
    airflow.add_customer("Fake & Sons", "fake@example.com")
    assert airflow.finished(airflow.trigger()) == "success"
    assert airflow.finished(airflow.trigger(preview=True)) == "success"
    sender.send(airflow.receiver, sender.customer_event("99999"))


def _notes(airflow: Airflow) -> str:
    found = requests.get(f"{airflow.quickbooks}/customers/1", timeout=30).json()
    return found.get("Notes") or ""


if __name__ == "__main__":
    main()
