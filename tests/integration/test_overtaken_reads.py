"""A read takes time: what webhooks bring and other runs write meanwhile is not undone by it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import text

from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_members import fetch_members


@contextmanager
def answered_late(company, system: str, read: Callable[[], object], **match: str) -> Iterator[None]:
    """Run ``read``; its first call that matches is answered as things are now, and late."""
    company.clear_journals()
    slow = {"kind": "delay", "seconds": 3}
    company.fault(system, match=match, times=1, action=slow)
    thread = threading.Thread(target=read)
    thread.start()
    deadline = time.monotonic() + 20
    while not any(call["fault"] for call in company.calls(system)):
        assert time.monotonic() < deadline, "the read never came"
        time.sleep(0.02)
    yield
    assert thread.is_alive(), "too slow to be overtaken"
    thread.join()


def known(company, email: str) -> tuple[str, str | None]:
    with company.database.begin() as connection:
        row = connection.execute(
            text("""SELECT status, archived_by FROM ml_connector.contacts
                    WHERE email_key = :key"""),
            {"key": company.vault.email_key(email)},
        ).one()
    return row.status, row.archived_by


@pytest.fixture
def amy(company) -> str:
    id_ = company.customer("Amy", "amy@overtaken.com")
    company.sync()
    company.sync()
    return id_


def poll(company) -> None:
    scope = company.scope()
    fetch_members(scope, company.mailchimp_client(scope.calls), full_sync=True)


def test_an_opt_out_told_by_a_webhook_is_not_undone_by_an_older_page_of_members(company, amy):
    with answered_late(company, "mailchimp", lambda: poll(company), method="GET", path="/members$"):
        company.person("amy@overtaken.com", "unsubscribe")
        company.told_by_mailchimp("unsubscribe", email="amy@overtaken.com", id="1", action="unsub")
        company.work_off()
    assert known(company, "amy@overtaken.com") == ("unsubscribed", None)
    company.move(amy, "amy-new@overtaken.com")
    company.sync()
    assert company.statuses()["amy-new@overtaken.com"] == "unsubscribed"


def test_an_archive_of_ours_is_not_taken_for_a_marketers_by_an_older_page_of_members(company, amy):
    """Whom we wrote last after reading: the page is newer than what was read then."""
    # Mailchimp's times have whole seconds. They are compared with the database's, so both pass.
    time.sleep(1.1)
    company.edit(amy, GivenName="Amelia")
    company.sync()
    with answered_late(company, "mailchimp", lambda: poll(company), method="GET", path="/members$"):
        company.edit(amy, Active=False)
        company.told_by_quickbooks(("updated", amy))
        company.work_off()
        assert known(company, "amy@overtaken.com") == ("archived", "us")
    poll(company)
    assert known(company, "amy@overtaken.com") == ("archived", "us")
    company.edit(amy, Active=True)
    company.sync()
    assert company.statuses()["amy@overtaken.com"] == "subscribed"


def test_a_customer_created_during_a_full_load_keeps_its_contact(company, amy):
    load = company.scope()
    full = partial(company.fetch, load, full_sync=True)
    with answered_late(company, "quickbooks", full, body="STARTPOSITION"):
        company.pass_time(seconds=2)  # update times have whole seconds
        new = company.customer("New", "new@overtaken.com")
        company.told_by_quickbooks(("created", new), ("updated", amy))
        company.work_off()
        assert company.statuses()["new@overtaken.com"] == "subscribed"
    planned = company.plan(load)
    archive_contacts(load, company.mailchimp_client(load.calls), plan_id=planned.plan_id)
    assert company.statuses() == {
        "amy@overtaken.com": "subscribed",
        "new@overtaken.com": "subscribed",
    }
    assert company.decisions()[new][0] == "contact"


def test_d10_a_load_has_who_was_created_meanwhile_though_quickbooks_clock_is_slow(company, amy):
    company.quickbooks_control("PUT", "clock", {"offset_seconds": -30 * 60})
    load = company.scope()
    full = partial(company.fetch, load, full_sync=True)
    with answered_late(company, "quickbooks", full, body="STARTPOSITION"):
        new = company.customer("New", "new@overtaken.com")
    company.plan(load)
    assert company.decisions()[new][0] == "contact"


def test_a_full_load_asks_for_those_it_did_not_list_before_they_count_as_gone(company, amy):
    gone = company.customer("Gone", "gone@overtaken.com")
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": gone})
    company.sync(full_sync=True)
    assert company.statuses()["gone@overtaken.com"] == "archived"
    assert company.decisions()[gone][:2] == ("skipped", "gone")
