"""One machine for all tests of this folder: it stays up, and they take their turns."""

from pathlib import Path

import pytest

from tests.e2e.airflow import staying_up

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put modules of this folder that say so at its end; all other items keep their places."""
    places = [place for place, item in enumerate(items) if HERE in item.path.parents]
    ours = [items[place] for place in places]
    ours.sort(key=lambda item: getattr(getattr(item, "module", None), "LAST", False))
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@pytest.fixture(scope="package")
def airflow():
    """A machine that stays up, after its first sync."""
    with staying_up() as running:
        yield running
