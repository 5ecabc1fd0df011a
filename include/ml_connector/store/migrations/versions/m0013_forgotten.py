"""Customers whose person was forgotten, found without reading the others."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Index the few: every page that is staged asks for them."""
    op.execute(
        """CREATE INDEX customers_forgotten ON ml_connector.customers (sync, customer_id)
           WHERE forgotten"""
    )
