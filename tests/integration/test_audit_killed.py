"""Promise 6 under kills: what is told of a batch whose worker was killed before its commit.

That every write has a row wherever the worker was killed is in test_killed_anywhere.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from ml_connector.sync.recovery import record_unknown_outcomes
from tests.integration.firm import Firm
from tests.integration.test_killed_anywhere import killed_at


def unheard(firm: Firm) -> list[str]:
    return [row["email_key"] for row in firm.audit() if row["outcome"] == "unheard"]


@pytest.mark.parametrize(("when", "writes"), [("before", 1), ("after", 2)])
def test_a_batch_that_nobody_heard_of_has_a_row_for_each_contact(
    fresh_firm, when: str, writes: int
) -> None:
    nth = first_write(fresh_firm)
    with fresh_firm() as firm:
        for number in range(5):
            firm.customer(f"C{number}", f"c{number}@firm-mail.net")
        assert killed_at(firm, "mailchimp", nth, when)
        assert unheard(firm) == []
        firm.sync()
        created = [row["email_key"] for row in firm.audit() if row["outcome"] == "applied"]
        assert sorted(unheard(firm)) == sorted(created)
        assert len(created) == 5
        assert sum(call["applied"] for call in firm.writes()) == writes
        firm.sync()
        assert len(unheard(firm)) == 5, "told once"


def first_write(fresh_firm) -> int:
    """The number of the first call to Mailchimp that writes, in a sync of a few customers."""
    with fresh_firm() as firm:
        firm.customer("C0", "c0@firm-mail.net")
        firm.sync()
        return 1 + [call["write"] for call in firm.calls("mailchimp")].index(True)


def test_a_batch_under_way_is_not_taken_for_one_that_nobody_heard_of(fresh_firm) -> None:
    with fresh_firm() as firm:
        firm.customer("C0", "c0@firm-mail.net")
        firm.fault("mailchimp", match={"method": "POST"}, action={"kind": "delay", "seconds": 3})
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(firm.sync)
            while not intents(firm) and not running.done():
                time.sleep(0.01)
            assert intents(firm) == 1
            with firm.database.begin() as connection:
                assert record_unknown_outcomes(firm.scope(), connection) == 0
            running.result()
        assert (intents(firm), unheard(firm)) == (0, [])


def intents(firm: Firm) -> int:
    with firm.database.begin() as connection:
        found = connection.execute(text("SELECT count(*) FROM ml_connector.batch_intents"))
        return int(found.scalar_one())


def test_a_batch_refused_as_a_whole_is_not_unheard(fresh_firm) -> None:
    with fresh_firm() as firm:
        for number in range(4):
            firm.customer(f"C{number}", f"c{number}@firm-mail.net")
        answer = {"kind": "status", "status": 400, "body": {"title": "Invalid Resource"}}
        firm.fault("mailchimp", match={"method": "POST"}, action=answer, times=1)
        firm.sync()
        firm.sync()
        assert unheard(firm) == []
        assert sorted(firm.members()) == [f"c{number}@firm-mail.net" for number in range(4)]
