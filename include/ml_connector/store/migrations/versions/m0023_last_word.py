"""When a person opted out on the way: a later sign-up has the last word."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the time of an opt-out that travels."""
    op.execute("ALTER TABLE ml_connector.customers ADD COLUMN opted_out_at timestamptz")
    op.execute(
        """COMMENT ON COLUMN ml_connector.customers.opted_out_at IS
           'When the person opted out at a former address, by Mailchimp''s clock'"""
    )
