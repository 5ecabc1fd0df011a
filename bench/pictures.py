"""``make pictures``: take the pictures in docs/images again, of ``make run LIVED=1``.

    python -m bench.pictures [NAME ...] [--anew]

The company's state is kept in ``.bench/lived`` for half a day: then a second go takes a minute and
not the minutes of the month. ``--anew`` lets it live again.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Mapping

from playwright.sync_api import Page

from ml_connector.console.access import PREFIX
from tests.e2e.airflow import Airflow, running
from tests.e2e.live.browser import browsing, console_in
from tests.e2e.machine import REPOSITORY, Machine

FOLDER = REPOSITORY / "docs" / "images"
HOME = REPOSITORY / ".bench" / "lived"
FRESH = 12 * 3600  # seconds
SIZE = {"width": 1280, "height": 860}
LARGEST = 200_000  # bytes: the pictures are in the repository for ever
DRAWN = 1500  # milliseconds for charts
PATIENCE = 180_000  # milliseconds: the first page builds the console

Taken = Callable[[Page, Airflow], None]


def main() -> None:
    """Take the pictures that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--anew", action="store_true", help="let the company live again")
    given = parser.parse_args()
    if unknown := set(given.names) - set(PICTURES):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(PICTURES)}")
    if given.anew or _age() > FRESH:
        shutil.rmtree(HOME, ignore_errors=True)
    for folder in (FOLDER, HOME.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with (
        running(Machine(HOME), "LIVED=1", say=_say) as airflow,
        browsing(airflow, viewport=SIZE, color_scheme="light") as opened,
    ):
        opened.context.set_default_timeout(PATIENCE)
        for name in given.names or PICTURES:
            _take(opened.page(), airflow, name)


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _age() -> float:
    """Return how many seconds ago the company's month ended; a month that did not end is old."""
    note = HOME / "lived"
    ended = note.exists() and note.read_text("utf-8") == "done"
    ended = ended and (HOME / "sandbox.state").exists()
    return time.time() - note.stat().st_mtime if ended else float("inf")


def _take(page: Page, airflow: Airflow, name: str) -> None:
    PICTURES[name](page, airflow)
    page.wait_for_timeout(DRAWN)
    path = FOLDER / f"console-{name}.png"
    page.screenshot(path=path)
    page.close()
    size = path.stat().st_size
    _say(f"{path.relative_to(REPOSITORY)} {size // 1000} kB\n")
    if size > LARGEST:
        raise SystemExit(f"{path.name} is larger than {LARGEST // 1000} kB")


def _page(path: str) -> Taken:
    def show(page: Page, airflow: Airflow) -> None:
        page.goto(f"{airflow.url}{PREFIX}/main{path}")

    return show


def _first_of(path: str) -> Taken:
    """Show what the first link of a list leads to."""

    def show(page: Page, airflow: Airflow) -> None:
        page.goto(f"{airflow.url}{PREFIX}/main{path}")
        page.locator("tbody a[href*='/main/']").first.click()
        page.get_by_role("heading", level=1).wait_for()

    return show


def _in_airflow(page: Page, airflow: Airflow) -> None:
    console_in(page, airflow).locator("main").wait_for()


PICTURES: Mapping[str, Taken] = {
    "customers": _page("/customers?engagement=engaged&sort=-since"),
    "customer": _first_of("/customers?status=unsubscribed&engagement=engaged&sort=-since"),
    "plans": _page("/plans?kind=sync"),
    "plan": _first_of("/plans?kind=sync"),
    "audit": _page("/audit"),
    "webhooks": _page("/webhooks"),
    "setup": _page("/setup"),
    "in-airflow": _in_airflow,
}
"""What each picture shows."""

if __name__ == "__main__":
    main()
