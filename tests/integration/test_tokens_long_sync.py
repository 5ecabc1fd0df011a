"""A sync that outlives its access tokens: no step of it notices."""

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.integration.token_worker import FIRST, STRICT, FileVault

CUSTOMERS = 5_000
OPTED_OUT = 500


def opted_out_before(company) -> list[str]:
    """People of 500 customers are known to Mailchimp, and have opted out there."""
    customers = company.quickbooks_control("GET", f"customers?limit={CUSTOMERS}")["customers"]
    mine = {
        str(customer["Id"]): customer["PrimaryEmailAddr"]["Address"].strip().lower()
        for customer in customers
        if customer["Active"]
        and not customer.get("IsProject")
        and "," not in customer.get("PrimaryEmailAddr", {}).get("Address", ",")
    }
    shared = Counter(mine.values())
    chosen = {each: at for each, at in mine.items() if shared[at] == 1 and ";" not in at}
    ids = list(chosen)[:OPTED_OUT]
    members = [{"email_address": chosen[each], "status": "unsubscribed"} for each in ids]
    company.mailchimp_control("POST", "members", {"members": members})
    return ids


@pytest.mark.endurance
def test_a_sync_over_many_token_lifetimes_is_not_interrupted(company):
    company.quickbooks_control("POST", "company", {"customers": CUSTOMERS})
    ids = opted_out_before(company)
    company.quickbooks_control("PUT", "settings", {**STRICT, "access_token_seconds": 1})
    company.quickbooks_control("PUT", "latency", {"ms": 450})
    company.tokens = FileVault(Path(company.folder) / "token.json")
    company.tokens.save(FIRST)

    company.sync()

    calls = company.every_call(company.quickbooks)
    batches = [call for call in calls if call["path"].endswith("/batch")]
    assert len([call for call in batches if call["status"] == 200]) >= OPTED_OUT / 25
    shown = {
        str(customer["Id"]): "Unsubscribed from the newsletter" in customer.get("Notes", "")
        for customer in company.quickbooks_control("GET", f"customers?limit={CUSTOMERS}")[
            "customers"
        ]
    }
    assert [each for each in ids if not shown[each]] == []
    refreshes = [call["status"] for call in calls if call["kind"] == "token"]
    assert set(refreshes) == {200}
    assert len(refreshes) >= 3
    healed = sum(call["status"] == 401 for call in calls)
    assert healed < len(refreshes), "a 401 is answered by one renewal"
    with company.database.begin() as connection:
        staged = connection.execute(
            text("SELECT count(*) FROM ml_connector.customers")
        ).scalar_one()
    assert staged == CUSTOMERS
    assert company.waits == [], "no call was repeated for another reason"
    trail = company.audit()
    written = Counter(row["outcome"] for row in trail if row["action"] == "write_notes")
    assert set(written) == {"applied"}
    assert written["applied"] >= OPTED_OUT
    outcomes = Counter(row["outcome"] for row in trail if row["system"] == "mailchimp")
    assert outcomes["applied"] == len(company.members()) > CUSTOMERS / 2
    assert set(outcomes) == {"applied", "linked", "skipped"}, "nothing failed"

    company.quickbooks_control("PUT", "latency", {"ms": 0})
    company.clear_journals()
    company.sync(full_sync=True)
    assert company.writes() == [], "the first sync left nothing to do"
    assert not any(call["path"].endswith("/batch") for call in company.calls("quickbooks"))
