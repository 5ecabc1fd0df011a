"""Note in a run's plan how many records it has read so far, for people who watch it."""

from collections.abc import Sized

from ml_connector.scope import Scope
from ml_connector.store import plans


class ReadCount:
    """Count of the records of a kind (``customers``, ``members``) that a run reads."""

    def __init__(self, scope: Scope, kind: str) -> None:
        self._scope, self._kind = scope, kind
        self._plan_id = scope.plan_id()
        self._number = 0

    def reach(self, number: int, total: int | None = None) -> None:
        """Store the number read so far. ``total``: how many there are, None if unknown."""
        self._number = number
        with self._scope.database.begin() as connection:
            plans.note_read(
                connection, plan_id=self._plan_id, kind=self._kind, number=number, total=total
            )

    def add_page(self, page: Sized) -> None:
        """Store the number read so far, with one page more."""
        self.reach(self._number + len(page))
