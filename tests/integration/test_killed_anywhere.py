"""D7: a worker killed between any two calls; the next run finishes the rest.

A process of its own runs the daily sync. The mock server holds its n-th call, before or after it was
applied, and the process is killed there (SIGKILL). Then the sync runs again. Nothing may be lost
and nothing done twice, whatever n was: compared is the audience as an undisturbed run leaves it. And
every write has its audit row (promise 6), that of a call whose worker died before its commit as well.
"""

import itertools
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.audit_journal import assert_audit_matches_journal
from tests.integration.company import ADDRESS, Company
from tests.integration.killed_worker import work

pytestmark = pytest.mark.endurance

SYSTEMS = ("quickbooks", "mailchimp")
# Warm processes: forked from one that has imported everything and holds no connections.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.integration.killed_worker"])

Scenario = Callable[[Company], None]


def twelve_customers(company: Company) -> None:
    """A first sync: created, adopted, shared by two, skipped."""
    company.seed("c2@firm-mail.net")
    company.seed("c3@firm-mail.net", status="unsubscribed")
    for number in range(1, 11):
        company.customer(f"C{number}", f"c{number}@firm-mail.net", BillAddr=ADDRESS)
    company.customer("Shares with C1", "c1@firm-mail.net")
    company.customer("Has none")


def second_day(company: Company) -> None:
    """A second sync: update, address change, opt-outs, one that travels, archive, restore, new."""
    twelve_customers(company)
    company.sync()
    found = company.quickbooks_control("GET", "customers")["customers"]
    ids = {customer["DisplayName"]: str(customer["Id"]) for customer in found}
    company.edit(ids["C9"], Active=False)
    company.sync()
    company.edit(ids["C9"], Active=True, DisplayName="C9")
    company.edit(ids["C4"], FamilyName="Changed")
    company.move(ids["C5"], "moved5@firm-mail.net")
    company.person("c6@firm-mail.net", "unsubscribe")
    company.move(ids["C6"], "moved6@firm-mail.net")
    company.edit(ids["C7"], Active=False)
    company.edit(ids["C8"], Active=False)
    company.person("c10@firm-mail.net", "unsubscribe")
    company.customer("New", "new@firm-mail.net")


def outcome(company: Company) -> dict[str, Any]:
    """The audience, with everything that a call done twice would show in."""
    return {
        email: (
            member["status"],
            member["merge_fields"],
            sorted(tag["name"] for tag in member["tags"]),
            [(change["before"], change["after"], change["by"]) for change in member["status_changes"]],
        )
        for email, member in company.members().items()
    }  # fmt: skip


def standing(company: Company) -> dict[str, Any]:
    """What the connector knows of its contacts, by address index."""
    with company.database.begin() as connection:
        rows = connection.execute(
            text("""SELECT encode(email_key, 'hex'), status, owner, pushed_hash, archived_by,
                           sent_fields,
                           CASE WHEN status = 'archived' THEN previous_status END
                    FROM ml_connector.contacts ORDER BY 1""")
        ).all()
    return {row[0]: tuple(row[1:]) for row in rows}


def pending(company: Company) -> int:
    with company.database.begin() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM ml_connector.all_changes WHERE state = 'pending'")
        ).scalar_one()
    return int(found)


def applied(company: Company) -> list[str]:
    """Every change that counts as applied, as audit rows name their cause."""
    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT 'change:' || id FROM ml_connector.all_changes WHERE state = 'applied'")
        ).all()
    return sorted(row[0] for row in rows)


def audited(company: Company) -> list[str]:
    """The causes of what the audit says was applied to the audience."""
    trail = [entry for entry in company.audit() if entry["system"] == "mailchimp"]
    return sorted(entry["cause"] for entry in trail if entry["outcome"] == "applied")


def killed_at(
    company: Company,
    system: str,
    nth: int,
    when: str,
    *,
    job: Callable[..., None] = work,
    more: tuple[str, ...] = (),
) -> bool:
    """Run ``job`` in a process and kill it at its ``nth`` call; False if it makes fewer."""
    base = company.quickbooks if system == "quickbooks" else company.mailchimp
    company.clear_journals()
    held = {"kind": "hang" if when == "before" else "delay", "seconds": 5}
    company.fault(system, nth=[nth], action=held)
    worker = _processes.Process(
        target=job,
        args=(
            company.mock_servers,
            company.database_url,
            str(company.folder),
            company.settings,
            company.ahead,
            *more,
        ),
        daemon=True,
    )
    worker.start()
    try:
        while worker.is_alive():
            calls = company.every_call(base)
            if (
                len(calls) >= nth
                and calls[nth - 1]["fault"]
                and (when == "before" or calls[nth - 1]["status"] or calls[nth - 1]["applied"])
            ):
                return True
            time.sleep(0.005)
        assert worker.exitcode == 0, "the undisturbed run failed"
        return False
    finally:
        worker.kill()
        worker.join()
        for url in (company.quickbooks, company.mailchimp):
            company.clear_faults(url)


