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
def answered_late(firm, system: str, read: Callable[[], object], **match: str) -> Iterator[None]:
    """Run ``read``; its first call that matches is answered as things are now, and late."""
    firm.clear_journals()
    slow = {"kind": "delay", "seconds": 5}
    firm.fault(system, match=match, times=1, action=slow)
    thread = threading.Thread(target=read)
    thread.start()
    deadline = time.monotonic() + 20
    while not any(call["fault"] for call in firm.calls(system)):
        assert time.monotonic() < deadline, "the read never came"
        time.sleep(0.02)
    yield
    assert thread.is_alive(), "too slow to be overtaken"
    thread.join()


def known(firm, email: str) -> tuple[str, str | None]:
    with firm.database.begin() as connection:
        row = connection.execute(
            text("""SELECT status, archived_by FROM ml_connector.contacts
                    WHERE email_key = :key"""),
            {"key": firm.vault.email_key(email)},
        ).one()
    return row.status, row.archived_by


@pytest.fixture
def amy(firm) -> str:
    id_ = firm.customer("Amy", "amy@overtaken.com")
    firm.sync()
    firm.sync()
    return id_


def poll(firm) -> None:
    scope = firm.scope()
    fetch_members(scope, firm.mailchimp_client(scope.calls), full_sync=True)


def test_an_opt_out_told_by_a_webhook_is_not_undone_by_an_older_page_of_members(firm, amy):
    with answered_late(firm, "mailchimp", lambda: poll(firm), method="GET", path="/members$"):
        firm.person("amy@overtaken.com", "unsubscribe")
        firm.told_by_mailchimp("unsubscribe", email="amy@overtaken.com", id="1", action="unsub")
        firm.work_off()
    assert known(firm, "amy@overtaken.com") == ("unsubscribed", None)
    firm.move(amy, "amy-new@overtaken.com")
    firm.sync()
    assert firm.statuses()["amy-new@overtaken.com"] == "unsubscribed"


def test_an_archive_of_ours_is_not_taken_for_a_marketers_by_an_older_page_of_members(firm, amy):
    """Whom we wrote last after reading: the page is newer than what was read then."""
    time.sleep(1.1)  # Mailchimp's times have whole seconds
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    with answered_late(firm, "mailchimp", lambda: poll(firm), method="GET", path="/members$"):
        firm.edit(amy, Active=False)
        firm.told_by_quickbooks(("updated", amy))
        firm.work_off()
        assert known(firm, "amy@overtaken.com") == ("archived", "us")
    poll(firm)
    assert known(firm, "amy@overtaken.com") == ("archived", "us")
    firm.edit(amy, Active=True)
    firm.sync()
    assert firm.statuses()["amy@overtaken.com"] == "subscribed"


def test_a_customer_created_during_a_full_load_keeps_its_contact(firm, amy):
    load = firm.scope()
    full = partial(firm.fetch, load, full_sync=True)
    with answered_late(firm, "quickbooks", full, body="STARTPOSITION"):
        time.sleep(1.1)  # update times have whole seconds
        new = firm.customer("New", "new@overtaken.com")
        firm.told_by_quickbooks(("created", new), ("updated", amy))
        firm.work_off()
        assert firm.statuses()["new@overtaken.com"] == "subscribed"
    planned = firm.plan(load)
    archive_contacts(load, firm.mailchimp_client(load.calls), plan_id=planned.plan_id)
    assert firm.statuses() == {
        "amy@overtaken.com": "subscribed",
        "new@overtaken.com": "subscribed",
    }
    assert firm.decisions()[new][0] == "contact"


def test_a_full_load_asks_for_those_it_did_not_list_before_they_count_as_gone(firm, amy):
    gone = firm.customer("Gone", "gone@overtaken.com")
    firm.sync()
    firm.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": gone})
    firm.sync(full_sync=True)
    assert firm.statuses()["gone@overtaken.com"] == "archived"
    assert firm.decisions()[gone][:2] == ("skipped", "gone")
