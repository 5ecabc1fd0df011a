CREATE TYPE ml_connector.key_span AS RANGE (subtype = bytea);
CREATE TABLE ml_connector.change_batches (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    plan_id BIGINT NOT NULL,
    sync TEXT NOT NULL,
    shard INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    status TEXT,
    tag_inactive BOOLEAN NOT NULL,
    origin TEXT,
    state TEXT DEFAULT 'pending' NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    decided_at TIMESTAMPTZ DEFAULT clock_timestamp() NOT NULL,
    settled_at TIMESTAMPTZ,
    size INTEGER NOT NULL,
    span ml_connector.key_span NOT NULL,
    first_id BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    ids BIGINT[] NOT NULL,
    email_keys BYTEA[] NOT NULL,
    customer_ids TEXT[] NOT NULL,
    decided_hashes BYTEA[] NOT NULL,
    PRIMARY KEY (id)
);
-- Hashes do not compress.
ALTER TABLE ml_connector.change_batches
    ALTER email_keys SET STORAGE EXTERNAL, ALTER decided_hashes SET STORAGE EXTERNAL;
CREATE INDEX change_batches_of_plan ON ml_connector.change_batches (plan_id, first_id);
CREATE INDEX change_batches_todo ON ml_connector.change_batches (plan_id, shard, kind, id)
    WHERE state = 'pending';
CREATE INDEX change_batches_pending ON ml_connector.change_batches USING gist (span)
    WHERE state = 'pending';

COMMENT ON TABLE ml_connector.change_batches
    IS 'Up to 500 decided writes that share everything but contact and data. A write whose fate differs from the others'' becomes a row of changes.';
COMMENT ON COLUMN ml_connector.change_batches.plan_id
    IS 'The plan. No foreign key: a plan is deleted only after its changes.';
COMMENT ON COLUMN ml_connector.change_batches.state IS 'pending, applied, or superseded.';
COMMENT ON COLUMN ml_connector.change_batches.size IS 'The number of changes.';
COMMENT ON COLUMN ml_connector.change_batches.span IS 'The first and the last of email_keys.';
COMMENT ON COLUMN ml_connector.change_batches.ids
    IS 'The changes'' ids, ascending, from the sequence of changes.id.';
COMMENT ON COLUMN ml_connector.change_batches.email_keys
    IS 'Keyed hashes of the contacts'' addresses, ascending.';
COMMENT ON COLUMN ml_connector.change_batches.customer_ids IS 'The contacts'' customers.';
COMMENT ON COLUMN ml_connector.change_batches.decided_hashes
    IS 'As changes.decided_hash, one for each contact.';

CREATE VIEW ml_connector.all_changes AS
    SELECT id, plan_id, sync, shard, email_key, customer_id, kind, reason, status, decided_hash,
           tag_inactive, state, attempts, error, decided_at, settled_at, origin,
           CAST(NULL AS BIGINT) AS batch_id
    FROM ml_connector.changes
    UNION ALL
    SELECT u.id, b.plan_id, b.sync, b.shard, u.email_key, u.customer_id, b.kind, b.reason, b.status,
           u.decided_hash, b.tag_inactive, b.state, b.attempts, NULL, b.decided_at, b.settled_at,
           b.origin, b.id
    FROM ml_connector.change_batches b,
         unnest(b.ids, b.email_keys, b.customer_ids, b.decided_hashes)
             AS u(id, email_key, customer_id, decided_hash);
COMMENT ON VIEW ml_connector.all_changes IS 'Every change, by itself or in a batch.';

CREATE VIEW ml_connector.change_counts AS
    SELECT plan_id, sync, shard, kind, reason, state, decided_at, 1 AS changes
    FROM ml_connector.changes
    UNION ALL
    SELECT plan_id, sync, shard, kind, reason, state, decided_at, size
    FROM ml_connector.change_batches;
COMMENT ON VIEW ml_connector.change_counts
    IS 'Numbers of changes to sum up, without reading what a batch holds.';

ALTER TABLE ml_connector.batch_intents ADD COLUMN batch_id BIGINT;
COMMENT ON COLUMN ml_connector.batch_intents.batch_id
    IS 'The row of change_batches that was sent; null if rows of changes were.';
