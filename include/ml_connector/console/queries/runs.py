"""Queries about a run under way. Read-only, and cheap: pages repeat them."""

from sqlalchemy import Connection, text


def count_undecided(connection: Connection, *, sync: str) -> int:
    """Return the number of customers that wait for a decision."""
    found = connection.execute(
        text("SELECT count(*) FROM ml_connector.customers WHERE sync = :sync AND dirty"),
        {"sync": sync},
    )
    return int(found.scalar_one())


def count_due_blocks(connection: Connection, *, sync: str) -> int:
    """Return the number of customers whose activity is yet to be written in QuickBooks."""
    found = connection.execute(
        text("""SELECT count(*) FROM ml_connector.activity_blocks
                WHERE sync = :sync AND state IN ('due', 'stale')"""),
        {"sync": sync},
    )
    return int(found.scalar_one())
