"""What has to change, decided on keys and hashes alone: section A of docs/reference/behaviour.md."""

import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from ml_connector.model import Policy
from ml_connector.rules.decide import CONTACT_COLUMNS, CUSTOMER_COLUMNS, decide, desired_hash

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HASH = "aa" * 16
SHOWN = desired_hash(HASH, tag_inactive=False)


def customer(number, key, **facts):
    row = dict.fromkeys(CUSTOMER_COLUMNS) | {
        "customer_id": str(number),
        "customer_no": number,
        "email_key": key,
        "fields_hash": HASH,
        "active": True,
        "is_job": False,
        "is_project": False,
        "gone": False,
    }
    return row | facts


def contact(key, status="subscribed", owner=None, **facts):
    row = dict.fromkeys(CONTACT_COLUMNS) | {
        "email_key": key,
        "status": status,
        "owner": owner,
        "tagged_inactive": False,
    }
    return row | facts


def decided(customers=(), contacts=(), *, keys=None, suppressed=(), now=NOW, **policy):
    known = {row[name] for row in customers for name in ("email_key", "contact_key")}
    return decide(
        pd.DataFrame(list(customers), columns=CUSTOMER_COLUMNS, dtype=object),
        pd.DataFrame(list(contacts), columns=CONTACT_COLUMNS, dtype=object),
        keys=(known | {row["email_key"] for row in contacts}) - {None} if keys is None else keys,
        suppressed=suppressed,
        policy=Policy(**{"new_contact_status": "subscribed", **policy}),
        now=now,
    )


def changes(*args, **kwargs):
    """Kind, key, customer, reason and status of every change, in order of the keys."""
    frame = decided(*args, **kwargs).changes.sort_values("email_key")
    columns = ["kind", "email_key", "customer_id", "reason", "status"]
    values = frame[columns].astype(object)
    return [tuple(row) for row in values.where(values.notna(), None).to_numpy()]


def verdicts(*args, **kwargs):
    frame = decided(*args, **kwargs).customers
    values = frame[["customer_id", "decision", "reason", "linked_to"]].astype(object)
    return {row[0]: tuple(row[1:]) for row in values.where(values.notna(), None).to_numpy()}


def test_nobody_gives_nothing():
    result = decided()
    found = [result.changes, result.customers, result.owners, result.left]
    assert [len(frame) for frame in found] == [0, 0, 0, 0]


def test_contact_without_any_customer_left_is_archived():
    assert changes([], [contact("k1", owner="1")]) == [("archive", "k1", "1", "no_customer", None)]


def test_a1_new_customer_is_created_with_the_setting():
    found = changes([customer(1, "k1")], new_contact_status="transactional")
    assert found == [("create", "k1", "1", "new_customer", "transactional")]


def test_a2_contact_that_shows_the_same_is_left():
    assert changes([customer(1, "k1")], [contact("k1", owner="1", pushed_hash=SHOWN)]) == []


def test_a3_changed_fields_are_an_update_without_status():
    found = changes([customer(1, "k1")], [contact("k1", owner="1", pushed_hash="bb00")])
    assert found == [("update", "k1", "1", "fields_changed", None)]


SKIPPED = [
    ("no_email", {"email_problem": "no_email", "email_key": None}),
    ("invalid_email", {"email_problem": "invalid_email", "email_key": None}),
    ("inactive", {"active": False}),
    ("project", {"is_project": True}),
    ("gone", {"gone": True}),
]


@pytest.mark.parametrize(("reason", "facts"), SKIPPED)
def test_customer_who_cannot_be_a_contact_is_skipped_with_the_reason(reason, facts):
    people = [customer(1, "k1") | facts]
    assert changes(people) == []
    assert verdicts(people) == {"1": ("skipped", reason, None)}


@pytest.mark.parametrize(
    ("owner", "people"),
    [
        ("2", [customer(10, "k1"), customer(2, "k1")]),
        ("3", [customer(1, "k1", is_job=True), customer(3, "k1")]),
        ("1", [customer(2, "k1", is_job=True), customer(1, "k1", is_job=True)]),
        ("2", [customer(1, "k1", active=False), customer(2, "k1")]),
        ("2", [customer(1, "k1", gone=True), customer(2, "k1")]),
        ("2", [customer(1, "k1", is_project=True), customer(2, "k1")]),
    ],
)
def test_a9_owner_is_the_lowest_active_customer_that_is_no_job(owner, people):
    assert [row[2] for row in changes(people)] == [owner]


def test_a9_the_others_are_linked():
    found = verdicts([customer(1, "k1"), customer(2, "k1")])
    assert found["2"] == ("linked", "shared_address", "1")


def test_a9_new_owner_of_a_contact_that_looks_the_same_needs_no_call():
    result = decided([customer(1, "k1")], [contact("k1", owner="2", pushed_hash=SHOWN)])
    assert result.changes.empty
    assert result.owners.to_dict("records") == [{"email_key": "k1", "owner": "1"}]


