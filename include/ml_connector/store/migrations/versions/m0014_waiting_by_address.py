"""Customers that wait for a decision, in the order of their addresses."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Have people at one address next to each other, so that they are read once and not for each."""
    op.execute("DROP INDEX ml_connector.customers_dirty")
    op.execute(
        """CREATE INDEX customers_dirty
           ON ml_connector.customers (sync, coalesce(email_key, ''), customer_id) WHERE dirty"""
    )
