"""Values that a merge field cannot take, by customer."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the table."""
    op.execute(
        """CREATE TABLE ml_connector.unfit_values (
               sync text NOT NULL,
               customer_id text NOT NULL,
               merge_field text NOT NULL,
               reason text NOT NULL,
               PRIMARY KEY (sync, customer_id, merge_field))"""
    )
    op.execute(
        """COMMENT ON TABLE ml_connector.unfit_values IS
           'Merge fields that are left out for a customer, because its value does not fit'"""
    )
    op.execute(
        """COMMENT ON COLUMN ml_connector.unfit_values.reason IS
           'Why, in words that do not quote the value'"""
    )
