"""Clicks, campaigns sent and Mailchimp's own figures of contacts."""

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Add the columns."""
    op.execute(
        """ALTER TABLE ml_connector.contacts
               ADD COLUMN last_clicked_at timestamptz,
               ADD COLUMN last_mailed_at timestamptz,
               ADD COLUMN mailed integer NOT NULL DEFAULT 0,
               ADD COLUMN open_rate smallint,
               ADD COLUMN click_rate smallint,
               ADD COLUMN member_rating smallint"""
    )
    for column, comment in {
        "engagement": "engaged, quiet, never_opened, bouncing, bounced or complained. "
        "Null: never mailed",
        "last_clicked_at": "The last click that a report lists",
        "last_mailed_at": "When the last campaign was sent that a report lists the contact for",
        "mailed": "Campaigns sent to the contact, as far as reports were read",
        "open_rate": "Mailchimp''s average open rate in per cent, rounded up",
        "click_rate": "Mailchimp''s average click rate in per cent, rounded up",
        "member_rating": "Mailchimp''s contact rating, 1 to 5",
        "news": "Counts the member events and status changes so far, and 1 if activity.show is "
        "always. QuickBooks shows them all if it equals activity_blocks.shown_news",
    }.items():
        op.execute(f"COMMENT ON COLUMN ml_connector.contacts.{column} IS '{comment}'")
