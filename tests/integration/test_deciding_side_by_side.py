"""Chunks of customers that are decided on at the same time: as if it were in turn."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from ml_connector.errors import StorageError
from ml_connector.store import deciding
from ml_connector.store.database import lock_sync
from ml_connector.sync import planner

COUNT = 24


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(planner, "CUSTOMERS_A_CHUNK", 3)


def queued(company, plan_id):
    """What a plan holds; whose each change is, and why."""
    with company.database.begin() as connection:
        rows = connection.execute(
            text("""SELECT email_key, customer_id, kind, reason FROM ml_connector.changes
                    WHERE plan_id = :plan_id ORDER BY email_key"""),
            {"plan_id": plan_id},
        ).all()
    return [tuple(row) for row in rows]


def waiting(company):
    with company.database.begin() as connection:
        return connection.execute(
            text("SELECT count(*) FROM ml_connector.customers WHERE dirty")
        ).scalar_one()


def in_turn(company, monkeypatch):
    """What a plan would hold with one chunk after the other; a preview leaves it to be decided."""
    with monkeypatch.context() as only:
        only.setattr(planner, "PARALLEL_CHUNKS", 1)
        planned = company.plan(company.scope(), preview=True)
    return queued(company, planned.plan_id)


def test_a_first_load_with_shared_addresses_is_decided_on_as_in_turn(company, monkeypatch):
    for number in range(COUNT):
        company.customer(f"Customer {number}", f"c{number % 9}@finch.org")
    company.fetch(company.scope())
    expected = in_turn(company, monkeypatch)
    planned = company.plan(company.scope())
    assert queued(company, planned.plan_id) == expected
    assert len(expected) == 9
    assert waiting(company) == 0


def test_customers_who_swap_and_share_addresses_are_decided_on_as_in_turn(company, monkeypatch):
    ids = [company.customer(f"Customer {n}", f"c{n}@finch.org") for n in range(COUNT)]
    company.sync()
    for number, each in enumerate(ids):
        if number % 2:
            company.move(each, f"c{(number + 7) % COUNT}@finch.org")  # somebody is there already
        elif number % 3 == 0:
            company.edit(each, Active=False)
    scope = company.scope()
    company.fetch(scope)
    expected = in_turn(company, monkeypatch)
    planned = company.plan(scope)
    assert queued(company, planned.plan_id) == expected
    assert {kind for _, _, kind, _ in expected} == {"archive", "update"}
    assert waiting(company) == 0


@pytest.mark.parametrize("chunk", [3, COUNT])
def test_few_changed_customers_at_addresses_of_many_are_read_a_part_at_a_time(
    company, monkeypatch, chunk
):
    ids = [company.customer(f"Customer {n}", f"c{n % 6}@finch.org") for n in range(COUNT)]
    company.sync()
    for each in ids[:6]:
        company.edit(each, GivenName="Changed")
    scope = company.scope()
    company.fetch(scope)
    expected = in_turn(company, monkeypatch)
    monkeypatch.setattr(planner, "CUSTOMERS_A_CHUNK", chunk)
    monkeypatch.setattr(planner, "PEOPLE_A_CHUNK", 5)  # four are at each address
    most, read = [0], deciding.rows

    def counted(*args, **kwargs):
        found = read(*args, **kwargs)
        most[0] = max(most[0], len(found))
        return found

    monkeypatch.setattr(deciding, "rows", counted)
    planned = company.plan(scope)
    assert queued(company, planned.plan_id) == expected
    assert len(expected) == 6
    assert most[0] == 4
    assert waiting(company) == 0


def test_every_customer_at_one_address_is_one_contact(company):
    ids = [company.customer(f"Customer {n}", "office@finch.org") for n in range(COUNT)]
    company.sync()
    assert company.statuses() == {"office@finch.org": "subscribed"}
    told = [company.told(each) for each in ids]
    assert told[0] == [("create", "new_customer", "applied")]
    assert all(rows == [("link", "shared_address", "linked")] for rows in told[1:])


def test_a_chunk_that_fails_leaves_the_other_one_whole_and_the_next_run_does_the_rest(company):
    for number in range(6):
        company.customer(f"Customer {number}", f"c{number}@finch.org")
    scope = company.scope()
    company.fetch(scope)
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.email_key = (SELECT max(email_key) FROM ml_connector.customers) THEN
                RAISE EXCEPTION 'disk full' USING ERRCODE = '53100';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON ml_connector.changes
            FOR EACH ROW EXECUTE FUNCTION refuse()"""
    with company.database.begin() as connection:
        connection.execute(text(refuse))
    try:
        with pytest.raises(StorageError, match="disk is full"):
            company.plan(scope)
        assert waiting(company) == 2
    finally:
        with company.database.begin() as connection:
            connection.execute(text("DROP TRIGGER refuse ON ml_connector.changes"))
            connection.execute(text("DROP FUNCTION refuse()"))
    company.sync()
    assert len(company.statuses()) == 6
    assert waiting(company) == 0


