"""Whose a tag is, and what becomes of it."""

from ml_connector.rules.tags import shown_tag_keys, tag_key, tag_work
from ml_connector.vault import Vault

VAULT = Vault(encryption_keys=[bytes(32)], index_key=bytes(32))


def work(wanted, past=(), seen=()):
    keys = None if seen is None else shown_tag_keys(tuple(seen), VAULT)
    return tag_work(tuple(wanted), past=tuple(past), seen=keys, vault=VAULT)


def test_a_new_tag_is_ours():
    assert work(["A"]).ours == ("A",)


def test_a_tag_that_was_there_is_not_ours_in_any_spelling():
    found = work(["A", "B"], seen=["a"])
    assert (found.ours, found.missing) == (("B",), ("B",))


def test_a_tag_of_ours_stays_ours_though_it_is_seen():
    assert work(["A"], past=["A"], seen=["A"]).ours == ("A",)


def test_only_tags_of_ours_come_off():
    assert work(["B"], past=["A"], seen=["A", "C"]).drop == ("A",)


def test_what_came_off_is_not_taken_for_a_marketers_when_it_returns():
    off = work(["B"], past=["A"], seen=["A"])
    assert off.seen == {tag_key("B", VAULT)}
    again = tag_work(("A",), past=off.ours, seen=tuple(off.seen), vault=VAULT)
    assert (again.ours, again.drop) == (("A",), ("B",))


def test_of_a_member_that_was_never_looked_at_nothing_new_is_ours():
    found = work(["A"], seen=None)
    assert (found.ours, found.missing, found.seen) == ((), ("A",), None)


def test_of_a_member_with_more_tags_than_are_shown_nothing_new_is_ours():
    assert work(["A"], seen=[f"tag {n}" for n in range(50)]).ours == ()
