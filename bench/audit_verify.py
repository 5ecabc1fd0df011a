"""``python -m bench.audit_verify``: a large audit written, sealed, then each row verified.

The figures are in docs/reference/audit.md. Memory is the process's highest so far, so what it grew by is what
verifying took.
"""

import argparse
import os
import resource
import sys
import time
from contextlib import closing

from local.postgres import temporary
from ml_connector.audit import chain, trail
from ml_connector.audit.trail import Entry
from ml_connector.model import RunContext
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from ml_connector.vault import Vault

BATCH = 500


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
        with closing(Database(url, connections=2)) as database:
            write(database, vault, options.rows)
            written = _now()
            chain.seal(database, vault)
            sealed, before = _now(), _peak()
            with database.begin() as connection:
                told = chain.verify(connection, vault)
            verified = _now()
    sys.stdout.write(f"sealed {options.rows:,} rows in {_spent(written, sealed)}\n")
    memory = f"memory {before:.0f} to {_peak():.0f} MiB"
    sys.stdout.write(f"verified {told.sound:,} rows in {_spent(sealed, verified)}; {memory}\n")
    return int(bool(told.findings))


def write(database: Database, vault: Vault, rows: int) -> None:
    """Write rows as a push does, a batch of 500 at a time."""
    entries = [
        Entry(
            sync="main",
            action="create",
            reason="new_customer",
            outcome="applied",
            cause=f"change:{number}",
            customer_id=str(number),
            email_key=vault.email_key(str(number)),
            request_id="8a4f0d6e-1c2b-4d5e-9f70-123456789abc",
            after={"email": f"c{number}@firm-mail.net", "merge_fields": {"FNAME": "Amy"}},
        )
        for number in range(BATCH)
    ]
    run = RunContext(dag_id="sync_customers__main", run_id="scheduled__1", task_id="push")
    for _ in range(rows // BATCH):
        batch = trail.encrypted(entries, run=run, vault=vault)
        with database.begin() as connection:
            trail.append_batch(connection, batch, vault=vault)


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _spent(began: tuple[float, float], ended: tuple[float, float]) -> str:
    wall, ours = (end - begin for begin, end in zip(began, ended, strict=True))
    return f"{wall:.1f} s, {ours:.1f} s of the processor"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
