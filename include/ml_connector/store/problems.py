"""Values of customers that a merge field cannot take: which field and why, never the value."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.display import counted, grouped
from ml_connector.store.database import text_array


class UnfitCount(NamedTuple):
    """How many customers have a value that a merge field cannot take, for one reason."""

    field: str
    reason: str
    customers: int

    def sentence(self, known: int) -> str:
        """Return the count in words; ``known`` is the number of customers."""
        some = f"{grouped(self.customers)} of {counted(known, 'customer')}"
        return f"{self.field}: not sent for {some} ({self.reason})"


def note(connection: Connection, *, sync: str, unfit: Mapping[str, Mapping[str, str]]) -> None:
    """Replace what is noted about customers: merge field to reason, by customer id."""
    if not any(unfit.values()) and not any_noted(connection, sync=sync):
        return
    connection.execute(
        text("""DELETE FROM ml_connector.unfit_values
                WHERE sync = :sync AND customer_id = ANY(CAST(:ids AS text[]))"""),
        {"sync": sync, "ids": text_array(unfit)},
    )
    rows = [(each, tag, why) for each, fields in unfit.items() for tag, why in fields.items()]
    if rows:
        ids, tags, reasons = (list(column) for column in zip(*rows, strict=True))
        connection.execute(
            text("""INSERT INTO ml_connector.unfit_values (sync, customer_id, merge_field, reason)
                    SELECT :sync, * FROM unnest(CAST(:ids AS text[]), CAST(:tags AS text[]),
                                                CAST(:reasons AS text[]))"""),
            {"sync": sync, "ids": ids, "tags": tags, "reasons": reasons},
        )


def any_noted(connection: Connection, *, sync: str) -> bool:
    """Return whether any customer has a value that does not fit."""
    found = text("SELECT EXISTS (SELECT 1 FROM ml_connector.unfit_values WHERE sync = :sync)")
    return bool(connection.execute(found, {"sync": sync}).scalar_one())


def unfit_counts(connection: Connection, *, sync: str) -> list[UnfitCount]:
    """Return the counts, most customers first. Customers without an address do not count."""
    rows = connection.execute(
        text("""SELECT u.merge_field, u.reason, count(*)
                FROM ml_connector.unfit_values u
                JOIN ml_connector.customers c USING (sync, customer_id)
                WHERE u.sync = :sync AND c.active AND NOT c.gone AND c.email_key IS NOT NULL
                GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"""),
        {"sync": sync},
    )
    return [UnfitCount(*row) for row in rows]