SCENARIOS = {"first sync": twelve_customers, "second day": second_day}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_d7_a_worker_killed_at_any_call_leaves_nothing_undone_doubled_or_without_a_row(
    company_after, scenario: Scenario, system: str, when: str
) -> None:
    with company_after(scenario) as calm:
        calm.sync()
        expected, known = outcome(calm), standing(calm)
    for nth in itertools.count(1):
        at = f"killed {when} call {nth} to {system}"
        with company_after(scenario) as company:
            before = len(company.audit())
            if not killed_at(company, system, nth, when):
                assert outcome(company) == expected
                assert assert_audit_matches_journal(company, rows=company.audit()[before:]) > 5
                break
            company.sync()
            assert outcome(company) == expected, at
            rows = company.audit()[before:]
            assert assert_audit_matches_journal(company, interrupted=True, rows=rows) > 5, at
            assert pending(company) == 0, at
            assert standing(company) == known, at
            assert audited(company) == applied(company), at
            company.clear_journals()
            company.sync()
            assert company.writes() == [], at
    assert nth > (2 if system == "quickbooks" else 4), "the run made too few calls to prove a thing"


def day_with_events(company: Company, write_to: str) -> None:
    """Shown before and again, shown for the first time, full Notes, shared by two, engagement."""
    company.settings["activity"] = {"write_to": write_to}
    company.customer("A", "a@firm-mail.net", Notes="Likes parrots.\r\n\tCall after 5.")
    company.customer("B", "b@firm-mail.net")
    company.customer("C", "c@firm-mail.net", Notes="y" * 1990)
    company.customer("Shares with B", "b@firm-mail.net", Notes="\U0001f600")
    company.sync()
    company.person("a@firm-mail.net", "unsubscribe", reason="Too many mails")
    company.sync()
    company.person("a@firm-mail.net", "archive")
    company.person("b@firm-mail.net", "unsubscribe")
    company.did(company.campaign(recipients=["c@firm-mail.net"]), "c@firm-mail.net", "open")
    company.pass_time(hours=13)  # reports are read again


def written_back(company: Company) -> dict[str, Any]:
    """What the customers show, every note attached, and every event with whether it is shown."""
    found = company.quickbooks_control("GET", "customers")["customers"]
    names = {str(customer["Id"]): customer["DisplayName"] for customer in found}
    attached = company.quickbooks_control("GET", "attachables")["attachables"]
    with company.database.begin() as connection:
        events = connection.execute(
            text("""SELECT encode(email_key, 'hex'), kind, before, after,
                           written_to_quickbooks_at IS NOT NULL
                    FROM ml_connector.member_events ORDER BY 1, 2, id""")
        ).all()
    return {
        "notes": {customer["DisplayName"]: customer.get("Notes", "") for customer in found},
        "attached": sorted(
            (names[each["AttachableRef"][0]["EntityRef"]["value"]], each["Note"])
            for each in attached
        ),
        "events": [tuple(row) for row in events],
    }


@pytest.mark.parametrize("write_to", ["notes", "attachment", "both"])
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_d7_what_members_did_is_shown_once_wherever_the_worker_was_killed(
    company_after, write_to: str, system: str, when: str
) -> None:
    scenario = partial(day_with_events, write_to=write_to)
    with company_after(scenario) as calm:
        calm.sync()
        expected = written_back(calm)
    assert [shown for *_, shown in expected["events"]] == [True] * 4
    assert len(expected["attached"]) == (1 if write_to == "notes" else 4)
    for nth in itertools.count(1):
        at = f"killed {when} call {nth} to {system}"
        with company_after(scenario) as company:
            if not killed_at(company, system, nth, when):
                assert written_back(company) == expected
                break
            company.sync()
            assert written_back(company) == expected, at
            company.clear_journals()
            company.sync()
            assert written_back(company) == expected, at
            paths = [call["path"] for call in company.calls("quickbooks")]
            assert not any(path.endswith("/batch") for path in paths), at
    assert nth > 3, "the run made too few calls to prove a thing"
