"""Calls to Mailchimp that go wrong within a whole sync: rows D4, D5, D6 of docs/behaviour.md."""

from collections import Counter

import pytest

from ml_connector.errors import AnswerLost, QuotaExhausted, RetryLater

BLOCKS = {
    "429": {"kind": "status", "status": 429, "body": {"status": 429, "title": "Too Many Requests"}},
    "429 without JSON": {"kind": "status", "status": 429},
    "403 without JSON": {"kind": "html", "status": 403},
    "503 without JSON": {"kind": "html", "status": 503},
    "503 without a body": {"kind": "status", "status": 503},
}
EVERY_TRY = 4  # as many as the firm's retries allow


def people(firm, number: int = 3) -> list[str]:
    return [firm.customer(f"C{n}", f"c{n}@firm-mail.net") for n in range(1, number + 1)]


def created_once(firm) -> None:
    """Every contact came into being once and was never touched in its status again."""
    changes = {email: len(member["status_changes"]) for email, member in firm.members().items()}
    assert set(changes.values()) == {1}, changes


def applied_rows(firm) -> Counter[str]:
    """How often each address was in a batch that Mailchimp applied."""
    return Counter(
        row["email_address"]
        for call in firm.writes()
        if call["applied"] and call["path"].endswith("/lists/a1b2c3d4e5")
        for row in call["body"]["members"]
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("action", BLOCKS.values(), ids=BLOCKS)
def test_d4_a_blocked_call_backs_off_and_goes_through(firm, action, method):
    people(firm)
    firm.fault("mailchimp", match={"method": method}, nth=[1, 2], action=action)
    firm.sync()
    assert len(firm.members()) == 3
    assert firm.waits == [0.5, 1.0]
    created_once(firm)


def test_d4_a_retry_after_is_waited_for(firm):
    people(firm)
    action = {**BLOCKS["429"], "headers": {"Retry-After": "9"}}
    firm.fault("mailchimp", match={"method": "POST"}, nth=[1], action=action)
    firm.sync()
    assert firm.waits == [9.5]


@pytest.mark.parametrize("action", BLOCKS.values(), ids=BLOCKS)
def test_d4_a_block_that_lasts_stops_the_run_and_a_later_one_writes_just_the_rest(firm, action):
    firm.threads = 1
    firm.quickbooks_control("POST", "company", {"customers": 1200, "seed": 3})
    firm.fault("mailchimp", match={"method": "POST"}, nth=list(range(2, 10)), action=action)
    with pytest.raises(QuotaExhausted, match="the run is resumable") as stopped:
        firm.sync()
    assert "\n" not in str(stopped.value)
    before = len(firm.members())
    assert before <= 500
    firm.clear_faults(firm.mailchimp)
    firm.sync()
    contacts = [told for told in firm.decisions().values() if told[0] == "contact"]
    assert len(firm.members()) == len(contacts) > 900
    assert set(applied_rows(firm).values()) == {1}
    created_once(firm)
    applied = Counter(e["email_key"] for e in firm.audit() if e["outcome"] == "applied")
    assert len(applied) == len(firm.members())
    assert set(applied.values()) == {1}


WRITES = {"batch": "POST", "archive": "DELETE", "restore": "PUT"}


def third_day(firm) -> dict[str, str]:
    """Three contacts, of which the second is archived by us; return ids by name."""
    firm.settings["new_contact_status"] = "transactional"
    first, second, third = people(firm)
    firm.sync()
    firm.edit(second, Active=False)
    firm.sync()
    assert firm.statuses()["c2@firm-mail.net"] == "archived"
    firm.clear_journals()
    return {"batch": first, "restore": second, "archive": third}


def change_everything(firm, ids: dict[str, str]) -> None:
    firm.edit(ids["batch"], FamilyName="Changed")
    firm.edit(ids["restore"], Active=True, DisplayName="C2")
    firm.edit(ids["archive"], Active=False)


def is_right(firm, ids: dict[str, str]) -> None:
    assert firm.statuses() == {
        "c1@firm-mail.net": "transactional",
        "c2@firm-mail.net": "transactional",
        "c3@firm-mail.net": "archived",
    }
    assert firm.fields("c1@firm-mail.net")["LNAME"] == "Changed"
    changes = {email: len(m["status_changes"]) for email, m in firm.members().items()}
    assert changes == {"c1@firm-mail.net": 1, "c2@firm-mail.net": 3, "c3@firm-mail.net": 2}
    last = {name: firm.told(customer)[-1] for name, customer in ids.items()}
    assert {name: (told[0], told[2]) for name, told in last.items() if name != "restore"} == {
        "batch": ("update", "applied"),
        "archive": ("archive", "applied"),
    }
    causes = Counter(e["cause"] for e in firm.audit() if e["outcome"] == "applied")
    assert set(causes.values()) == {1}


def comes_back_as_before(firm, customer: str) -> None:
    """A18 still works: the archive is known to be ours, and the status before it too."""
    firm.edit(customer, Active=True, DisplayName="C3")
    firm.sync()
    assert firm.statuses()["c3@firm-mail.net"] == "transactional"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", WRITES.values(), ids=WRITES)
def test_d5_an_answer_lost_once_changes_nothing(firm, method, when):
    ids = third_day(firm)
    change_everything(firm, ids)
    drop = {"kind": "drop", "when": when}
    firm.fault("mailchimp", match={"method": method}, nth=[1], action=drop)
    firm.sync()
    is_right(firm, ids)
    comes_back_as_before(firm, ids["archive"])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", WRITES.values(), ids=WRITES)
def test_d5_an_answer_lost_on_every_try_is_made_good_by_the_next_run(firm, method, when):
    ids = third_day(firm)
    change_everything(firm, ids)
    firm.threads = 1  # another one could claim what the first gave up, and be heard
    drop = {"kind": "drop", "when": when}
    firm.fault("mailchimp", match={"method": method}, times=EVERY_TRY, action=drop)
    with pytest.raises(AnswerLost, match="the call may have been applied"):
        firm.sync()
    firm.clear_faults(firm.mailchimp)
    firm.sync()
    is_right(firm, ids)
    comes_back_as_before(firm, ids["archive"])


@pytest.mark.parametrize("kind", ["hang", "delay"])
@pytest.mark.parametrize("method", WRITES.values(), ids=WRITES)
def test_d6_a_write_that_times_out_is_treated_as_lost(firm, method, kind):
    ids = third_day(firm)
    change_everything(firm, ids)
    firm.timeout = 0.4
    slow = {"kind": kind, "seconds": 1.5}
    firm.fault("mailchimp", match={"method": method}, nth=[1], action=slow)
    firm.sync()
    is_right(firm, ids)
    assert max(firm.waits) >= 5.0, "the call that timed out may still hold a connection"


@pytest.mark.parametrize("body", ["", "[]", "<html>Sorry</html>", '{"members": ['])
def test_d4_an_audience_that_cannot_be_read_never_counts_as_empty(firm, body):
    ids = third_day(firm)
    change_everything(firm, ids)
    odd = {"kind": "body", "body": body}
    firm.fault("mailchimp", match={"method": "GET", "path": "/members$"}, action=odd)
    with pytest.raises(RetryLater, match="the answer is not JSON"):
        firm.sync()
    assert firm.writes() == []
