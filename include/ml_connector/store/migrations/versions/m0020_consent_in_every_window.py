"""Consent in every window: former addresses, late opt-outs, complaints, identifiers."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add what a person's way through several addresses needs."""
    op.execute(
        """ALTER TABLE ml_connector.customers
               ADD COLUMN opted_out boolean NOT NULL DEFAULT false"""
    )
    op.execute(
        """CREATE INDEX customers_opted_out ON ml_connector.customers (sync) WHERE opted_out"""
    )
    op.execute(
        """ALTER TABLE ml_connector.contacts
               ADD COLUMN complained boolean NOT NULL DEFAULT false"""
    )
    op.execute(
        """CREATE TABLE ml_connector.former_contacts (
               sync text NOT NULL,
               email_key bytea NOT NULL,
               customer_id text NOT NULL,
               PRIMARY KEY (sync, email_key, customer_id))"""
    )
    op.execute(
        """CREATE INDEX former_contacts_of_customer
               ON ml_connector.former_contacts (sync, customer_id)"""
    )
    op.execute(
        """COMMENT ON COLUMN ml_connector.customers.opted_out IS
           'The person opted out at a former address after leaving it, and has not opted in since'"""
    )
    op.execute(
        """COMMENT ON COLUMN ml_connector.contacts.complained IS
           'Cleaned because of a spam complaint, which travels as an opt-out'"""
    )
    op.execute(
        """COMMENT ON TABLE ml_connector.former_contacts IS
           'Addresses that a customer was represented at and has left'"""
    )
    op.execute(
        """COMMENT ON COLUMN ml_connector.former_contacts.email_key IS
           'Keyed hash of the address.'"""
    )
    op.execute(
        """CREATE TABLE ml_connector.observations (
               sync text NOT NULL,
               email_key bytea NOT NULL,
               observed_at timestamptz NOT NULL,
               payload bytea NOT NULL,
               PRIMARY KEY (sync, email_key))"""
    )
    op.execute(
        """COMMENT ON TABLE ml_connector.observations IS
           'What a contact showed when last read, where that differs from what we sent'"""
    )
    op.execute(
        """COMMENT ON COLUMN ml_connector.observations.email_key IS
           'Keyed hash of the address.'"""
    )
    op.execute(
        """COMMENT ON COLUMN ml_connector.observations.payload IS
           'Mapped merge fields and our tags, encrypted.'"""
    )
