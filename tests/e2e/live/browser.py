"""A headless Chromium that is logged in to the machine's Airflow."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext, FrameLocator, Page

from ml_connector.console.access import PREFIX
from tests.chromium import chromium
from tests.e2e.airflow import Airflow


class Watched:
    """A context whose pages' dialogs, errors and foreign requests are noted."""

    def __init__(self, context: BrowserContext, airflow: Airflow) -> None:
        self.context, self.airflow = context, airflow
        self.trouble: list[str] = []
        context.on("console", self._said)
        context.on("request", self._requested)

    def page(self) -> Page:
        page = self.context.new_page()
        page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        return page

    def _said(self, message) -> None:
        ours = (
            PREFIX in (message.location or {}).get("url", "") or "Security Policy" in message.text
        )
        if message.type == "error" and ours:
            self.trouble.append(message.text)

    def _requested(self, request) -> None:
        if not request.url.startswith((self.airflow.url, "data:", "blob:")):
            self.trouble.append(f"asked {request.url}")


@contextmanager
def browsing(airflow: Airflow, **options) -> Iterator[Watched]:
    """Open a browser logged in as admin, by Airflow's own login page."""
    with chromium() as browser:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        watched = Watched(context, airflow)
        log_in(watched)
        yield watched


def log_in(watched: Watched) -> None:
    passwords = json.loads(
        (watched.airflow.machine.home / "airflow_passwords.json").read_text("utf-8")
    )
    page = watched.context.new_page()
    page.goto(f"{watched.airflow.url}/auth/login")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(passwords["admin"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "login" not in url)
    page.close()


def console_in(page: Page, airflow: Airflow) -> FrameLocator:
    """Open the console inside Airflow's own frame, by its entry in the navigation."""
    page.goto(airflow.url)
    page.get_by_role("link", name="Connector").or_(
        page.get_by_role("button", name="Connector")
    ).first.click()
    return page.frame_locator("iframe")
