"""A preview has one change for each contact, as a plan has."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Drop what former previews hold twice; they are there to be looked at."""
    op.execute("LOCK TABLE ml_connector.changes IN SHARE ROW EXCLUSIVE MODE")
    op.execute(
        """DELETE FROM ml_connector.changes c USING ml_connector.changes first
           WHERE c.state = 'preview' AND first.state = 'preview'
             AND first.plan_id = c.plan_id AND first.email_key = c.email_key AND first.id < c.id"""
    )
    op.execute(
        """CREATE UNIQUE INDEX changes_one_preview ON ml_connector.changes (plan_id, email_key)
           WHERE state = 'preview'"""
    )
