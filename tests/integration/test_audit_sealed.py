"""Digests, batches and seals: whatever is done to a row or to these is found, and said of which."""

import threading

import pytest
from sqlalchemy import create_engine, text

from ml_connector.audit import chain, trail
from ml_connector.audit.trail import Entry
from ml_connector.model import RunContext
from tests.integration.company import Company


def write(company: Company, number: int = 1, first: int = 1) -> None:
    with company.database.begin() as connection:
        trail.append(
            connection,
            [
                Entry(
                    sync="main",
                    action="create",
                    reason="new_customer",
                    outcome="applied",
                    cause=f"change:{each}",
                    customer_id=str(each),
                    after={"email": f"c{each}@firm-mail.net"},
                )
                for each in range(first, first + number)
            ],
            run=RunContext(run_id="run-1"),
            vault=company.vault,
        )


def write_and_roll_back(company: Company) -> None:
    with company.database.begin() as connection:
        entry = Entry(sync="main", action="a", reason="r", outcome="applied", cause="c")
        trail.append(connection, [entry], run=RunContext(), vault=company.vault)
        raise ZeroDivisionError


def seal(company: Company, page: int = chain.PAGE) -> chain.SealResult:
    return chain.seal(company.database, company.vault, page=page)


def verify(company: Company, head: str | None = None) -> chain.Verified:
    with company.database.begin() as connection:
        return chain.verify(connection, company.vault, head=head, page=7)


def found(company: Company) -> list[tuple[str, int]]:
    return [(each.wrong, each.audit_id) for each in verify(company).findings]


