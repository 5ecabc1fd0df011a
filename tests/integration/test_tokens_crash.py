"""A process killed between QuickBooks' rotation and our commit: the one window nobody can close.

Where the old refresh token still works for a while, the next caller recovers it. Where it does not,
the connection ends at once, after three token calls at most, and everything else goes on.
"""

from pathlib import Path

import pytest

from ml_connector.errors import NeedsReauth
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.preflight import check_audience
from ml_connector.sync.push import push_shard
from tests.integration.token_worker import CRASHES, DAY, FIRST, STRICT, Desk, attempt, crash

pytestmark = pytest.mark.endurance

TIMES = 2


@pytest.fixture
def desk(mock_servers, database_url, tmp_path) -> Desk:
    return Desk(
        quickbooks=mock_servers.quickbooks,
        database_url=database_url,
        path=Path(tmp_path) / "token.json",
    )


@pytest.mark.parametrize("how", CRASHES)
def test_with_grace_the_next_caller_recovers_what_a_killed_one_lost(desk, how: str) -> None:
    desk.fresh(**STRICT | {"grace_seconds": DAY})
    assert attempt(desk) == ""
    for time in range(TIMES):
        crash(desk, how)
        assert attempt(desk) == "", f"{how}, time {time + 1}"
    assert {call["status"] for call in desk.token_calls()} == {200}
    assert len(desk.token_calls()) == 1 + 2 * TIMES


@pytest.mark.parametrize("how", CRASHES)
def test_two_killed_in_a_row_are_recovered_as_well(desk, how: str) -> None:
    desk.fresh(**STRICT | {"grace_seconds": DAY})
    crash(desk, how)
    crash(desk, how)
    assert attempt(desk) == ""


@pytest.mark.parametrize("how", CRASHES)
def test_a_token_that_did_not_rotate_survives_the_death_of_its_holder(desk, how: str) -> None:
    desk.fresh(rotate="daily", reuse_revokes_family=True)
    crash(desk, how)
    assert attempt(desk) == ""


@pytest.mark.parametrize("revoking", [True, False], ids=["reuse revokes", "reuse is refused"])
@pytest.mark.parametrize("how", CRASHES)
def test_without_grace_the_connection_ends_at_once_and_is_left_alone(
    desk, how: str, revoking: bool
) -> None:
    for time in range(TIMES // 2):
        desk.fresh(**STRICT | {"reuse_revokes_family": revoking})
        assert attempt(desk) == ""
        crash(desk, how)
        desk.control("DELETE", "journal")
        assert [attempt(desk) for _ in range(21)] == ["NeedsReauth"] * 21, time
        assert [call["status"] for call in desk.token_calls()] == [
            400,
            400,
        ]  # it, then its last try


def test_a_new_consent_ends_it(desk) -> None:
    desk.fresh(**STRICT)
    crash(desk, "before the write")
    assert attempt(desk) == "NeedsReauth"
    desk.vault().save(desk.consent())
    assert attempt(desk) == ""


def test_an_ended_connection_stops_nothing_that_needs_no_call_to_quickbooks(company, desk) -> None:
    company.quickbooks_control("PUT", "settings", STRICT)
    company.tokens = desk.vault()
    company.tokens.save(FIRST)
    for number in range(30):
        company.customer(f"C{number}", f"c{number}@firm-mail.net")
    scope = company.scope()
    company.fetch(scope)
    company.quickbooks_control("POST", "tokens/expire")
    crash(desk, "before the rename")
    company.clear_journals()
    for _ in range(20):
        with pytest.raises(NeedsReauth, match="ml-connector connect quickbooks"):
            company.sync()
    assert len(desk.token_calls()) <= 3
    later = company.scope()
    mailchimp = company.mailchimp_client(later.calls)
    fetch_members(later, mailchimp)
    planned = company.plan(later)
    check_audience(later, mailchimp)
    for shard in planned.shards:
        push_shard(later, mailchimp, plan_id=planned.plan_id, shard=shard, threads=2)
    assert len(company.members()) == 30
    assert {row["outcome"] for row in company.audit()} == {"applied"}
