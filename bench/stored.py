"""``python -m bench.stored``: measures 10,000 customers and stores what CI compares with.

Calls and megabytes, not seconds: machines differ. Most of the peak is what imports take, and that
differs between builds of Python. So what the work adds to it is a figure of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.daily import measure
from local.postgres import temporary

FILE = Path(__file__).with_name("stored.json")
CUSTOMERS = 10_000
IMPORTS = "from bench import daily_sync; print(daily_sync.peak_kib())"


def measured() -> dict[str, dict[str, Any]]:
    """Return calls by kind and the megabytes of the imports and of the work of each case."""
    imports = subprocess.run([sys.executable, "-c", IMPORTS], check=True, stdout=subprocess.PIPE)
    imports_mb = round(int(imports.stdout) / 1024)
    with temporary() as postgres:
        cases = measure(postgres, CUSTOMERS, latency=0)
    return {
        work: {
            "calls": figures["calls"],
            "imports_mb": imports_mb,
            "work_mb": figures["peak_mb"] - imports_mb,
        }
        for work, figures in cases.items()
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(measured(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