def tamper(company: Company, *statements: str) -> None:
    """As somebody who owns the server: triggers do not fire."""
    engine = create_engine(company.database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def sealed(company) -> Company:
    """Twenty rows with ids 1 to 20, each a batch of its own, sealed."""
    for number in range(20):
        write(company, 1, first=number + 1)
    assert seal(company).rows == 20
    return company


@pytest.fixture(params=["in batches of one", "in one batch", "in one batch, not sealed"])
def written(request, company) -> Company:
    """Twenty rows with ids 1 to 20."""
    if request.param == "in batches of one":
        return request.getfixturevalue("sealed")
    write(company, 20)
    if request.param == "in one batch":
        assert seal(company).rows == 20
    return company


def test_a_trail_that_nobody_touched_is_sound(sealed):
    told = verify(sealed)
    assert (told.sound, told.unsealed, told.findings) == (20, 0, [])


def test_an_empty_trail_is_sound_too(company):
    assert seal(company).rows == 0
    assert verify(company).findings == []


def test_sealing_twice_seals_nothing_anew_and_goes_on_where_it_left_off(sealed):
    before = seal(sealed)
    assert before.rows == 0
    write(sealed, 3, first=21)
    assert seal(sealed, page=2).rows == 3
    assert seal(sealed).position == 23
    assert verify(sealed, head=before.head).findings == []


def test_rows_that_are_not_sealed_yet_are_counted_and_no_fault(sealed):
    write(sealed, 4, first=21)
    told = verify(sealed)
    assert (told.sound, told.unsealed, told.findings) == (20, 4, [])


@pytest.mark.parametrize(
    "change",
    [
        "outcome = 'failed'",
        "at = at + interval '1 microsecond'",
        "customer_id = NULL",
        "error = ''",
        "origin = 'webhook:1'",
        "after = set_byte(after, 20, (get_byte(after, 20) + 1) % 256)",
        "after = NULL",
        "seal_id = 'x'",
        "actor = 'somebody else'",
        "attempts = 2",
    ],
)
def test_an_edited_row_is_named_whatever_was_edited(written, change):
    tamper(written, f"UPDATE ml_connector.audit SET {change} WHERE id = 7")
    assert found(written) == [("edited", 7)]


def test_removed_rows_are_named(written):
    tamper(written, "DELETE FROM ml_connector.audit WHERE id IN (1, 7, 8, 20)")
    assert found(written) == [("removed", 1), ("removed", 7), ("removed", 8), ("removed", 20)]


def test_a_row_put_where_an_id_had_been_rolled_back_is_named(company):
    write(company, 3)
    with pytest.raises(ZeroDivisionError):
        write_and_roll_back(company)
    write(company, 3, first=4)
    seal(company)
    assert found(company) == []
    tamper(
        company,
        """INSERT INTO ml_connector.audit (id, sync, system, action, reason, outcome, attempts, cause,
                                            dag_id, run_id, task_id, try_number, actor, seal_id)
           VALUES (4, 'main', 'mailchimp', 'create', 'r', 'applied', 1, 'c', '', '', '', 1, '', 's')""",
    )
    assert found(company) == [("inserted", 4)]
    assert seal(company).rows == 0
    assert found(company) == [("inserted", 4)]


def test_two_rows_that_traded_places_are_both_named_and_with_whom(written):
    tamper(
        written,
        "UPDATE ml_connector.audit SET id = -1 WHERE id = 5",
        "UPDATE ml_connector.audit SET id = 5 WHERE id = 9",
        "UPDATE ml_connector.audit SET id = 9 WHERE id = -1",
    )
    told = verify(written).findings
    assert [(each.wrong, each.audit_id, each.detail) for each in told] == [
        ("swapped", 5, "it holds 9"),
        ("swapped", 9, "it holds 5"),
    ]


def test_rows_that_traded_places_and_say_they_were_rewritten_are_named(sealed):
    """The digests of both are in the database. The key that permits a rewrite is not."""
    tamper(
        sealed,
        "UPDATE ml_connector.audit SET id = -1 WHERE id = 5",
        "UPDATE ml_connector.audit SET id = 5 WHERE id = 9",
        "UPDATE ml_connector.audit SET id = 9 WHERE id = -1",
        """UPDATE ml_connector.audit a SET at = b.at FROM ml_connector.audit_batches b
           WHERE b.last_id = a.id AND a.id IN (5, 9)""",
        """INSERT INTO ml_connector.audit_rewrites (audit_id, at, kind, digest, mac)
           SELECT 14 - last_id, at, 'rotated', digests, mac FROM ml_connector.audit_batches
           WHERE last_id IN (5, 9)""",
    )
    assert found(sealed) == [("swapped", 5), ("swapped", 9)]


def test_payloads_that_traded_places_are_found(written):
    tamper(
        written,
        """UPDATE ml_connector.audit a SET after = b.after FROM ml_connector.audit b
           WHERE (a.id, b.id) IN ((3, 4), (4, 3))""",
    )
    assert found(written) == [("edited", 3), ("edited", 4)]


INSERTED = """INSERT INTO ml_connector.audit (id, sync, system, action, reason, outcome, attempts,
    cause, dag_id, run_id, task_id, try_number, actor, seal_id)
    VALUES (21, 'main', 'mailchimp', 'create', 'r', 'applied', 1, 'c', '', '', '', 1, '', 's')"""


def test_a_row_inserted_behind_all_others_is_named_before_and_after_the_next_sealing(written):
    tamper(written, INSERTED)
    assert found(written) == [("inserted", 21)]
    seal(written)
    assert found(written) == [("inserted", 21)]


@pytest.mark.parametrize(
    "change", ["digests = overlay(digests placing '\\x00'::bytea from 3)", "rows = rows - 1",
               "mac = digests", "at = at + interval '1 second'"],
)  # fmt: skip
def test_an_altered_batch_is_named(written, change):
    tamper(written, f"UPDATE ml_connector.audit_batches SET {change} WHERE last_id = 20")
    assert ("seal altered", 20) in found(written)


def test_a_batch_without_its_digests_is_named(sealed):
    write(sealed, 5, first=21)
    seal(sealed)
    tamper(sealed, "DELETE FROM ml_connector.audit_batches WHERE last_id = 25")
    assert found(sealed) == [("seal missing", 25)]
    tamper(sealed, "DELETE FROM ml_connector.audit WHERE id = 22")
    assert found(sealed) == [("removed", 22), ("seal missing", 25)]
    tamper(sealed, "DELETE FROM ml_connector.audit WHERE id > 20")
    assert found(sealed) == [("removed", id_) for id_ in range(21, 26)]


def test_a_batch_kept_out_of_the_chain_and_put_back_later_is_named(company):
    write(company, 3)
    tamper(
        company,
        "CREATE TABLE kept AS SELECT * FROM ml_connector.audit",
        "CREATE TABLE kept_batch AS SELECT * FROM ml_connector.audit_batches",
        "DELETE FROM ml_connector.audit",
        "DELETE FROM ml_connector.audit_batches",
    )
    write(company, 2, first=4)
    seal(company)
    tamper(
        company,
        "INSERT INTO ml_connector.audit SELECT * FROM kept",
        "INSERT INTO ml_connector.audit_batches SELECT * FROM kept_batch",
        "DROP TABLE kept, kept_batch",
    )
    assert found(company) == [("inserted", 1), ("inserted", 2), ("inserted", 3)]


def test_an_altered_a_missing_and_a_moved_seal_are_found(sealed):
    tamper(sealed, "UPDATE ml_connector.audit_seals SET mac = digest WHERE position = 6")
    assert ("seal altered", 6) in found(sealed)
    tamper(sealed, "DELETE FROM ml_connector.audit_seals WHERE position = 12")
    assert {("inserted", 12), ("seal missing", 13)} <= set(found(sealed))


def test_a_row_removed_together_with_its_seal_is_found_even_if_the_others_move_up(sealed):
    tamper(
        sealed,
        "DELETE FROM ml_connector.audit WHERE id = 12",
        "DELETE FROM ml_connector.audit_seals WHERE position = 12",
    )
    assert found(sealed) == [("seal missing", 13)]
    tamper(
        sealed,
        "UPDATE ml_connector.audit_seals SET position = -position WHERE position > 12",
        "UPDATE ml_connector.audit_seals SET position = -position - 1 WHERE position < 0",
    )
    assert ("seal altered", 13) in found(sealed)


def test_a_trail_cut_off_at_its_end_with_its_seals_is_told_by_a_head_kept_elsewhere(sealed):
    head = seal(sealed).head
    tamper(
        sealed,
        "DELETE FROM ml_connector.audit WHERE id > 15",
        "DELETE FROM ml_connector.audit_seals WHERE position > 15",
        "DELETE FROM ml_connector.audit_batches WHERE last_id > 15",
    )
    assert found(sealed) == []
    (told,) = verify(sealed, head=head).findings
    assert (told.wrong, told.audit_id) == ("seal missing", 15)


def test_the_key_is_not_in_the_database(sealed):
    """Another index key, another chain: nobody who has only the database can make a seal."""
    from ml_connector.vault import Vault

    other = Vault(encryption_keys=[bytes(32)], index_key=bytes(range(32)))
    with sealed.database.begin() as connection:
        told = chain.verify(connection, other)
    assert told.sound == 0
    assert len(told.findings) >= 20


def test_rows_committed_out_of_the_order_of_their_ids_are_sealed_in_it(company):
    """A transaction that has the lower id ends after one with a higher: the sealer waits for it."""
    entered, leave = threading.Event(), threading.Event()

    def slow() -> None:
        with company.database.begin() as connection:
            entry = Entry(sync="main", action="slow", reason="r", outcome="applied", cause="c")
            trail.append(connection, [entry], run=RunContext(), vault=company.vault)
            entered.set()
            assert leave.wait(30)

    first = threading.Thread(target=slow)
    first.start()
    assert entered.wait(30)
    write(company, 2)
    sealer = threading.Thread(target=seal, args=[company])
    sealer.start()
    sealer.join(0.5)
    assert sealer.is_alive(), "sealed while a lower id was still open"
    leave.set()
    first.join()
    sealer.join(30)
    told = verify(company)
    assert (told.sound, told.unsealed, told.findings) == (3, 0, [])


def test_many_writers_and_many_sealers_at_once_leave_one_sound_chain(company):
    def busy(writer: int) -> None:
        for each in range(15):
            write(company, 5, first=1000 * writer + each * 5)

    def sealing() -> None:
        for _ in range(10):
            seal(company, page=20)

    threads = [threading.Thread(target=busy, args=[n]) for n in range(4)]
    threads += [threading.Thread(target=sealing) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seal(company)
    told = verify(company)
    assert (told.sound, told.unsealed, told.findings) == (300, 0, [])
