"""``make torture``: webhooks while parts are killed, at full length.

    python -m bench.webhook_faults --kills 20 --triggerers 5 --schedulers 2

The same scenarios as tests/e2e/live/test_webhooks.py, longer. Ends with 1 if a promise was broken.
"""

import argparse
import statistics
import sys
import time

from tests.e2e.airflow import staying_up
from tests.e2e.webhook_faults import Seen, api_server_killed, parts_killed


def main() -> int:
    """Run the scenarios; print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhook_faults")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--customers", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=150)
    parser.add_argument("--triggerers", type=int, default=5)
    parser.add_argument("--schedulers", type=int, default=2)
    options = parser.parse_args()
    held = True
    with staying_up() as airflow:
        airflow.end_webhooks()
        began = time.monotonic()
        seen = parts_killed(airflow, triggerers=options.triggerers, schedulers=options.schedulers)
        held &= _show("triggerer and scheduler killed, every NOTIFY dropped", seen, began)
        began = time.monotonic()
        seen = api_server_killed(
            airflow, kills=options.kills, customers=options.customers, rate=options.rate
        )
        held &= _show("API server killed", seen, began)
    sys.stdout.write("every promise held\n" if held else "A PROMISE WAS BROKEN\n")
    return 0 if held else 1


def _show(title: str, seen: Seen, began: float) -> bool:
    lines = [
        f"{title}: {time.monotonic() - began:.0f} s in all",
        f"  {seen.events} events in {seen.tries} tries, {seen.kills} kills",
        (
            f"  miscounted {seen.miscounted[:5]}, not carried over {seen.not_carried[:5]}, "
            f"doubled {seen.doubled[:5]}, unsettled {seen.unsettled}"
        ),
    ]
    if seen.seconds:
        median, longest = statistics.median(seen.seconds), max(seen.seconds)
        lines.append(
            f"  after the part was up again: median {median:.1f} s, longest {longest:.1f} s"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    return seen.right


if __name__ == "__main__":
    sys.exit(main())
