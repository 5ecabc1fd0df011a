"""``python -m tests.data.make_release_dump FOLDER``: what a release leaves in its database.

Run it in a checkout of the release, with this file copied there. The folder gets
``database.sql.gz`` (plain INSERT statements, for psycopg) and ``systems.json.gz`` (the customers and
members that both mock servers hold at the end). ``tests/data/release_2e62de3`` was made with commit
2e62de3, the last one whose audit is sealed row by row.

Every table has rows. The company's keys open it (``tests.integration.company``): the history began
under another key and was rotated. What a release leaves in flight is there: a batch, an archive and
a Notes write whose worker was killed, pending changes, a preview, an unfinished erasure, due and dead
webhooks, unsealed audit rows, a dropped month.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from local.postgres import binaries, temporary
from ml_connector.audit import chain, partitions
from ml_connector.errors import StopRun
from ml_connector.model import RunContext
from ml_connector.privacy import erasure
from ml_connector.privacy.forget import forget
from ml_connector.privacy.rotate_keys import rotate
from ml_connector.retention import maintain_audit
from ml_connector.store import intents
from ml_connector.store.migrate import upgrade
from ml_connector.vault import Vault
from ml_connector.webhooks import inbox
from ml_connector.wire.webhook_event import unreadable
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.integration.company import ADDRESS, Company, MockServers
from tests.integration.test_killed_anywhere import killed_at

FORMER_KEY = b"r" * 32
PEOPLE = 30


def address(number: int) -> str:
    """The address of customer ``number``."""
    return f"c{number}@firm-mail.net"


def first_days(company: Company) -> list[str]:
    """First load, edits, moves, member events, webhooks: under the former key."""
    company.settings["activity"] = {"write_to": "both"}
    company.mailchimp_control("PUT", "settings", {"throttled": [address(27)]})
    company.seed(address(2))
    company.seed(address(3), status="unsubscribed")
    ids = [
        company.customer(
            f"C{number}", address(number), FamilyName="Finch", BillAddr=ADDRESS,
            PrimaryPhone={"FreeFormNumber": f"555-01{number:02}"}, Notes=f"Note {number}",
        )
        for number in range(PEOPLE)
    ]  # fmt: skip
    company.customer("Shares with C1", address(1))
    company.customer("Has none")
    company.customer("Wrong", "no address")
    company.sync()
    company.sync()
    campaign = company.campaign()
    company.edit(ids[4], FamilyName="Changed")
    company.move(ids[5], "moved5@firm-mail.net")
    company.edit(ids[6], Active=False)
    company.person(address(7), "unsubscribe", reason="Too many mails")
    company.person(address(8), "upemail", email_address="own8@firm-mail.net")
    company.person(address(9), "clean")
    company.person(address(10), "profile", merge_fields={"FNAME": "Own"})
    company.did(campaign, address(11), "open")
    company.pass_time(hours=13)
    company.sync()
    company.person("moved5@firm-mail.net", "unsubscribe")
    company.move(ids[5], "again5@firm-mail.net")
    company.told_by_mailchimp("unsubscribe", email=address(12), id="12", reason="manual")
    company.told_by_quickbooks(("updated", ids[13]), ("updated", "424242"))
    company.work_off()
    company.sync()
    return ids


def forget_and_rotate(company: Company) -> None:
    """A finished erasure and one that did not reach its sync; then the keys of today."""
    run = RunContext(run_id="forget__1", task_id="forget", actor="operator")
    asked = {"database": company.database, "vault": company.vault, "delete_contact": False}
    forget([company.open_sync()], address=address(14), run=run, **asked)
    away = {"main": StopRun("the sync cannot be opened")}
    forget([], address=address(15), run=run, closed=away, **asked)
    company.vault = Vault(encryption_keys=[TODAY, FORMER_KEY], index_key=TODAY)
    for _ in rotate(company.database, company.vault, sleep=lambda _: None):
        pass
    company.vault = Vault(encryption_keys=[TODAY], index_key=TODAY)


def last_days(company: Company, ids: list[str]) -> None:
    """What is in flight: killed calls, waiting events, pending changes, a preview."""
    company.edit(ids[16], GivenName="Edited")
    company.edit(ids[17], Active=False)
    company.person(address(18), "unsubscribe", reason="Enough")
    company.pass_time(hours=3)
    killed(company, "mailchimp", leaving="archive_intents")
    company.pass_time(hours=3)
    company.person(address(25), "unsubscribe", reason="Enough")
    killed(company, "quickbooks", leaving="write_intents")
    company.told_by_quickbooks(("updated", ids[19]), ("updated", ids[20]))
    company.told_by_mailchimp("dance", email=address(21), id="21")
    event = unreadable(b"email=%", system="mailchimp", reason="not_a_form")

    with company.database.begin() as connection:
        inbox.deliver(connection, [event], vault=company.vault)
    company.edit(ids[22], FamilyName="Pending")
    company.edit(ids[23], Active=False)
    company.customer("Late", "late@firm-mail.net")
    scope = company.scope()
    company.fetch(scope)
    company.plan(scope)
    company.edit(ids[24], FamilyName="Previewed")
    company.sync(preview=True)
    with company.database.begin() as connection:
        pending = text("""SELECT changes.id FROM ml_connector.changes JOIN ml_connector.plans p
                          ON p.id = plan_id WHERE changes.state = 'pending'
                          AND changes.kind = 'update' AND p.kind = 'sync'""")
        waiting = connection.execute(pending).scalars().all()
        intents.put_batch(connection, waiting, sync="main")


def killed(company: Company, system: str, *, leaving: str) -> None:
    """Kill runs at their first, second ... call until one leaves an intent."""
    for nth in range(1, 60):
        assert killed_at(company, system, nth, "after"), f"no call to {system} left an intent"
        with company.database.begin() as connection:
            left = text(f"SELECT count(*) FROM ml_connector.{leaving}")
            if connection.execute(left).scalar_one():
                return


def by_the_way(company: Company) -> None:
    """What the tasks of Airflow write: alerts, pacing, calls, refreshed tokens."""
    statements = (
        (
            "INSERT INTO ml_connector.alerts (cause, message, link) VALUES"
            " ('task_failed/main', 'The sync failed.', '')"
        ),
        "INSERT INTO ml_connector.watched_syncs (sync) VALUES ('main')",
        "INSERT INTO ml_connector.pacing (account, free_at) VALUES ('quickbooks/1', now())",
        (
            "INSERT INTO ml_connector.api_usage (day, account, call, calls)"
            " VALUES ('2026-11-30', 'quickbooks/1', 'query', 12)"
        ),
        (
            "INSERT INTO ml_connector.token_refreshes (conn_id) VALUES ('quickbooks_default')"
            " ON CONFLICT DO NOTHING"
        ),
        (
            "INSERT INTO ml_connector.token_intents (conn_id, finished_at)"
            " VALUES ('quickbooks_default', now())"
        ),
    )
    with company.database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def old_months(company: Company) -> None:
    """A month that was dropped, which leaves a checkpoint, and one that is kept."""
    now = datetime.now(UTC)
    for months in (6, 2):
        at = partitions.month_of(now, later=-months) + timedelta(days=3)
        with company.database.begin() as connection:
            connection.execute(text("SELECT ml_connector.make_audit_partition(:at)"), {"at": at})
            connection.execute(
                text("""INSERT INTO ml_connector.audit (at, sync, system, action, reason, outcome,
                            attempts, cause, dag_id, run_id, task_id, try_number, actor, seal_id)
                        SELECT :at, 'main', 'mailchimp', 'create', 'r', 'applied', 1, 'change:1',
                               '', '', '', 1, '', 's' FROM generate_series(1, 3)"""),
                {"at": at},
            )
    maintain_audit(company.database, company.vault, keep_months=3)


def dump(company: Company, folder: Path) -> None:
    """Write the database and what both systems hold."""
    url = company.database_url.replace("postgresql+psycopg://", "postgresql://")
    done = subprocess.run(
        [
            *(binaries() / "pg_dump", "--schema=ml_connector", "--inserts", "--no-owner"),
            *("--rows-per-insert=100", "--no-privileges", url),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = "".join(
        line
        for line in done.stdout.splitlines(keepends=True)
        if not line.startswith(("\\", "--", "SET transaction_timeout"))
    )
    folder.mkdir(parents=True, exist_ok=True)
    systems = {
        "customers": company.quickbooks_control("GET", "customers")["customers"],
        "members": list(company.members().values()),
    }
    for name, content in {"database.sql": said, "systems.json": json.dumps(systems)}.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode(), mtime=0))


def main(folder: Path) -> None:
    """Play the history and write the folder."""
    apps = {"quickbooks": create_quickbooks(), "mailchimp": create_mailchimp()}
    with temporary() as postgres, serving_in_thread(apps) as urls:
        url = postgres.create_database("release")
        upgrade(url)
        servers = MockServers(quickbooks=urls["quickbooks"], mailchimp=urls["mailchimp"])
        servers.reset()
        company = Company(mock_servers=servers, database_url=url, folder=Path(tempfile.mkdtemp()))
        company.vault = Vault(encryption_keys=[FORMER_KEY], index_key=TODAY)
        old_months(company)
        ids = first_days(company)
        forget_and_rotate(company)
        last_days(company, ids)
        by_the_way(company)
        with company.database.begin() as connection:
            found = chain.verify(connection, company.vault)
            assert not found.findings
            assert found.sound
            assert found.unsealed
            tables = connection.execute(
                text("""SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                        WHERE nspname = 'ml_connector' AND relkind IN ('r', 'p')
                          AND relname !~ '^audit_2'""")
            ).scalars()
            counts = {
                name: connection.execute(
                    text(f"SELECT count(*) FROM ml_connector.{name}")
                ).scalar_one()
                for name in tables.all()
            }
            assert erasure.unfinished(connection)
        empty = [name for name, number in counts.items() if not number]
        sys.stdout.write(f"{counts}\n")
        assert not empty, f"no rows in {empty}"
        dump(company, folder)
        company.close()


TODAY = bytes(32)
"""The key of ``tests.integration.company``: "A" * 43 + "=" in base64."""

if __name__ == "__main__":
    main(Path(sys.argv[1]))
