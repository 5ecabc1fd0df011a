"""A sync that outlives its access tokens: no step of it notices."""

from collections import Counter
from pathlib import Path

from sqlalchemy import text

from tests.integration.token_worker import FIRST, STRICT, FileVault

CUSTOMERS = 5_000


def test_a_sync_over_many_token_lifetimes_is_not_interrupted(firm):
    firm.quickbooks_control("POST", "company", {"customers": CUSTOMERS})
    firm.quickbooks_control("PUT", "settings", {**STRICT, "access_token_seconds": 1})
    firm.quickbooks_control("PUT", "latency", {"ms": 450})
    firm.tokens = FileVault(Path(firm.folder) / "token.json")
    firm.tokens.save(FIRST)

    firm.sync()

    calls = firm.every_call(firm.quickbooks)
    refreshes = [call["status"] for call in calls if call["kind"] == "token"]
    assert set(refreshes) == {200}
    assert len(refreshes) >= 3
    healed = sum(call["status"] == 401 for call in calls)
    assert healed < len(refreshes), "a 401 is answered by one renewal"
    with firm.database.begin() as connection:
        staged = connection.execute(
            text("SELECT count(*) FROM ml_connector.customers")
        ).scalar_one()
    assert staged == CUSTOMERS
    assert firm.waits == [], "no call was repeated for another reason"
    outcomes = Counter(row["outcome"] for row in firm.audit())
    assert outcomes["applied"] == len(firm.members()) > CUSTOMERS / 2
    assert set(outcomes) == {"applied", "linked", "skipped"}, "nothing failed"

    firm.quickbooks_control("PUT", "latency", {"ms": 0})
    firm.clear_journals()
    firm.sync(full_sync=True)
    assert firm.writes() == [], "the first sync left nothing to do"
