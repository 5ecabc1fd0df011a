"""Contacts link to Mailchimp's own page of them, which names a member by its ``web_id``."""

from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Add ``web_id`` to contacts."""
    op.execute("ALTER TABLE ml_connector.contacts ADD COLUMN web_id bigint")
    op.execute(
        """COMMENT ON COLUMN ml_connector.contacts.web_id IS
           'Names the member in Mailchimp''s own pages. Null until the member is read.'"""
    )
