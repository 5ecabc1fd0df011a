"""`ml-connector migrate` carries over what the release before left in its database.

The dump is of a company after runs, webhooks, an erasure and a rotation of keys, with calls whose
worker was killed, pending changes and unsealed audit rows (``tests.data.make_release_dump``).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from ml_connector.audit import chain, runs
from ml_connector.errors import StorageError
from ml_connector.retention import maintain_audit
from ml_connector.rules.undo import ERASED, NOT_OBSERVED, NOTHING, undoing_of
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from ml_connector.sync.recovery import record_unknown_outcomes
from tests.integration.company import Company
from tests.integration.releases import restore
from tests.integration.test_audit_sealed import found, tamper, verify, write
from tests.integration.test_forget import erase
from tests.integration.test_rotate_keys import NEW, OLD, opened, rotated, vault
from tests.integration.traces import forms

SOUND, UNSEALED = 63, 6
"""Rows that the release left, by whether a run had sealed them."""


@pytest.fixture
def upgraded(mock_servers, postgres, tmp_path) -> Iterator[Company]:
    """The company of the dump on today's code."""
    mock_servers.reset()
    postgres.create_database("former_release")
    url = postgres.url("former_release")
    restore(url)
    upgrade(url)
    company = Company(mock_servers=mock_servers, database_url=url, folder=Path(tmp_path))
    yield company
    company.close()
    postgres.drop_database("former_release")


def test_the_audit_of_before_is_there_row_by_row(upgraded, postgres):
    """Ids, times, circumstances and payloads, as the release itself showed them."""
    postgres.create_database("as_it_was")
    url = postgres.url("as_it_was")
    restore(url)
    database = Database(url)
    with database.begin() as connection:
        before = [
            dict(row)
            for row in connection.execute(text("SELECT * FROM ml_connector.audit ORDER BY id"))
            .mappings()
            .all()
        ]
    database.close()
    postgres.drop_database("as_it_was")
    after = upgraded.audit()
    assert len(after) == len(before) == SOUND + UNSEALED
    for was, now in zip(before, after, strict=True):
        for column in was.keys() - {"before", "after", "seal_id", "at", "email_key"}:
            assert now[column] == was[column], column
        assert now["at"] == was["at"].isoformat()
        assert now["email_key"] == (was["email_key"].hex() if was["email_key"] else None)
        for side in ("before", "after"):
            stored = was[side]
            identity = f"audit/{was['seal_id']}/{side}"
            assert now[side] == (upgraded.vault.decrypt(stored, identity) if stored else None)


@pytest.mark.parametrize("sealed", [False, True])
def test_no_undo_archives_what_a_run_of_before_created(upgraded, sealed):
    """Whether a member was there before, that release's audit does not tell."""
    if sealed:
        write(upgraded, 1)
        maintain_audit(upgraded.database, upgraded.vault, keep_months=24)
    with upgraded.database.begin() as connection:
        creations = connection.execute(
            text("""SELECT sync, run_id, email_key, min(at) AS since FROM ml_connector.audit
                    WHERE action = 'create' AND outcome = 'applied' AND email_key IS NOT NULL
                    GROUP BY 1, 2, 3""")
        ).all()
        verdicts = set()
        for row in creations:
            run = runs.WrittenBy(sync=row.sync, run_id=row.run_id, since=row.since)
            key = bytes(row.email_key)
            found = runs.rows_of(connection, run, keys=[key], vault=upgraded.vault)
            verdicts.add(undoing_of(found[key]))
    assert len(creations) > 10
    assert verdicts <= {NOT_OBSERVED, ERASED, NOTHING}


def test_sealed_rows_of_before_stay_verifiable_and_the_chain_goes_on(upgraded):
    told = verify(upgraded)
    assert (told.findings, told.sound + told.unsealed) == ([], SOUND + UNSEALED)
    assert told.erased
    head = told.head
    write(upgraded, 3, first=1)
    chain.seal(upgraded.database, upgraded.vault)
    told = verify(upgraded, head=head)
    assert (told.findings, told.sound, told.unsealed) == ([], SOUND + UNSEALED + 3, 0)


@pytest.mark.parametrize("id_", [4, 30, 72])
def test_a_row_of_before_that_is_edited_or_removed_later_is_named(upgraded, id_):
    chain.seal(upgraded.database, upgraded.vault)
    tamper(upgraded, f"UPDATE ml_connector.audit SET outcome = 'other' WHERE id = {id_}")
    assert found(upgraded) == [("edited", id_)]
    tamper(upgraded, f"DELETE FROM ml_connector.audit WHERE id = {id_}")
    assert found(upgraded) == [("removed", id_)]


def test_every_payload_opens_and_takes_another_key(upgraded):
    before = opened(upgraded, upgraded.vault)
    assert rotated(upgraded, NEW, OLD).former == {}
    upgraded.vault = vault(NEW)
    assert opened(upgraded, upgraded.vault) == before
    assert verify(upgraded).findings == []


def test_a_person_of_before_is_forgotten(upgraded):
    address = "c20@firm-mail.net"
    assert address in held(upgraded)
    erase(upgraded, address)
    assert not [form for form in forms(address) if form in held(upgraded)]
    assert verify(upgraded).findings == []


def held(company: Company) -> str:
    """Everything encrypted, opened."""
    return "\n".join(
        value.decode().lower()
        for values in opened(company, company.vault).values()
        for value in values
    )


def test_months_of_before_are_dropped_by_age(upgraded):
    maintain_audit(upgraded.database, upgraded.vault, keep_months=1)
    assert found(upgraded) == []
    assert upgraded.audit()[0]["id"] > 6


def test_what_a_killed_worker_left_gets_its_rows(upgraded):
    with upgraded.database.begin() as connection:
        assert record_unknown_outcomes(upgraded.scope(), connection) > 0
    assert [row["outcome"] for row in upgraded.audit()][-1] == "unheard"


def test_an_upgrade_given_twice_changes_nothing(upgraded):
    before = upgraded.audit(), opened(upgraded, upgraded.vault)
    upgrade(upgraded.database_url)
    assert (upgraded.audit(), opened(upgraded, upgraded.vault)) == before


def test_an_upgrade_that_is_killed_midway_leaves_nothing_and_is_given_again(postgres):
    """The migration waits for a reader of the audit; its connection is cut there."""
    postgres.create_database("cut")
    url = postgres.url("cut")
    restore(url)
    cut = text("""SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE NOT granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = 'cut')""")
    version = text("SELECT version_num FROM ml_connector.alembic_version")
    with closing(Database(url)) as database, ThreadPoolExecutor(1) as pool:
        with database.begin() as reader:
            reader.execute(text("SELECT count(*) FROM ml_connector.audit"))
            killed = pool.submit(upgrade, url)
            while not reader.execute(cut).scalar_one():
                assert not killed.done()
            with pytest.raises(StorageError):
                killed.result()
            assert reader.execute(version).scalar_one() == "0020"
        upgrade(url)
        with database.begin() as connection:
            assert chain.verify(connection, vault(OLD)).findings == []
        with database.begin() as connection:
            assert connection.execute(version).scalar_one() > "0020"
    postgres.drop_database("cut")


def test_every_encrypted_column_of_the_dump_holds_something(upgraded):
    empty = [name for name, values in opened(upgraded, upgraded.vault).items() if not values]
    assert empty == []
