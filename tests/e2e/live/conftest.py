"""One machine for all tests of this folder: it stays up, and they take their turns."""

import pytest

from tests.e2e.airflow import staying_up


@pytest.fixture(scope="package")
def airflow():
    """A machine that stays up, after its first sync."""
    with staying_up() as running:
        yield running
