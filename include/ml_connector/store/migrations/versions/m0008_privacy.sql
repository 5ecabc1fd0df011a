ALTER TABLE ml_connector.customers ADD COLUMN forgotten BOOLEAN DEFAULT false NOT NULL;

CREATE TABLE ml_connector.erasures (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    email_key BYTEA NOT NULL,
    actor TEXT NOT NULL,
    payload BYTEA,
    calling TEXT,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX erasures_open ON ml_connector.erasures (email_key) WHERE finished_at IS NULL;

CREATE TABLE ml_connector.audit_rewrites (
    audit_id BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    kind TEXT NOT NULL,
    digest BYTEA NOT NULL,
    mac BYTEA NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (audit_id),
    CONSTRAINT audit_rewrites_kind CHECK (kind IN ('erased', 'rotated'))
);

-- An erasure or a rotation of keys may rewrite what can be personal, and nothing else. The setting
-- keeps accidents out; whoever sets it without the keys is found by the seals.
CREATE OR REPLACE FUNCTION ml_connector.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    personal CONSTANT TEXT[] := ARRAY['before', 'after', 'email_key', 'error'];
BEGIN
    IF TG_OP = 'UPDATE' AND current_setting('ml_connector.audit_rewrite', true) = 'on' THEN
        IF to_jsonb(NEW) - personal = to_jsonb(OLD) - personal THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit is append-only';
END $$;
