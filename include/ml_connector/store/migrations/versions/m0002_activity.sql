ALTER TABLE ml_connector.contacts
    ADD COLUMN contact_id TEXT,
    ADD COLUMN profile_hash BYTEA,
    ADD COLUMN status_since TIMESTAMP WITH TIME ZONE,
    ADD COLUMN news BIGINT DEFAULT 0 NOT NULL,
    ADD COLUMN last_engaged_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN last_soft_bounce_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN last_hard_bounce_at TIMESTAMP WITH TIME ZONE;
CREATE INDEX contacts_by_contact_id ON ml_connector.contacts (sync, contact_id);
CREATE INDEX contacts_by_alias ON ml_connector.contacts (sync, alias_of) WHERE alias_of IS NOT NULL;
CREATE INDEX contacts_with_news ON ml_connector.contacts (sync, email_key) WHERE news > 0;

-- Opt-outs and bounces known before are shown as well; the next run reads the audience as a whole,
-- for the ids by which a member is found again after a change of address.
UPDATE ml_connector.contacts SET news = 1 WHERE status IN ('unsubscribed', 'cleaned');
UPDATE ml_connector.cursors SET value = value - 'read_at' WHERE name = 'members';

CREATE TABLE ml_connector.member_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    sync TEXT NOT NULL,
    email_key BYTEA NOT NULL,
    kind TEXT NOT NULL,
    before TEXT,
    after TEXT,
    happened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    source TEXT NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    payload BYTEA,
    written_to_quickbooks_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX member_events_once
    ON ml_connector.member_events (sync, email_key, kind, happened_at);
CREATE INDEX member_events_newest ON ml_connector.member_events (sync, email_key, id);

CREATE TABLE ml_connector.activity_blocks (
    sync TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    customer_no BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    error TEXT,
    shown_key BYTEA,
    shown_news BIGINT,
    attachment_id TEXT,
    attachment_token TEXT,
    attaching BOOLEAN DEFAULT false NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (sync, customer_id),
    CONSTRAINT activity_blocks_state CHECK (state IN ('due', 'stale', 'shown', 'parked', 'refused'))
);
CREATE INDEX activity_blocks_todo ON ml_connector.activity_blocks (sync, state, customer_no)
    WHERE state IN ('due', 'stale');

ALTER TABLE ml_connector.pacing ADD COLUMN recent TIMESTAMP WITH TIME ZONE[];
