CREATE TABLE ml_connector.webhook_inbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    system TEXT NOT NULL,
    source TEXT NOT NULL,
    sync TEXT,
    kind TEXT NOT NULL,
    entity_id TEXT,
    deleted_id TEXT,
    dedupe_key TEXT NOT NULL,
    payload BYTEA NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    attempts INTEGER DEFAULT 0 NOT NULL,
    lease_until TIMESTAMP WITH TIME ZONE,
    next_try_at TIMESTAMP WITH TIME ZONE,
    occurred_at TIMESTAMP WITH TIME ZONE,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    CONSTRAINT webhook_inbox_dedupe UNIQUE (dedupe_key),
    CONSTRAINT webhook_inbox_state CHECK (
        state IN ('pending', 'leased', 'done', 'quarantined', 'dead', 'ignored'))
);
CREATE INDEX webhook_inbox_due ON ml_connector.webhook_inbox (coalesce(next_try_at, received_at))
    WHERE state = 'pending';
CREATE INDEX webhook_inbox_leases ON ml_connector.webhook_inbox (lease_until) WHERE state = 'leased';
CREATE INDEX webhook_inbox_by_state ON ml_connector.webhook_inbox (state, received_at);
