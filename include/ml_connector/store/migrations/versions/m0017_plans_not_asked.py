"""A change no longer has the database look for its plan, which was half the work of queueing it."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Drop the foreign key: a plan is dropped only when it has no changes left."""
    op.execute("ALTER TABLE ml_connector.changes DROP CONSTRAINT changes_plan_id_fkey")
