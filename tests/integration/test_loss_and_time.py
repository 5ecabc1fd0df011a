"""Lost, repeated and shuffled webhooks, and clocks that jump: the end state is that of a good day."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

from ml_connector.webhooks.worker import process_inbox
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.integration.company import AUDIENCE, REALM, Company, MockServers, control

CUSTOMERS = 1_200
EACH = 60
COPIES = 56  # of 180 events: 10,080 in all
REALMS = {"main": REALM, "west": "9341450000000002", "north": "9341450000000003"}
AUDIENCES = {"main": AUDIENCE, "west": "b2c3d4e5f6", "north": "c3d4e5f6a7"}


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_a_week_without_webhooks_heals_within_one_daily_run(company):
    ids = [company.customer(f"C{n}", f"c{n}@finch.org") for n in range(CUSTOMERS)]
    company.sync()
    company.sync()  # what the first load wrote is read back
    renamed, moved, opted_out, inactive = (
        range(700),
        range(700, 800),
        range(800, 1_100),
        range(1_100, CUSTOMERS),
    )
    acts = [
        *(lambda n=n: company.edit(ids[n], FamilyName=f"Wren {n}") for n in renamed),
        *(lambda n=n: company.move(ids[n], f"new{n}@finch.org") for n in moved),
        *(lambda n=n: company.person(f"c{n}@finch.org", "unsubscribe") for n in opted_out),
        *(lambda n=n: company.edit(ids[n], Active=False) for n in inactive),
    ]
    random.Random(7).shuffle(acts)
    for day in range(7):
        company.pass_time(days=1)
        for act in acts[day::7]:
            act()
    company.settings["guard"] = {"max_archives": CUSTOMERS, "max_updates": CUSTOMERS}
    company.sync()
    members = company.members()
    assert all(members[f"c{n}@finch.org"]["merge_fields"]["LNAME"] == f"Wren {n}" for n in renamed)
    assert all(members[f"new{n}@finch.org"]["status"] == "subscribed" for n in moved)
    assert all(members[f"c{n}@finch.org"]["status"] == "archived" for n in (*moved, *inactive))
    assert all(members[f"c{n}@finch.org"]["status"] == "unsubscribed" for n in opted_out)
    shown = [company.record_of(ids[n]).get("Notes", "") for n in opted_out]
    assert all("nsubscribed" in notes for notes in shown)
    company.clear_journals()
    company.sync()
    assert company.writes() == []


@contextmanager
def three_companies(main: Company) -> Iterator[list[Company]]:
    with ExitStack() as stack:
        companies = [main]
        for name in ("west", "north"):
            apps = {"quickbooks": create_quickbooks(realm=REALMS[name])}
            url = stack.enter_context(serving_in_thread(apps))["quickbooks"]
            control(url, "POST", "company", {"empty": True})
            main.mailchimp_control("POST", "audiences", {"id": AUDIENCES[name], "merge_fields": []})
            other = Company(
                mock_servers=MockServers(quickbooks=url, mailchimp=main.mailchimp),
                database_url=main.database_url,
                folder=main.folder,
                database=main.database,
            )
            other.realm = REALMS[name]
            other.settings |= {
                "name": name,
                "audience_id": AUDIENCES[name],
                "quickbooks_conn_id": f"quickbooks_{name}",
                "fields": {},
            }
            companies.append(other)
        yield companies


def events_of(companies: list[Company]) -> list[tuple[int, tuple[str, ...]]]:
    """Let customers be edited, moved, merged and removed; return (company, event) in order."""
    events: list[tuple[int, tuple[str, ...]]] = []
    for place, company in enumerate(companies):
        company.settings["guard"] = {"max_archives": EACH, "max_archive_share": 1.0}
        name = company.sync_settings().name
        ids = [company.customer(f"C{n}", f"{name}{n}@finch.org") for n in range(EACH)]
        company.sync()
        for n, id_ in enumerate(ids):
            if n % 4 == 0:
                company.move(id_, f"{name}-new{n}@finch.org")
            elif n % 4 == 1:
                company.edit(id_, Active=False)
            elif n % 4 == 2:
                company.move(id_, f"{name}-between{n}@finch.org")
                company.move(id_, f"{name}{n}@finch.org")
            else:
                company.edit(id_, Active=False)
                company.edit(id_, Active=True)
            events.append((place, ("updated", id_)))
    return events


def processed(companies: list[Company]) -> dict[str, dict[str, str]]:
    """Process the inbox to its end; return status by address, by company."""
    syncs = [company.open_sync() for company in companies]
    main = companies[0]
    while process_inbox(main.database, syncs, vault=main.vault).get("done"):
        pass
    assert set(main.inbox()) == {"done"}
    return {
        audience: {
            member["email_address"]: member["status"]
            for member in main.mailchimp_control("GET", f"members?audience={audience}")["members"]
        }
        for audience in AUDIENCES.values()
    }


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_ten_thousand_shuffled_copies_of_events_end_as_each_once_in_order(fresh_company):
    ends = []
    for shuffled in (False, True):
        with fresh_company() as main, three_companies(main) as companies:
            events = events_of(companies)
            if shuffled:
                events *= COPIES
                random.Random(7).shuffle(events)
            for start in range(0, len(events), 300):
                body: dict[int, list[tuple[str, ...]]] = {}
                for place, event in events[start : start + 300]:
                    body.setdefault(place, []).append(event)
                for place, told in body.items():
                    companies[place].told_by_quickbooks(*told)
            ends.append(processed(companies))
            assert sum(main.inbox().values()) == len(events)
            for company in companies:
                company.clear_journals()
                company.sync()
            assert main.writes() == []
    in_order, shuffled_end = ends
    assert shuffled_end == in_order
    assert {len(audience) for audience in in_order.values()} == {EACH + EACH // 4}


@pytest.mark.parametrize("jump", [timedelta(days=2), timedelta(days=-2)], ids=["ahead", "back"])
def test_a_clock_that_jumps_for_one_run_hides_no_change_from_the_next(company, jump):
    amy = company.customer("Amy", "amy@finch.org")
    ben = company.customer("Ben", "ben@finch.org")
    company.sync()
    company.ahead += jump  # of this machine alone
    company.edit(amy, FamilyName="Finch")
    company.sync()
    company.person("ben@finch.org", "unsubscribe")
    company.edit(amy, FamilyName="Wren")
    company.ahead -= jump
    company.sync()
    assert company.fields("amy@finch.org")["LNAME"] == "Wren"
    company.move(ben, "ben@wren.org")
    company.sync()
    assert company.statuses()["ben@wren.org"] == "unsubscribed"
    company.clear_journals()
    company.sync()
    assert company.writes() == []
