"""Indexes without the entries that nobody looks for."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Leave out customers who are where they were represented, and contacts whose id is not known."""
    op.execute("DROP INDEX ml_connector.customers_by_contact, ml_connector.contacts_by_contact_id")
    op.execute(
        """CREATE INDEX customers_by_contact ON ml_connector.customers (sync, contact_key)
           WHERE contact_key IS NOT NULL AND contact_key IS DISTINCT FROM email_key"""
    )
    op.execute(
        """CREATE INDEX contacts_by_contact_id ON ml_connector.contacts (sync, contact_id)
           WHERE contact_id IS NOT NULL"""
    )
