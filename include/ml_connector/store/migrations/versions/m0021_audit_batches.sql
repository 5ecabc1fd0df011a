CREATE TABLE ml_connector.audit_batches (
    last_id BIGINT PRIMARY KEY,
    rows INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    digests BYTEA NOT NULL,
    mac BYTEA NOT NULL
);
-- Uncompressed, so that the digest of one row is read without the others.
ALTER TABLE ml_connector.audit_batches ALTER COLUMN digests SET STORAGE EXTERNAL;
COMMENT ON TABLE ml_connector.audit_batches IS
    'Audit rows written together: a digest of each, and a keyed hash over all';
COMMENT ON COLUMN ml_connector.audit_batches.last_id IS
    'Id of the last row; the rows have consecutive ids.';
COMMENT ON COLUMN ml_connector.audit_batches.at IS
    'Time of the first row; the next ones are a microsecond apart.';
COMMENT ON COLUMN ml_connector.audit_batches.digests IS
    'Keyed digests of the rows, 16 bytes each.';
COMMENT ON COLUMN ml_connector.audit_batches.mac IS
    'Keyed hash of the digests, the ids and the times.';

ALTER TABLE ml_connector.audit_seals ADD COLUMN rows INTEGER;
COMMENT ON TABLE ml_connector.audit_seals IS 'Links of the hash chain: a batch of audit rows each.';
COMMENT ON COLUMN ml_connector.audit_seals.position IS 'How many rows the chain has with it.';
COMMENT ON COLUMN ml_connector.audit_seals.at IS 'The first row''s own time.';
COMMENT ON COLUMN ml_connector.audit_seals.digest IS
    'The batch''s keyed hash, or the keyed digest of a single row.';
COMMENT ON COLUMN ml_connector.audit_seals.rows IS
    'Rows of the batch that this seal links; null: a single row, sealed by a former release.';

-- A process of the former version must not write rows without digests: it has no ids any more.
ALTER TABLE ml_connector.audit ALTER COLUMN id DROP DEFAULT;

-- Takes consecutive ids. The lock is held for the moment between the two calls only.
CREATE FUNCTION ml_connector.take_audit_ids(number BIGINT) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taking CONSTANT BIGINT := hashtextextended('ml_connector/audit_ids', 0);
    first BIGINT;
BEGIN
    PERFORM pg_advisory_lock(taking);
    BEGIN
        first := nextval('ml_connector.audit_id_seq');
        IF number > 1 THEN
            PERFORM setval('ml_connector.audit_id_seq', first + number - 1);
        END IF;
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        PERFORM pg_advisory_unlock(taking);
        RAISE;
    END;
    PERFORM pg_advisory_unlock(taking);
    RETURN first;
END $$;
