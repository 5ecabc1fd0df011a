"""Eight writers and a bookkeeper on the same 200 customers, while answers get lost.

A round: every member's status flips, the change is read from Mailchimp, and eight processes write it
to QuickBooks while the bookkeeper goes on editing names, addresses and Notes of the same customers.
Each 20th answer is lost after the call was applied. ``ACTIVITY_ROUNDS`` times 200 customer writes are
made; ten rounds are the full 2,000::

    ACTIVITY_ROUNDS=10 pytest tests/integration/test_activity_contention.py

Seen with ten, on two cores: 2,000 writes applied, 1,823 conflicts settled, 3,828 edits by the
bookkeeper, 50 answers lost, 958 batches; 27 s. Not one edit was lost.
"""

import os
import time
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text

from ml_connector.activity.notes import markers_of
from ml_connector.rules.notes_block import LONGEST, length
from ml_connector.sync.fetch_members import fetch_members
from tests.integration.activity_worker import processes, write_until
from tests.integration.token_worker import FIRST, FileVault

ROUNDS = int(os.environ.get("ACTIVITY_ROUNDS", "4"))
CUSTOMERS = 200
WRITERS = 8
EDITS_A_SECOND = 150
SAYS = {"subscribed": "Subscribed to", "unsubscribed": "Unsubscribed from"}
OWN = ("", "Likes parrots.\r\n\tCall after 5.\r\n", "\U0001f600 --- Mailchimp main", "Old\rMac\r")


@contextmanager
def writers(company):
    """Eight processes that write for as long as the block lasts, and end well."""
    stop = processes.Event()
    arguments = (
        stop,
        company.mock_servers,
        company.database_url,
        str(company.folder),
        company.settings,
    )
    started = [processes.Process(target=write_until, args=arguments) for _ in range(WRITERS)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in started:
            process.join(60)
            process.kill()
    assert [process.exitcode for process in started] == [0] * WRITERS


def unwritten(company) -> int:
    """How many contacts have news that their customer does not show."""
    with company.database.begin() as connection:
        return int(
            connection.execute(
                text("""SELECT count(*) FROM ml_connector.contacts k
                        JOIN ml_connector.customers c ON c.sync = k.sync AND c.email_key = k.email_key
                        LEFT JOIN ml_connector.activity_blocks b
                          ON b.sync = c.sync AND b.customer_id = c.customer_id
                        WHERE b.state IS DISTINCT FROM 'shown' OR b.shown_news <> k.news""")
            ).scalar_one()
        )


def flip(company, status: str) -> None:
    """A day later everybody has changed their mind, and the audience is read."""
    company.ahead += timedelta(days=1)
    company.mailchimp_control("PUT", "clock", {"offset_seconds": company.ahead.total_seconds()})
    action = "subscribe" if status == "subscribed" else "unsubscribe"
    for number in range(CUSTOMERS):
        company.person(f"c{number}@firm-mail.net", action)
    scope = company.scope()
    fetch_members(scope, company.mailchimp_client(scope.calls))


def answered(company) -> Counter[str]:
    """How many writes of each customer were answered: a lost answer's call is repeated until then."""
    return Counter(
        item["Customer"]["Id"]
        for call in company.calls("quickbooks")
        if call["path"].endswith("/batch") and call["status"] == 200
        for item in call["body"]["BatchItemRequest"]
    )


@pytest.mark.endurance
def test_no_human_edit_is_lost_and_no_write_of_ours_is_done_twice(company):
    company.settings["activity"] = {"batch_size": 5}
    company.tokens = FileVault(Path(company.folder) / "token.json")
    company.tokens.save(FIRST)
    first_text = {}
    for number in range(CUSTOMERS):
        own = OWN[number % len(OWN)]
        customer = company.customer(f"C{number}", f"c{number}@firm-mail.net", Notes=own)
        first_text[customer] = own
    company.sync()
    customers = company.quickbooks_control("GET", "customers?limit=1000")["customers"]
    tokens_before = sum(int(customer["SyncToken"]) for customer in customers)
    company.clear_journals()
    lost = {"match": {"path": "/(batch|query)$"}, "every": 20}
    company.fault("quickbooks", **lost, action={"kind": "drop", "when": "after"})
    company.quickbooks_control("POST", "bookkeeper/start", {"edits_per_second": EDITS_A_SECOND})

    with writers(company):
        for number in range(ROUNDS):
            flip(company, "subscribed" if number % 2 else "unsubscribed")
            deadline = time.monotonic() + 60
            while unwritten(company):
                assert time.monotonic() < deadline, f"round {number} does not come to its end"
                time.sleep(0.05)
        company.quickbooks_control("POST", "bookkeeper/stop")
    dropped = sum(rule["fired"] for rule in company.quickbooks_control("GET", "faults")["faults"])
    company.clear_faults(company.quickbooks)
    written = answered(company)
    calls = sum(call["path"].endswith("/batch") for call in company.calls("quickbooks"))
    company.sync()

    desk = company.quickbooks_control("GET", "bookkeeper")
    now = {
        str(customer["Id"]): customer
        for customer in company.quickbooks_control("GET", "customers?limit=1000")["customers"]
    }
    assert (desk["lost"], desk["missing"]) == ([], [])
    for customer, edited in desk["ledger"].items():
        for field, value in edited.items():
            if field != "Notes":
                assert now[customer][field] == value

    scope = company.scope()
    statuses = company.statuses()
    for customer, own in first_text.items():
        markers, held = markers_of(scope, customer), now[customer]["Notes"]
        assert held.count(markers.first) == held.count(markers.last) == 1
        assert length(held) <= LONGEST
        persons = [desk["ledger"].get(customer, {}).get("Notes", ""), own]
        rest = markers.out_of(held)
        for person in persons:
            assert person in rest
            rest = rest.replace(person, "", 1)
        assert rest.strip("\n") == "", "and nothing else stands there"
        block = held[held.index(markers.first) : held.index(markers.last)].strip().split("\n")
        status = statuses[now[customer]["PrimaryEmailAddr"]["Address"]]
        assert block[1].startswith(SAYS[status])
        assert len(block[2:]) == len(set(block[2:])) == ROUNDS, "each day's event, and once"

    trail = [row for row in company.audit() if row["system"] == "quickbooks"]
    outcomes = Counter(row["outcome"] for row in trail)
    assert set(outcomes) <= {"applied", "conflict"}, "settled, all of them"
    tried = Counter(row["customer_id"] for row in trail)
    assert tried == written, "an audit row for every write"
    tokens = sum(int(customer["SyncToken"]) for customer in now.values())
    assert outcomes["applied"] == tokens - tokens_before - desk["edits"], "every effect, and once"
    assert outcomes["applied"] >= ROUNDS * CUSTOMERS
    assert outcomes["conflict"] > 0, "there was contention"
    assert dropped >= ROUNDS, "and answers were lost"
    with company.database.begin() as connection:
        events = connection.execute(
            text("""SELECT count(*), count(DISTINCT (email_key, kind, happened_at)),
                           count(written_to_quickbooks_at) FROM ml_connector.member_events""")
        ).one()
    assert tuple(events) == (ROUNDS * CUSTOMERS,) * 3
    structlog.get_logger().info(
        "contention",
        **outcomes,
        edits=desk["edits"],
        lost_answers=dropped,
        batches=calls,
    )
    company.clear_journals()
    company.sync()
    assert [call for call in company.calls("quickbooks") if call["path"].endswith("/batch")] == []
