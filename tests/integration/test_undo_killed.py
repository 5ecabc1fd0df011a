"""E3: an undo killed at any call goes on, and so does one of 5,000 customers with edits meanwhile."""

import itertools

import pytest

from tests.integration import undoing
from tests.integration.audit_journal import hashed, journal, pairs_of_call, succeeded
from tests.integration.company import Company
from tests.integration.test_killed_anywhere import killed_at, pending
from tests.integration.undoing import audience, last_run, undo

pytestmark = pytest.mark.endurance

NUMBER, EDITED = 5_000, 200


def mixed_run(company: Company) -> None:
    """A run that creates, updates, adopts, archives, restores and moves contacts."""
    ids = {}
    for name in "abcdef":
        ids[name] = company.customer(
            name.upper(), f"{name}@killed-mail.net", FamilyName=f"{name}son"
        )
    company.edit(ids["f"], Active=False)
    company.sync()
    company.edit(ids["d"], Active=False)
    company.sync()
    company.seed("g@killed-mail.net", merge_fields={"LNAME": "Typed"})
    company.customer("G", "g@killed-mail.net")
    company.customer("H", "h@killed-mail.net")
    company.edit(ids["c"], Active=False)
    company.edit(ids["d"], Active=True, DisplayName="D")
    company.move(ids["e"], "e2@killed-mail.net")
    company.settings["fields"] = undoing.WRONG
    company.settings["tags"] = ["QuickBooks", "Wrong"]
    company.sync()


def assert_every_write_has_a_row(company: Company, rows: list[dict]) -> None:
    """A call that a killed worker never heard of has a row that says so, and may be the only one."""
    keys = {hashed(email): company.vault.email_key(email).hex() for email in company.members()}
    told = {row["email_key"] for row in rows}
    for call in journal(company, "mailchimp"):
        written = [keys[record] for _, record in pairs_of_call(call) if succeeded(call)]
        assert set(written) <= told, f"no row for {call['method']} {call['path']}"


@pytest.mark.parametrize("contract", ["current", "status_required"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_e3_an_undo_killed_at_any_call_is_finished_by_a_second_one(
    company_after, contract: str, when: str
) -> None:
    def scenario(company: Company) -> None:
        company.mailchimp_control("PUT", "settings", {"batch_contract": contract})
        mixed_run(company)

    with company_after(scenario) as calm:
        run = last_run(calm)
        undo(calm, run)
        expected = audience(calm)
    for nth in itertools.count(1):
        at = f"killed {when} call {nth}"
        with company_after(scenario) as company:
            before = len(company.audit())
            company.clear_journals()
            if not killed_at(company, "mailchimp", nth, when, job=undoing.work, more=(run,)):
                assert audience(company) == expected
                break
            undo(company, run)
            assert audience(company) == expected, at
            rows = company.audit()[before:]
            assert_every_write_has_a_row(company, rows)
            assert pending(company) == 0, at
            company.clear_journals()
            company.sync(full_sync=True)
            assert company.writes() == [], at
    assert nth > 8, "the undo made too few calls to prove a thing"


def test_e3_a_wrong_mapping_of_5000_customers_is_taken_back_but_for_200_edits(company):
    for number in range(NUMBER):
        company.customer(
            f"C{number}", f"c{number}@many-undone.net", FamilyName=f"L{number}", CompanyName="Co"
        )
    company.sync()
    company.sync()
    before = audience(company)
    run = undoing.wrong_run(company)
    assert audience(company) != before
    kept = [f"c{number}@many-undone.net" for number in range(0, NUMBER, NUMBER // EDITED)]
    half = len(kept) // 2
    for email in kept[:half]:
        company.person(email, "profile", merge_fields={"FNAME": "Edited"})

    def edit_the_rest() -> None:
        for email in kept[half:]:
            company.person(email, "profile", merge_fields={"FNAME": "Edited"})

    company.clear_journals()
    told = undo(company, run, before_write=edit_the_rest)
    assert told == {
        "update undo applied": NUMBER - EDITED,
        "update changed_since left": EDITED,
    }
    assert len(company.writes()) <= NUMBER // 500 + 2, "batches of 500"
    after = audience(company)
    assert {email: after[email] for email in before if email not in kept} == {
        email: before[email] for email in before if email not in kept
    }
    assert {after[email][1]["FNAME"] for email in kept} == {"Edited"}
    company.clear_journals()
    company.sync()
    assert company.writes() == []
