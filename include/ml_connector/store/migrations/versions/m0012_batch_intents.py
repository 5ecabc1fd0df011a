"""Batches that were about to be sent to Mailchimp: what a killed worker leaves is known by them."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add a table of the batches under way: a few rows at any time."""
    op.execute(
        """CREATE TABLE ml_connector.batch_intents (
               id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
               sync TEXT NOT NULL,
               changes BIGINT[] NOT NULL,
               started_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp())"""
    )
