"""`rotate-keys`: every value under the new key, while syncs and webhooks go on, killed or not."""

import base64
import multiprocessing
import threading
import time

import pytest
from sqlalchemy import text

from ml_connector.errors import SettingsError
from ml_connector.privacy import payloads, rotate_keys
from ml_connector.privacy.rotate_keys import Remaining, count_remaining, rotate
from ml_connector.store.database import Database
from ml_connector.vault import Vault
from tests.integration.company import ADDRESS, Company
from tests.integration.test_audit_sealed import seal, tamper, verify
from tests.integration.test_forget import erase
from tests.integration.traces import EVERY_ROW

INDEX = base64.b64decode("A" * 43 + "=")
OLD, NEW, THIRD = INDEX, b"n" * 32, b"t" * 32
PEOPLE = 60
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["ml_connector.privacy.rotate_keys"])


def vault(*keys: bytes) -> Vault:
    return Vault(encryption_keys=keys, index_key=INDEX)


def address(number: int) -> str:
    return f"c{number}@firm-mail.net"


def fill(company: Company, people: int = PEOPLE) -> list[str]:
    company.settings["activity"] = {"write_to": "notes"}
    ids = [
        company.customer(f"C{number}", address(number), BillAddr=ADDRESS, Notes=f"Note {number}")
        for number in range(people)
    ]
    company.sync()
    for number in range(0, people, 4):
        company.person(address(number), "unsubscribe", reason=f"Reason {number}")
        company.told_by_mailchimp("unsubscribe", email=address(number), id=str(number))
    company.person(address(1), "profile", merge_fields={"FNAME": "Own"})
    company.sync()
    return ids


def rotated(company: Company, *keys: bytes) -> Remaining:
    """Rotate until it is done; return what is left."""
    *_, last = rotate(company.database, vault(*keys), sleep=lambda _: None)
    return last


def opened(company: Company, keyring: Vault) -> dict[str, list[bytes]]:
    """Every value by column, opened."""
    with company.database.begin() as connection:
        return {
            f"{column.table}.{column.column}": [
                payloads.decrypted(column, row, keyring)
                for row in payloads.next_page(connection, column, after=None, page=EVERY_ROW)
            ]
            for column in payloads.ENCRYPTED
        }


def test_every_value_is_the_same_under_the_new_key_and_the_audit_verifies(company):
    fill(company, 10)
    erase(company, address(9))
    seal(company)
    before, was = opened(company, company.vault), verify(company)
    assert all(before[name] for name in before if name != "erasures.payload")
    assert rotated(company, NEW, OLD).former == {}
    assert opened(company, vault(NEW)) == before
    company.vault = vault(NEW)
    assert verify(company) == was
    assert rotated(company, THIRD, NEW).former == {}  # once more, over rows rewritten before
    company.vault = vault(THIRD)
    assert verify(company) == was
    erase(company, address(8))
    assert verify(company).findings == []
    company.sync(full_sync=True)
    assert verify(company).findings == []


def test_every_encrypted_column_is_known(company):
    """A column of sealed values starts with their version and the key's id; no other may."""
    fill(company, 4)
    erase(company, address(3))
    known = {(column.table, column.column) for column in payloads.ENCRYPTED}
    with company.database.begin() as connection:
        columns = connection.execute(
            text("""SELECT table_name, column_name FROM information_schema.columns
                    WHERE table_schema = 'ml_connector' AND data_type = 'bytea'
                      AND table_name NOT LIKE 'audit\\_2%'""")
        ).all()
        for table, column in columns:
            found = connection.execute(
                text(f"""SELECT count(*) FROM ml_connector.{table}
                         WHERE substring({column} FROM 1 FOR 5) = :start"""),
                {"start": b"\x01" + company.vault.newest},
            ).scalar_one()
            assert not found or (table, column) in known, f"add {table}.{column} to sealed.SEALED"


