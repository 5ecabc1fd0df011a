"""``make distributed``: a daily sync on the services of docker-compose.yaml, a worker lost midway.

    make distributed DISTRIBUTED_ARGS="--customers 20000"

The scenario of tests/e2e/test_compose.py at full length, the task's own retry included. Ends with 1
if a promise was broken.
"""

import argparse
import sys
import time

from tests.e2e.compose import missing_programs
from tests.e2e.distributed import distributed

BATCH = 500
"""Contacts that one call to Mailchimp carries."""


def main() -> int:
    """Run the scenario; print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.distributed")
    parser.add_argument("--customers", type=int, default=20_000)
    options = parser.parse_args()
    if missing := missing_programs():
        _say(f"not installed: {', '.join(missing)} (Debian has both)")
        return 1
    begun = time.monotonic()
    with distributed(options.customers) as machines:
        _say(f"every health check passes after {time.monotonic() - begun:.0f} s")
        middle = max(1, options.customers // BATCH // 2)
        seen = machines.kill_a_worker_in_the_push(after=middle, wait_for_retry=True)
        _say(f"a worker was killed after {seen.calls} batches, noticed after {seen.noticed:.0f} s")
        _say(f"the run ended {seen.ended:.0f} s after the kill: {seen.state}")
        for label, (state, tries) in sorted(seen.states.items()):
            _say(f"  {label:<16} {state}, tries: {tries}")
        wrong, doubled = machines.differences(), machines.doubled()
        members = len(machines.members())
        _say(
            f"{members} contacts, {machines.batches()} batches; contacts that are wrong: {len(wrong)}"
        )
        _say(f"  audit rows missing or doubled: {len(doubled)}")
    held = seen.state == "success" and not wrong and not doubled
    _say("every promise held" if held else "A PROMISE WAS BROKEN")
    return 0 if held else 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
