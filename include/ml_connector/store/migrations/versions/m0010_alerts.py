"""Alerts know how often they were seen, which run to look at, and who was told; syncs are watched."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add columns to alerts, and a table of the syncs that are watched."""
    op.execute(
        """ALTER TABLE ml_connector.alerts
               ADD COLUMN link TEXT NOT NULL DEFAULT '',
               ADD COLUMN last_seen_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
               ADD COLUMN times BIGINT NOT NULL DEFAULT 1,
               ADD COLUMN told TEXT[] NOT NULL DEFAULT '{}',
               ADD COLUMN told_end TEXT[] NOT NULL DEFAULT '{}'"""
    )
    op.execute(
        """CREATE TABLE ml_connector.watched_syncs (
               sync TEXT PRIMARY KEY,
               since TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp())"""
    )