def work(database_url: str) -> None:
    """A rotation in a process of its own, to be killed."""
    database = Database(database_url)
    for _ in rotate(database, vault(NEW, OLD), page=1):
        pass
    database.close()


@pytest.mark.endurance
@pytest.mark.timeout(120)
def test_a_sync_webhooks_and_a_rotation_that_is_killed_five_times_leave_all_values_right(company):
    ids = fill(company)
    company.vault = vault(NEW, OLD)  # what runs was restarted with the new list
    stop, failures = threading.Event(), []

    def keep_busy() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                for customer_id in ids[number % 7 :: 7]:
                    company.edit(customer_id, FamilyName=f"Busy{number}")
                company.told_by_quickbooks(*(("updated", each) for each in ids[number % 5 :: 5]))
                company.work_off()
                company.sync(full_sync=number % 3 == 0)
        except Exception as error:  # noqa: BLE001 -- told at the end, in the test's own thread
            failures.append(error)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    left = [sum(count_remaining(company.database, company.vault).former.values())]
    for kill in range(5):
        worker = _processes.Process(target=work, args=(company.database_url,), daemon=True)
        worker.start()
        time.sleep(0.2 + kill * 0.05)
        worker.kill()
        worker.join()
        left.append(sum(count_remaining(company.database, company.vault).former.values()))
    assert any(0 < each < left[0] for each in left), "no kill came in the middle"
    stop.wait(0.5)
    assert rotated(company, NEW, OLD).former == {}
    stop.set()
    busy.join()
    assert failures == []
    company.vault = vault(NEW)
    assert count_remaining(company.database, company.vault).former == {}
    company.work_off()
    company.sync(full_sync=True)
    seal(company)
    assert verify(company).findings == []
    assert opened(company, company.vault)["customers.payload"]
    shown = {
        email: fields["merge_fields"].get("LNAME") for email, fields in company.members().items()
    }
    held = {
        row["PrimaryEmailAddr"]["Address"]: row.get("FamilyName", "")
        for row in company.quickbooks_control("GET", "customers")["customers"]
    }
    assert shown == held
    for number, customer_id in enumerate(ids):
        assert company.record_of(customer_id)["Notes"].startswith(f"Note {number}")


def test_a_row_that_somebody_is_writing_is_passed_over_and_neither_waits(company):
    fill(company, 3)
    keyring = vault(NEW, OLD)
    (step,) = [step for table, step in rotate_keys.steps() if table == "contacts"]
    with company.database.begin() as busy:
        key = company.vault.email_key(address(0))
        mine = {"key": key}
        busy.execute(text("UPDATE ml_connector.contacts SET news = 7 WHERE email_key = :key"), mine)
        with company.database.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert step(connection, vault=keyring, after=None).done == 2
    assert rotated(company, NEW, OLD).former == {}
    with company.database.begin() as connection:
        news = text("SELECT news FROM ml_connector.contacts WHERE email_key = :key")
        assert connection.execute(news, mine).scalar_one() == 7


def test_a_key_that_is_not_at_hand_is_said_before_anything_is_touched(company):
    fill(company, 3)
    words = r"not in ML_CONNECTOR_ENCRYPTION_KEYS \(.*3 in customers.*add the former key"
    with pytest.raises(SettingsError, match=words):
        rotated(company, NEW)
    assert count_remaining(company.database, vault(OLD)).former == {}


def test_an_audit_row_that_was_edited_is_not_cleared_and_one_that_does_not_open_is_told(company):
    fill(company, 3)
    seal(company)
    tamper(company, "UPDATE ml_connector.audit SET reason = 'other' WHERE id = 1")
    tamper(company, "UPDATE ml_connector.customers SET payload = payload || '\\x00'::bytea")
    left = rotated(company, NEW, OLD)
    assert (left.former, left.closed) == ({"customers": 3}, 3)
    company.vault = vault(NEW, OLD)
    assert [(each.wrong, each.audit_id) for each in verify(company).findings] == [("edited", 1)]