def test_a_run_waits_for_a_chunk_that_a_killed_one_left_behind(company):
    company.customer("Amy", "amy@finch.org")
    scope = company.scope()
    company.fetch(scope)
    with ThreadPoolExecutor(1) as pool:
        with company.database.begin() as left_behind:
            lock_sync(left_behind, sync="main", at="chunks", shared=True)
            planning = pool.submit(company.plan, scope)
            while not planning.done() and not waits_for_a_turn(company):
                time.sleep(0.05)
            assert not planning.done()
            assert waiting(company) == 1
        assert planning.result().changes == 1


def waits_for_a_turn(company):
    with company.database.begin() as connection:
        return connection.execute(
            text("""SELECT count(*) FROM pg_locks
                    WHERE locktype = 'advisory' AND NOT granted AND database =
                        (SELECT oid FROM pg_database WHERE datname = current_database())""")
        ).scalar_one()


def test_a_customer_who_moves_after_its_chunk_was_read_is_not_forgotten(company, monkeypatch):
    addresses = {
        company.customer(f"Customer {n}", f"c{n}@finch.org"): f"c{n}@finch.org" for n in range(6)
    }
    company.sync()
    for each in addresses:
        company.edit(each, GivenName="Changed")
    # Where chunks that are still to be read do not come by.
    elsewhere = min((f"e{n}@finch.org" for n in range(50)), key=company.vault.email_key)
    read = deciding.next_dirty
    moved = []

    def read_and_move(*args, **kwargs):
        chunk = read(*args, **kwargs)
        if not moved:
            moved.append(chunk[0].customer_id)
            company.move(moved[0], elsewhere)
            company.fetch(company.scope(), ids=moved)  # as its webhook does
        return chunk

    with monkeypatch.context() as only:
        only.setattr(deciding, "next_dirty", read_and_move)
        company.sync()
    company.sync()
    assert waiting(company) == 0
    expected = dict.fromkeys(addresses.values(), "subscribed")
    expected |= {addresses[moved[0]]: "archived", elsewhere: "subscribed"}
    assert company.statuses() == expected


def test_a_preview_made_again_shows_what_would_be_done_now(company):
    ids = [company.customer(f"Customer {n}", f"c{n}@finch.org") for n in range(6)]
    scope = company.scope("preview")
    company.fetch(scope)
    assert company.plan(scope, preview=True).changes == 6
    company.move(ids[0], "c1@finch.org")
    company.edit(ids[2], Active=False)
    company.fetch(scope)
    assert company.plan(scope, preview=True).changes == 4


@pytest.mark.parametrize(
    ("a_shard", "sizes"), [(COUNT, {0: 12, 1: 12}), (6, {0: 6, 1: 6, 2: 6, 3: 6})]
)
def test_shards_that_are_pushed_at_once_are_filled_in_turn(company, monkeypatch, a_shard, sizes):
    monkeypatch.setattr(planner, "CHANGES_A_SHARD", a_shard)
    monkeypatch.setattr(planner, "CHUNKS_PER_LOCK", 2)
    for number in range(COUNT):
        company.customer(f"Customer {number}", f"c{number}@finch.org")
    company.fetch(company.scope())
    planned = company.plan(company.scope())
    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT shard, count(*) FROM ml_connector.changes GROUP BY shard")
        ).all()
    assert dict(map(tuple, rows)) == sizes
    assert planned.shards == tuple(sizes)
