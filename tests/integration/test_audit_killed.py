"""Promise 6 under kills: what is told of a batch whose worker was killed before its commit.

That every write has a row wherever the worker was killed is in test_killed_anywhere.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from ml_connector.sync.recovery import record_unknown_outcomes
from tests.integration.company import Company
from tests.integration.test_killed_anywhere import killed_at


def unheard(company: Company) -> list[str]:
    return [row["email_key"] for row in company.audit() if row["outcome"] == "unheard"]


@pytest.mark.parametrize(("when", "writes"), [("before", 1), ("after", 2)])
def test_a_batch_that_nobody_heard_of_has_a_row_for_each_contact(
    fresh_company, when: str, writes: int
) -> None:
    nth = first_write(fresh_company)
    with fresh_company() as company:
        for number in range(5):
            company.customer(f"C{number}", f"c{number}@firm-mail.net")
        assert killed_at(company, "mailchimp", nth, when)
        assert unheard(company) == []
        company.sync()
        created = [row["email_key"] for row in company.audit() if row["outcome"] == "applied"]
        assert sorted(unheard(company)) == sorted(created)
        assert len(created) == 5
        assert sum(call["applied"] for call in company.writes()) == writes
        company.sync()
        assert len(unheard(company)) == 5, "told once"


def first_write(fresh_company) -> int:
    """The number of the first call to Mailchimp that writes, in a sync of a few customers."""
    with fresh_company() as company:
        company.customer("C0", "c0@firm-mail.net")
        company.sync()
        return 1 + [call["write"] for call in company.calls("mailchimp")].index(True)


def test_a_batch_under_way_is_not_taken_for_one_that_nobody_heard_of(fresh_company) -> None:
    with fresh_company() as company:
        company.customer("C0", "c0@firm-mail.net")
        company.fault("mailchimp", match={"method": "POST"}, action={"kind": "delay", "seconds": 3})
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(company.sync)
            while not intents(company) and not running.done():
                time.sleep(0.01)
            assert intents(company) == 1
            with company.database.begin() as connection:
                assert record_unknown_outcomes(company.scope(), connection) == 0
            running.result()
        assert (intents(company), unheard(company)) == (0, [])


def intents(company: Company) -> int:
    with company.database.begin() as connection:
        found = connection.execute(text("SELECT count(*) FROM ml_connector.batch_intents"))
        return int(found.scalar_one())


def test_a_batch_refused_as_a_whole_is_not_unheard(fresh_company) -> None:
    with fresh_company() as company:
        for number in range(4):
            company.customer(f"C{number}", f"c{number}@firm-mail.net")
        answer = {"kind": "status", "status": 400, "body": {"title": "Invalid Resource"}}
        company.fault("mailchimp", match={"method": "POST"}, action=answer, times=1)
        company.sync()
        company.sync()
        assert unheard(company) == []
        assert sorted(company.members()) == [f"c{number}@firm-mail.net" for number in range(4)]
