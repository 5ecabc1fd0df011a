"""``python -m bench.secret_timing``: does the time of a refusal say how much of a proof was right?

Each kind of proof is checked with a guess that is wrong from its first byte and with one
wrong in its last, in random order. Prints the difference of the means with its 95 %
confidence interval, in nanoseconds. ``==`` over a long text is measured too: it shows what a
leak looks like, and that this benchmark finds it.
"""

import argparse
import gc
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ml_connector.mailchimp import webhooks as mailchimp
from ml_connector.quickbooks import webhooks as quickbooks

TOKEN, SECRET = "verifier-token-of-the-benchmark", "s" * 43
BODY = b"[]"
LONG = "x" * 20_000
BATCH = 20
"""Checks in one measurement: a clock's step is longer than one check."""
KEPT = 0.9
"""Share of the measurements kept, the quickest: what the machine did meanwhile makes one slow."""


def main() -> int:
    """Print the table; return 1 if a proof's interval does not contain zero, or ``==`` shows none."""
    parser = argparse.ArgumentParser(prog="python -m bench.secret_timing")
    parser.add_argument("--samples", type=int, default=20_000)
    samples = parser.parse_args().samples
    now = datetime.now(UTC)
    signed = quickbooks.signature(BODY, TOKEN)
    stamped = mailchimp.signature(BODY, SECRET, int(now.timestamp())).encode()
    at = stamped.index(b"v1=") + 3
    proofs: dict[str, tuple[Callable[[bytes], object], bytes, int]] = {
        "intuit-signature": (lambda given: quickbooks.signers(BODY, given, [TOKEN]), signed, 0),
        "X-Mailchimp-Signature": (
            lambda given: mailchimp.signature_matches(BODY, given, [SECRET], now=now), stamped, at,
        ),
        "secret in the URL": (
            lambda given: mailchimp.secret_matches(given.decode(), [SECRET]), SECRET.encode(), 0,
        ),
        "== over 20,000 bytes": (lambda given: given == LONG.encode(), LONG.encode(), 0),
    }  # fmt: skip
    wrong = 0
    for name, (check, right, first) in proofs.items():
        difference, interval = measured(check, right, first, samples)
        even = abs(difference) <= interval
        wrong += even if name.startswith("==") else not even
        sys.stdout.write(
            f"{name:24} last byte - first byte: {difference:+8.1f} ns ± {interval:.1f} (95 %), "
            f"{'no difference' if even else 'a difference'}\n"
        )
    return int(bool(wrong))


def measured(
    check: Callable[[bytes], object], right: bytes, first: int, samples: int
) -> tuple[float, float]:
    """Return how much longer a guess wrong in its last byte takes, and half the 95 % interval."""
    guesses = {"first": _bent(right, first), "last": _bent(right, len(right) - 1)}
    taken: dict[str, list[float]] = {name: [] for name in guesses}
    order, gc_was = ["first", "last"], gc.isenabled()
    gc.disable()
    for _ in range(samples):
        random.shuffle(order)
        for name in order:
            guess = guesses[name]
            began = time.perf_counter_ns()
            for _ in range(BATCH):
                check(guess)
            taken[name].append((time.perf_counter_ns() - began) / BATCH)
    if gc_was:
        gc.enable()
    quick = {name: sorted(each)[: int(len(each) * KEPT)] for name, each in taken.items()}
    difference = statistics.fmean(quick["last"]) - statistics.fmean(quick["first"])
    variance = sum(statistics.variance(each) / len(each) for each in quick.values())
    return difference, 1.96 * math.sqrt(variance)


def _bent(right: bytes, at: int) -> bytes:
    return right[:at] + (b"A" if right[at : at + 1] != b"A" else b"B") + right[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
