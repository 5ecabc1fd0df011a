"""Records of QuickBooks and Mailchimp that cannot be read."""

from alembic import op

revision = "0027"
down_revision = "0024"


def upgrade() -> None:
    """Add the table."""
    op.execute(
        """CREATE TABLE ml_connector.unreadable_records (
               sync text NOT NULL,
               system text NOT NULL,
               record text NOT NULL,
               reason text NOT NULL,
               email_keys bytea[] NOT NULL DEFAULT '{}',
               seen_in bigint NOT NULL DEFAULT 0,
               first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
               last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
               PRIMARY KEY (sync, system, record))"""
    )
    op.execute(
        """COMMENT ON TABLE ml_connector.unreadable_records IS
           'Customers and members as sent by QuickBooks and Mailchimp that cannot be read'"""
    )
    for column, comment in {
        "record": "The id of a customer or contact; row: and a digest if the record tells none",
        "reason": "Why, in words that do not quote the record",
        "email_keys": "Blind indexes of the addresses of a member",
        "seen_in": "Number of the last full load that listed the record",
    }.items():
        op.execute(f"COMMENT ON COLUMN ml_connector.unreadable_records.{column} IS '{comment}'")
