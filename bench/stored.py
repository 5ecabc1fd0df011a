"""``python -m bench.stored``: measures 10,000 customers and stores what CI compares with.

Calls and megabytes, not seconds: machines differ.
"""

import json
from pathlib import Path
from typing import Any

from bench.daily import measure
from local.postgres import temporary

FILE = Path(__file__).with_name("stored.json")
CUSTOMERS = 10_000


def measured() -> dict[str, dict[str, Any]]:
    """Return calls by kind and peak megabytes of each case."""
    with temporary() as postgres:
        cases = measure(postgres, CUSTOMERS, latency=0)
    return {
        work: {"calls": figures["calls"], "peak_mb": figures["peak_mb"]}
        for work, figures in cases.items()
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(measured(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
