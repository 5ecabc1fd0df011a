"""Calls to Mailchimp that go wrong within a whole sync: rows D4, D5, D6 of docs/reference/behaviour.md."""

from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import text

from ml_connector.errors import QuotaExhausted, ResponseLost, RetryLater

BLOCKS = {
    "429": {"kind": "status", "status": 429, "body": {"status": 429, "title": "Too Many Requests"}},
    "429 without JSON": {"kind": "status", "status": 429},
    "403 without JSON": {"kind": "html", "status": 403},
    "503 without JSON": {"kind": "html", "status": 503},
    "503 without a body": {"kind": "status", "status": 503},
}
EVERY_TRY = 4  # as many as the company's retries allow


def people(company, number: int = 3) -> list[str]:
    return [company.customer(f"C{n}", f"c{n}@firm-mail.net") for n in range(1, number + 1)]


def created_once(company) -> None:
    """Every contact came into being once and was never touched in its status again."""
    changes = {email: len(member["status_changes"]) for email, member in company.members().items()}
    assert set(changes.values()) == {1}, changes


def applied_rows(company) -> Counter[str]:
    """How often each address was in a batch that Mailchimp applied."""
    return Counter(
        row["email_address"]
        for call in company.writes()
        if call["applied"] and call["path"].endswith("/lists/a1b2c3d4e5")
        for row in call["body"]["members"]
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("action", BLOCKS.values(), ids=BLOCKS)
def test_d4_a_blocked_call_backs_off_and_goes_through(company, action, method):
    people(company)
    company.fault("mailchimp", match={"method": method}, nth=[1, 2], action=action)
    company.sync()
    assert len(company.members()) == 3
    assert company.waits == [0.5, 1.0]
    created_once(company)


def test_d4_a_retry_after_is_waited_for(company):
    people(company)
    action = {**BLOCKS["429"], "headers": {"Retry-After": "9"}}
    company.fault("mailchimp", match={"method": "POST"}, nth=[1], action=action)
    company.sync()
    assert company.waits == [9.5]


@pytest.mark.parametrize("system", ["quickbooks", "mailchimp"])
def test_d2a_a_retry_after_of_a_week_holds_up_a_webhook_for_an_hour_at_most(company, system):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.edit(amy, GivenName="Amelia")
    week = {"kind": "status", "status": 503, "headers": {"Retry-After": "604800"}, "body": {}}
    company.fault(system, match={}, action=week)
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    assert company.inbox() == {"pending": 1}
    company.clear_faults(getattr(company, system))
    with company.database.begin() as connection:
        due = text("SELECT max(next_try_at) - clock_timestamp() FROM ml_connector.webhook_inbox")
        wait = connection.execute(due).scalar_one()
    assert timedelta(minutes=50) < wait <= timedelta(hours=1)


@pytest.mark.parametrize("action", BLOCKS.values(), ids=BLOCKS)
def test_d4_a_block_that_lasts_stops_the_run_and_a_later_one_writes_just_the_rest(company, action):
    company.threads = 1
    company.quickbooks_control("POST", "company", {"customers": 1200, "seed": 3})
    company.fault("mailchimp", match={"method": "POST"}, nth=list(range(2, 10)), action=action)
    with pytest.raises(QuotaExhausted, match="nothing is lost") as stopped:
        company.sync()
    assert "\n" not in str(stopped.value)
    before = len(company.members())
    assert before <= 500
    company.clear_faults(company.mailchimp)
    company.sync()
    contacts = [told for told in company.decisions().values() if told[0] == "contact"]
    assert len(company.members()) == len(contacts) > 900
    assert set(applied_rows(company).values()) == {1}
    created_once(company)
    applied = Counter(e["email_key"] for e in company.audit() if e["outcome"] == "applied")
    assert len(applied) == len(company.members())
    assert set(applied.values()) == {1}


WRITES = {"batch": "POST", "archive": "DELETE", "restore": "PUT"}


def third_day(company) -> dict[str, str]:
    """Three contacts, of which the second is archived by us; return ids by name."""
    company.settings["new_contact_status"] = "transactional"
    first, second, third = people(company)
    company.sync()
    company.edit(second, Active=False)
    company.sync()
    assert company.statuses()["c2@firm-mail.net"] == "archived"
    company.clear_journals()
    return {"batch": first, "restore": second, "archive": third}


def change_everything(company, ids: dict[str, str]) -> None:
    company.edit(ids["batch"], FamilyName="Changed")
    company.edit(ids["restore"], Active=True, DisplayName="C2")
    company.edit(ids["archive"], Active=False)


def is_right(company, ids: dict[str, str]) -> None:
    assert company.statuses() == {
        "c1@firm-mail.net": "transactional",
        "c2@firm-mail.net": "transactional",
        "c3@firm-mail.net": "archived",
    }
    assert company.fields("c1@firm-mail.net")["LNAME"] == "Changed"
    changes = {email: len(m["status_changes"]) for email, m in company.members().items()}
    assert changes == {"c1@firm-mail.net": 1, "c2@firm-mail.net": 3, "c3@firm-mail.net": 2}
    last = {name: company.told(customer)[-1] for name, customer in ids.items()}
    assert {name: (told[0], told[2]) for name, told in last.items() if name != "restore"} == {
        "batch": ("update", "applied"),
        "archive": ("archive", "applied"),
    }
    causes = Counter(e["cause"] for e in company.audit() if e["outcome"] == "applied")
    assert set(causes.values()) == {1}


def comes_back_as_before(company, customer: str) -> None:
    """A18 still works: the archive is known to be ours, and the status before it too."""
    company.edit(customer, Active=True, DisplayName="C3")
    company.sync()
    assert company.statuses()["c3@firm-mail.net"] == "transactional"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", WRITES.values(), ids=WRITES)
def test_d5_an_answer_lost_once_changes_nothing(company, method, when):
    ids = third_day(company)
    change_everything(company, ids)
    drop = {"kind": "drop", "when": when}
    company.fault("mailchimp", match={"method": method}, nth=[1], action=drop)
    company.sync()
    is_right(company, ids)
    comes_back_as_before(company, ids["archive"])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", WRITES.values(), ids=WRITES)
def test_d5_an_answer_lost_on_every_try_is_made_good_by_the_next_run(company, method, when):
    ids = third_day(company)
    change_everything(company, ids)
    company.threads = 1  # another one could claim what the first gave up, and be heard
    drop = {"kind": "drop", "when": when}
    company.fault("mailchimp", match={"method": method}, times=EVERY_TRY, action=drop)
    with pytest.raises(ResponseLost, match="the call may have been applied"):
        company.sync()
    company.clear_faults(company.mailchimp)
    company.sync()
    is_right(company, ids)
    comes_back_as_before(company, ids["archive"])


@pytest.mark.parametrize("kind", ["hang", "delay"])
@pytest.mark.parametrize("method", WRITES.values(), ids=WRITES)
def test_d6_a_write_that_times_out_is_treated_as_lost(company, method, kind):
    ids = third_day(company)
    change_everything(company, ids)
    company.timeout = 0.4
    slow = {"kind": kind, "seconds": 1.5}
    company.fault("mailchimp", match={"method": method}, nth=[1], action=slow)
    company.sync()
    is_right(company, ids)
    assert max(company.waits) >= 5.0, "the call that timed out may still hold a connection"


@pytest.mark.parametrize("body", ["", "[]", "<html>Sorry</html>", '{"members": ['])
def test_d4_an_audience_that_cannot_be_read_never_counts_as_empty(company, body):
    ids = third_day(company)
    change_everything(company, ids)
    odd = {"kind": "body", "body": body}
    company.fault("mailchimp", match={"method": "GET", "path": "/members$"}, action=odd)
    with pytest.raises(RetryLater, match="the response is not JSON"):
        company.sync()
    assert company.writes() == []