def test_a10_jobs_may_be_excluded():
    assert changes([customer(1, "k1", is_job=True)], include_jobs=False) == []


CARRIED = [
    ("subscribed", "subscribed"),
    ("unsubscribed", "unsubscribed"),
    ("pending", "pending"),
    ("transactional", "transactional"),
    ("subscribed", "cleaned"),
]


@pytest.mark.parametrize(("becomes", "was"), CARRIED)
def test_a11_status_follows_the_person(becomes, was):
    found = changes([customer(1, "k2", contact_key="k1")], [contact("k1", was, owner="1")])
    assert ("create", "k2", "1", "address_changed", becomes) in found


@pytest.mark.parametrize("was", ["unsubscribed", "transactional"])
def test_a13b_status_of_before_our_archive_follows_too(was):
    old = contact("k1", "archived", owner="1", previous_status=was, archived_by="us")
    found = changes([customer(1, "k2", contact_key="k1")], [old])
    assert found == [("create", "k2", "1", "address_changed", was)]


FORBIDDING = [
    contact("k1", "archived", archived_by="marketer"),
    contact("k1", "forgotten"),
]


@pytest.mark.parametrize("old", FORBIDDING)
def test_a13b_a_marketers_no_follows_as_no_contact_at_all(old):
    people = [customer(1, "k2", contact_key="k1")]
    assert changes(people, [old]) == []
    assert verdicts(people, [old]) == {"1": ("skipped", "opted_out_elsewhere", None)}


def test_a43_who_left_for_an_unknown_address_is_created_nowhere_else():
    old = contact("k1", "moved")
    assert changes([customer(1, "k2", contact_key="k1")], [old]) == []


@pytest.mark.parametrize("facts", [{}, {"active": False}])
def test_a42_an_opt_out_brought_to_a_contact_of_its_own_lowers_it(facts):
    people = [customer(1, "k2", contact_key="k1", **facts)]
    known = [contact("k1", "unsubscribed", owner="1"), contact("k2", owner="1")]
    found = changes(people, known, keys={"k2"}, on_inactive="keep")
    assert found == [("update", "k2", "1", "opted_out_elsewhere", "unsubscribed")]


def test_a13_an_opt_out_brought_to_a_member_who_signed_up_there_lowers_nothing():
    people = [customer(1, "k2", contact_key="k1")]
    known = [contact("k1", "unsubscribed", owner="1"), contact("k2")]
    assert ("update", "k2", "1", "adopted", None) in changes(people, known)


def test_a42_an_opt_out_brought_to_a_shared_contact_lowers_nothing():
    people = [customer(1, "k2", contact_key="k1"), customer(2, "k2", contact_key="k2")]
    known = [contact("k1", "unsubscribed"), contact("k2", owner="1", pushed_hash=SHOWN)]
    assert changes(people, known) == []


@pytest.mark.parametrize("facts", [
    {"refused_hash": SHOWN, "refused_reason": "fields"},
    {"parked_until": NOW + timedelta(days=1)},
])  # fmt: skip
def test_a42_refused_or_parked_data_holds_no_lowering_up(facts):
    known = [contact("k1", owner="1", **facts)]
    found = changes([customer(1, "k1", contact_key="k1", opted_out=True)], known)
    assert found == [("update", "k1", "1", "opted_out_elsewhere", "unsubscribed")]


def test_a13b_lowest_status_of_all_who_come_counts():
    people = [customer(1, "k3", contact_key="k1"), customer(2, "k3", contact_key="k2")]
    known = [contact("k1", "transactional", owner="1"), contact("k2", "unsubscribed", owner="2")]
    assert ("create", "k3", "1", "address_changed", "unsubscribed") in changes(people, known)


@pytest.mark.parametrize("status", ["pending", "cleaned"])
def test_a16b_contact_that_cannot_be_archived_is_left(status):
    result = decided([customer(1, "k1", active=False)], [contact("k1", status, owner="1")])
    assert result.changes.empty
    left = {"email_key": "k1", "status": status, "owner": "1", "why": f"cannot_archive_{status}"}
    assert result.left.to_dict("records") == [left]


@pytest.mark.parametrize(
    ("kinds", "policy"), [(["archive"], "archive"), ([], "keep"), (["update"], "tag")]
)
def test_a16_inactive_by_policy(kinds, policy):
    known = [contact("k1", owner="1", pushed_hash=SHOWN)]
    found = changes([customer(1, "k1", active=False)], known, on_inactive=policy)
    assert [row[0] for row in found] == kinds


@pytest.mark.parametrize(
    ("status", "previous"),
    [
        ("subscribed", "subscribed"),
        ("unsubscribed", "unsubscribed"),
        ("transactional", "transactional"),
        ("unsubscribed", None),
    ],
)
def test_a18_restored_with_the_status_of_before_and_unsubscribed_where_unknown(status, previous):
    known = [contact("k1", "archived", "1", previous_status=previous, archived_by="us")]
    assert changes([customer(1, "k1")], known) == [("restore", "k1", "1", "reactivated", status)]


