"""``make torture``: QuickBooks' tokens under a stampede and under SIGKILL, at full length.

    python -m bench.tokens --callers 20 --rounds 50 --crashes 20

The same scenarios as tests/integration/test_tokens_*.py, longer. Ends with 1 if a promise was broken.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from local.postgres import temporary
from ml_connector.store.migrate import upgrade
from sandbox.quickbooks.app import create_app
from sandbox.running import serving_in_thread
from tests.integration.token_worker import CRASHES, DAY, STRICT, Desk, attempt, crash, stampede

FURTHER = 21
"""Callers after the crash: the next one and 20 more."""


def main() -> int:
    """Run all scenarios; print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.tokens")
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--crashes", type=int, default=20)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary() as postgres,
        serving_in_thread({"quickbooks": create_app(company="empty")}) as urls,
    ):
        postgres.create_database("torture")
        upgrade(postgres.url("torture"))
        desk = Desk(
            quickbooks=urls["quickbooks"],
            database_url=postgres.url("torture"),
            path=Path(folder) / "token.json",
        )
        held = _stampede(desk, options.callers, options.rounds)
        for how in CRASHES:
            held &= _crashes(desk, how, options.crashes, grace=True)
            held &= _crashes(desk, how, options.crashes, grace=False)
    _say("every promise held" if held else "A PROMISE WAS BROKEN")
    return 0 if held else 1


def _stampede(desk: Desk, callers: int, rounds: int) -> bool:
    strict = {**STRICT, "revoke_on_concurrent": True, "token_latency_ms": 800}
    begun = time.monotonic()
    seen = stampede(replace(desk, wait_seconds=0.3).fresh(**strict), callers=callers, rounds=rounds)
    _say(f"stampede, endpoint 0.8 s, a lock wait 0.3 s, {time.monotonic() - begun:.0f} s in all")
    _say(f"  {seen}")
    return seen.redeemed == {1: rounds} and not (
        seen.refused or seen.failed or seen.disagreed or seen.revoked
    )


def _crashes(desk: Desk, how: str, times: int, *, grace: bool) -> bool:
    """Kill the redeeming process ``times`` times; look at what the callers after it get."""
    outcomes, calls = Counter[str](), Counter[int]()
    for _ in range(times):
        desk.fresh(**STRICT | {"grace_seconds": DAY if grace else 0})
        attempt(desk)
        crash(desk, how)
        desk.control("DELETE", "journal")
        heard = [attempt(desk) for _ in range(1 if grace else FURTHER)]
        outcomes[" or ".join(sorted(set(heard))) or "works"] += 1
        calls[len(desk.token_calls())] += 1
    _say(
        f"killed, {how}, {'grace of a day' if grace else 'no grace'}: "
        f"{dict(outcomes)}, token calls after it {dict(calls)}"
    )
    return set(outcomes) == {"works" if grace else "NeedsReauth"} and max(calls) <= 3


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
