"""An undo finds the restores of a contact that were sent. Write intents cover attached notes."""

from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Add an index of the restores that were sent; say what a write intent holds."""
    op.execute(
        """CREATE INDEX changes_sent_restores ON ml_connector.changes (sync, email_key, id)
           WHERE kind = 'restore' AND attempts > 0"""
    )
    op.execute(
        """COMMENT ON TABLE ml_connector.write_intents IS
           'A write of texts to QuickBooks whose outcome is not stored.'"""
    )
    op.execute(
        """COMMENT ON COLUMN ml_connector.write_intents.digest IS
           'Keyed hashes of the texts: Notes, then the attached note.'"""
    )
