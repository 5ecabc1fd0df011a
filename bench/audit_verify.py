"""``python -m bench.audit_verify``: every row of a large audit sealed, then compared with its seal.

The figures are in docs/audit.md. Memory is the process's highest so far, so what it grew by is what
verifying took.
"""

import argparse
import os
import resource
import sys
import time
from contextlib import closing

from bench.audit_page import fill
from local.postgres import temporary
from ml_connector.audit import chain
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from ml_connector.vault import Vault


def main() -> int:
    """Fill, seal, verify, print; 1 if a row was found to be wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit_verify")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    vault = Vault(encryption_keys=[os.urandom(32)], index_key=os.urandom(32))
    with temporary() as postgres:
        postgres.create_database("audit")
        url = postgres.url("audit")
        upgrade(url)
        fill(url, options.rows)
        with closing(Database(url, connections=2)) as database:
            began = time.monotonic()
            chain.seal(database, vault)
            sealed, before = time.monotonic(), _peak()
            with database.begin() as connection:
                told = chain.verify(connection, vault)
            took = time.monotonic() - sealed
    sys.stdout.write(f"sealed {options.rows:,} rows in {sealed - began:.0f} s\n")
    memory = f"memory {before:.0f} to {_peak():.0f} MiB"
    sys.stdout.write(f"verified {told.sound:,} rows in {took:.0f} s; {memory}\n")
    return int(bool(told.findings))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
