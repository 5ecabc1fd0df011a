ALTER TABLE ml_connector.changes ADD COLUMN origin TEXT;

-- The former table becomes the first partition, up to the end of this month.
ALTER TABLE ml_connector.audit RENAME TO audit_former;
ALTER TABLE ml_connector.audit_former ADD COLUMN origin TEXT;
DROP TRIGGER audit_append_only ON ml_connector.audit_former;
DROP TRIGGER audit_no_truncate ON ml_connector.audit_former;
ALTER TABLE ml_connector.audit_former ALTER COLUMN id DROP IDENTITY;
ALTER TABLE ml_connector.audit_former DROP CONSTRAINT audit_pkey;
ALTER TABLE ml_connector.audit_former ADD CONSTRAINT audit_former_pkey PRIMARY KEY (id, at);
ALTER INDEX ml_connector.audit_by_customer RENAME TO audit_former_by_customer;
ALTER INDEX ml_connector.audit_by_email RENAME TO audit_former_by_email;
ALTER INDEX ml_connector.audit_by_time RENAME TO audit_former_by_time;

CREATE TABLE ml_connector.audit (LIKE ml_connector.audit_former INCLUDING DEFAULTS)
    PARTITION BY RANGE (at);
-- No identity column: Postgres gives them to partitioned tables from version 17 on only.
CREATE SEQUENCE ml_connector.audit_id_seq AS BIGINT OWNED BY ml_connector.audit.id;
SELECT setval('ml_connector.audit_id_seq', coalesce(max(id), 1), max(id) IS NOT NULL)
    FROM ml_connector.audit_former;
ALTER TABLE ml_connector.audit
    ALTER COLUMN id SET DEFAULT nextval('ml_connector.audit_id_seq'),
    ADD PRIMARY KEY (id, at);
CREATE INDEX audit_by_time ON ml_connector.audit (at);
CREATE INDEX audit_by_customer ON ml_connector.audit (sync, customer_id);
CREATE INDEX audit_by_email ON ml_connector.audit (sync, email_key);
CREATE INDEX audit_by_cause ON ml_connector.audit (cause);
CREATE INDEX audit_by_origin ON ml_connector.audit (origin) WHERE origin IS NOT NULL;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON ml_connector.audit
    FOR EACH ROW EXECUTE FUNCTION ml_connector.refuse_audit_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON ml_connector.audit
    FOR EACH STATEMENT EXECUTE FUNCTION ml_connector.refuse_audit_change();
REVOKE UPDATE, DELETE, TRUNCATE ON ml_connector.audit FROM PUBLIC;

-- Makes the partition of a moment's month (UTC); false if it is there. Made apart and attached,
-- since that lets others go on inserting. With its owner's rights: the everyday role needs none.
CREATE FUNCTION ml_connector.make_audit_partition(moment TIMESTAMP WITH TIME ZONE) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month TIMESTAMP := date_trunc('month', moment AT TIME ZONE 'UTC');
    partition TEXT := 'audit_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass('ml_connector.' || partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ml_connector/audit_partitions', 0));
    IF to_regclass('ml_connector.' || partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE ml_connector.%I (LIKE ml_connector.audit INCLUDING DEFAULTS)',
                   partition);
    EXECUTE format('CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON ml_connector.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION ml_connector.refuse_audit_change()',
                   partition);
    EXECUTE format('ALTER TABLE ml_connector.audit ATTACH PARTITION ml_connector.%I
                    FOR VALUES FROM (%L) TO (%L)', partition,
                   month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
    RETURN true;
END $$;

DO $$
DECLARE
    latest TIMESTAMP;
    partition TEXT;
BEGIN
    SELECT date_trunc('month', greatest(max(at), clock_timestamp()) AT TIME ZONE 'UTC')
        INTO latest FROM ml_connector.audit_former;
    IF EXISTS (SELECT 1 FROM ml_connector.audit_former) THEN
        partition := 'audit_' || to_char(latest, 'YYYY_MM');
        EXECUTE format('ALTER TABLE ml_connector.audit_former RENAME TO %I', partition);
        EXECUTE format('CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON ml_connector.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION ml_connector.refuse_audit_change()',
                       partition);
        EXECUTE format('ALTER TABLE ml_connector.audit ATTACH PARTITION ml_connector.%I
                        FOR VALUES FROM (MINVALUE) TO (%L)', partition,
                       (latest + interval '1 month') AT TIME ZONE 'UTC');
    ELSE
        DROP TABLE ml_connector.audit_former;
        PERFORM ml_connector.make_audit_partition(clock_timestamp());
    END IF;
    PERFORM ml_connector.make_audit_partition(
        (latest + n * interval '1 month') AT TIME ZONE 'UTC') FROM generate_series(1, 3) n;
END $$;

CREATE TABLE ml_connector.write_intents (
    sync TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    digest BYTEA NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (sync, customer_id)
);

CREATE TABLE ml_connector.audit_seals (
    position BIGINT NOT NULL,
    audit_id BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    digest BYTEA NOT NULL,
    mac BYTEA NOT NULL,
    PRIMARY KEY (position)
);
CREATE UNIQUE INDEX audit_seals_by_row ON ml_connector.audit_seals (audit_id);

CREATE TABLE ml_connector.audit_checkpoints (
    dropped_before TIMESTAMP WITH TIME ZONE NOT NULL,
    position BIGINT NOT NULL,
    audit_id BIGINT NOT NULL,
    mac BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (dropped_before)
);
