"""The console's customer list: filters and counts read narrow indexes, not every payload."""

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Add an index of what the list filters by, to customers and to contacts."""
    op.execute(
        """CREATE INDEX customers_listed
           ON ml_connector.customers (sync, customer_no, customer_id)
           INCLUDE (email_key, decision, reason, active, gone, dirty, last_updated)"""
    )
    op.execute(
        """CREATE INDEX contacts_listed ON ml_connector.contacts (sync, email_key)
           INCLUDE (owner, status, engagement, status_since, last_changed, parked_until,
                    refused_reason)"""
    )
