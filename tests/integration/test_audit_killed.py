"""Promise 6 under kills: killed between a call and its commit, the successor's row counts."""

import itertools

import pytest

from tests.integration.audit_journal import assert_audit_matches_journal
from tests.integration.firm import Firm
from tests.integration.test_killed_anywhere import killed_at, second_day


def a_day_with_news(firm: Firm) -> None:
    second_day(firm)
    firm.person("c10@firm-mail.net", "unsubscribe")


@pytest.mark.parametrize("system", ["quickbooks", "mailchimp"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_at_any_call_leaves_every_write_with_a_row(
    fresh_firm, system: str, when: str
) -> None:
    for nth in itertools.count(1):
        with fresh_firm() as firm:
            a_day_with_news(firm)
            before = len(firm.audit())
            killed = killed_at(firm, system, nth, when)
            if not killed:
                assert assert_audit_matches_journal(firm, rows=firm.audit()[before:]) > 5
                break
            firm.sync()
            writes = assert_audit_matches_journal(
                firm, interrupted=True, rows=firm.audit()[before:]
            )
            assert writes > 5, f"killed {when} call {nth} to {system}"
