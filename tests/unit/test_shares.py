"""``--share N``: a part of the tests each day, all of them within N days."""

from types import SimpleNamespace

from tests.conftest import _share


def test_every_test_has_its_day_and_cases_of_one_test_stay_together():
    items = [case(f"t.py::test_{n}[{c}]") for n in range(7) for c in "ab"]
    days = [{item.nodeid for item in _share(items, 3, day)} for day in range(20, 23)]
    assert set.union(*days) == {item.nodeid for item in items}
    assert sum(map(len, days)) == len(items)
    assert max(map(len, days)) - min(map(len, days)) <= 2


def test_what_is_for_every_day_is_there_every_day():
    items = [case("t.py::test_other"), case("t.py::test_model", always=True)]
    assert all(items[1] in _share(items, 2, day) for day in range(2))
    assert [len(_share(items, 2, day)) for day in range(2)].count(1) == 1


def case(nodeid, **kwargs):
    return SimpleNamespace(
        nodeid=nodeid, iter_markers=lambda _name: [SimpleNamespace(kwargs=kwargs)]
    )
