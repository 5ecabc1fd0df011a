"""Into whom a customer was merged, as webhooks tell."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the survivor to customers."""
    op.execute("ALTER TABLE ml_connector.customers ADD COLUMN merged_into TEXT")
