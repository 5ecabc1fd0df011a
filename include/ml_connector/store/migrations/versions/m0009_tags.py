"""Tags of ours that can be taken off again, and customers that the settings leave out."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add a column to customers and one to contacts; nothing is rewritten."""
    op.execute("ALTER TABLE ml_connector.customers ADD COLUMN left_out TEXT")
    op.execute("ALTER TABLE ml_connector.contacts ADD COLUMN seen_tags BYTEA[]")