def test_a18_never_higher_than_what_the_person_brings_along():
    known = [
        contact("k1", "archived", "1", previous_status="subscribed", archived_by="us"),
        contact("k2", "unsubscribed", "1"),
    ]
    found = changes([customer(1, "k1", contact_key="k2")], known)
    assert ("restore", "k1", "1", "address_returned", "unsubscribed") in found


LEFT_ALONE = [
    ("archived_by_marketer", contact("k1", "archived", archived_by="marketer"), ()),
    ("forgotten", contact("k1", "forgotten"), ()),
    ("suppressed", contact("k1", "archived", archived_by="us"), ("k1",)),
    ("fake_email", contact("k1", "absent", refused_hash=SHOWN, refused_reason="fake_email"), ()),
    ("parked", contact("k1", "absent", parked_until=NOW + timedelta(minutes=1)), ()),
]


@pytest.mark.parametrize(("reason", "known", "suppressed"), LEFT_ALONE)
def test_contact_that_may_not_be_written_is_left_with_the_reason(reason, known, suppressed):
    people = [customer(1, "k1")]
    assert changes(people, [known], suppressed=suppressed) == []
    assert verdicts(people, [known], suppressed=suppressed) == {"1": ("skipped", reason, None)}


def test_a24_parked_contact_is_tried_when_its_time_has_come():
    found = changes([customer(1, "k1")], [contact("k1", "absent", parked_until=NOW)])
    assert found == [("create", "k1", "1", "new_customer", "subscribed")]


def test_old_contact_stays_while_the_new_address_is_refused():
    known = [
        contact("k1", owner="1"),
        contact("k2", "absent", refused_hash=SHOWN, refused_reason="fake_email"),
    ]
    assert changes([customer(1, "k2", contact_key="k1")], known) == []


def test_only_contacts_asked_about_are_decided():
    known = [contact("k1", owner="1"), contact("k9", owner="9")]
    assert changes([customer(1, "k1", active=False)], known, keys={"k1"}) == [
        ("archive", "k1", "1", "inactive", None)
    ]


def test_keys_and_hashes_that_end_in_zero_bytes_are_found():
    """As bytes in a NumPy array they would lose the zeroes."""
    key, fields = "ab" * 30 + "0000", "cd" * 30 + "0000"
    known = [contact(key, owner="1", pushed_hash=desired_hash(fields, tag_inactive=False))]
    assert changes([customer(1, key, fields_hash=fields)], known) == []


def test_deciding_takes_a_fixed_number_of_steps_however_many_customers_there_are():
    """Work is done a column at a time; twice as many customers take no more calls of pandas."""
    assert calls_of_pandas(4_000) < 1.1 * calls_of_pandas(1_000)


@pytest.mark.endurance
def test_a_hundred_thousand_customers_are_decided():
    assert len(decided([customer(n, f"k{n:06}") for n in range(100_000)]).changes) == 100_000


def calls_of_pandas(rows):
    people = [customer(n, f"k{n:06}") for n in range(rows)]
    seen = 0

    def count(frame, event, _):
        nonlocal seen
        seen += event == "call" and "/pandas/" in frame.f_code.co_filename

    sys.setprofile(count)
    try:
        decided(people)
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("status", ["absent", None])
def test_a49_with_create_never_no_contact_is_created(status):
    known = [contact("k1", status)] if status else []
    assert changes([customer(1, "k1")], known, create="never") == []
    assert verdicts([customer(1, "k1")], known, create="never") == {
        "1": ("skipped", "creation_off", None)
    }


def test_a49_with_create_never_members_are_updated_and_what_we_archived_is_restored():
    people = [customer(1, "k1"), customer(2, "k2"), customer(3, "k3"), customer(4, "k4")]
    known = [
        contact("k1"),
        contact("k2", "archived", "2", archived_by="us", previous_status="transactional"),
        contact("k3", "archived", "3", archived_by="marketer"),
        contact("k4", "forgotten", "4"),
    ]
    assert changes(people, known, create="never") == [
        ("update", "k1", "1", "adopted", None),
        ("restore", "k2", "2", "reactivated", "transactional"),
    ]


def test_a49_with_create_never_a_customer_that_moves_keeps_the_former_contact():
    mover = customer(1, "new", contact_key="old")
    assert changes([mover], [contact("old", owner="1")], create="never") == []
    there = [contact("old", owner="1"), contact("new")]
    assert [row[:2] for row in changes([mover], there, create="never")] == [
        ("update", "new"),
        ("archive", "old"),
    ]


@pytest.mark.parametrize("create", ["all", "never"])
def test_a49_an_opt_out_on_the_way_bars_creation_whatever_the_setting(create):
    mover = customer(1, "new", contact_key="old")
    known = [contact("old", "archived", "1", archived_by="marketer")]
    assert changes([mover], known, create=create) == []
    assert verdicts([mover], known, create=create)["1"][1] == "opted_out_elsewhere"
