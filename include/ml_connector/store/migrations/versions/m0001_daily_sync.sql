CREATE TABLE ml_connector.alerts (
    cause TEXT NOT NULL,
    message TEXT NOT NULL,
    raised_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (cause)
);

CREATE TABLE ml_connector.api_usage (
    day TEXT NOT NULL,
    account TEXT NOT NULL,
    call TEXT NOT NULL,
    calls BIGINT NOT NULL,
    PRIMARY KEY (day, account, call)
);

CREATE TABLE ml_connector.archive_intents (
    change_id BIGSERIAL NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (change_id)
);

CREATE TABLE ml_connector.audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    sync TEXT NOT NULL,
    system TEXT NOT NULL,
    action TEXT NOT NULL,
    reason TEXT NOT NULL,
    customer_id TEXT,
    email_key BYTEA,
    outcome TEXT NOT NULL,
    error TEXT,
    attempts INTEGER NOT NULL,
    request_id TEXT,
    cause TEXT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    try_number INTEGER NOT NULL,
    actor TEXT NOT NULL,
    seal_id TEXT NOT NULL,
    before BYTEA,
    after BYTEA,
    PRIMARY KEY (id)
);
CREATE INDEX audit_by_customer ON ml_connector.audit (sync, customer_id);
CREATE INDEX audit_by_email ON ml_connector.audit (sync, email_key);
CREATE INDEX audit_by_time ON ml_connector.audit (at);

CREATE TABLE ml_connector.contacts (
    sync TEXT NOT NULL,
    email_key BYTEA NOT NULL,
    status TEXT NOT NULL,
    previous_status TEXT,
    owner TEXT,
    pushed_hash BYTEA,
    sent_fields TEXT[] DEFAULT '{}' NOT NULL,
    tagged_inactive BOOLEAN DEFAULT false NOT NULL,
    archived_by TEXT,
    alias_of BYTEA,
    refused_hash BYTEA,
    refused_reason TEXT,
    parked_until TIMESTAMP WITH TIME ZONE,
    parked_times INTEGER DEFAULT 0 NOT NULL,
    engagement TEXT,
    last_changed TIMESTAMP WITH TIME ZONE,
    seen_at TIMESTAMP WITH TIME ZONE,
    payload BYTEA,
    PRIMARY KEY (sync, email_key),
    CONSTRAINT contacts_archived_by CHECK (archived_by IN ('us', 'marketer'))
);
CREATE INDEX contacts_by_owner ON ml_connector.contacts (sync, owner);
CREATE INDEX contacts_parked ON ml_connector.contacts (sync, parked_until) WHERE parked_until IS NOT NULL;

CREATE TABLE ml_connector.cursors (
    sync TEXT NOT NULL,
    name TEXT NOT NULL,
    value JSONB NOT NULL,
    PRIMARY KEY (sync, name)
);

CREATE TABLE ml_connector.customers (
    sync TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    customer_no BIGINT NOT NULL,
    sync_token TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    is_job BOOLEAN NOT NULL,
    is_project BOOLEAN NOT NULL,
    gone BOOLEAN DEFAULT false NOT NULL,
    email_key BYTEA,
    email_problem TEXT,
    contact_key BYTEA,
    fields_hash BYTEA NOT NULL,
    last_updated TIMESTAMP WITH TIME ZONE NOT NULL,
    payload BYTEA NOT NULL,
    dirty BOOLEAN DEFAULT true NOT NULL,
    seen_in BIGINT DEFAULT 0 NOT NULL,
    decision TEXT,
    reason TEXT,
    linked_to TEXT,
    PRIMARY KEY (sync, customer_id),
    CONSTRAINT customers_decision CHECK (decision IN ('contact', 'linked', 'skipped'))
);
CREATE INDEX customers_by_contact ON ml_connector.customers (sync, contact_key);
CREATE INDEX customers_by_email ON ml_connector.customers (sync, email_key);
CREATE INDEX customers_dirty ON ml_connector.customers (sync, customer_id) WHERE dirty;

CREATE TABLE ml_connector.pacing (
    account TEXT NOT NULL,
    free_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (account)
);

CREATE TABLE ml_connector.plans (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    sync TEXT NOT NULL,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT DEFAULT 'open' NOT NULL,
    calls JSONB DEFAULT '{}' NOT NULL,
    counts JSONB DEFAULT '{}' NOT NULL,
    error TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX plans_run ON ml_connector.plans (sync, run_id);

CREATE TABLE ml_connector.suppressions (
    email_key BYTEA NOT NULL,
    reason TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (email_key)
);

CREATE TABLE ml_connector.token_intents (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    conn_id TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    refused TEXT,
    PRIMARY KEY (id)
);
CREATE INDEX token_intents_open ON ml_connector.token_intents (conn_id) WHERE finished_at IS NULL;

CREATE TABLE ml_connector.token_refreshes (
    conn_id TEXT NOT NULL,
    PRIMARY KEY (conn_id)
);

CREATE TABLE ml_connector.changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    plan_id BIGINT NOT NULL,
    sync TEXT NOT NULL,
    shard INTEGER DEFAULT 0 NOT NULL,
    email_key BYTEA NOT NULL,
    customer_id TEXT,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    status TEXT,
    decided_hash BYTEA,
    tag_inactive BOOLEAN DEFAULT false NOT NULL,
    state TEXT DEFAULT 'pending' NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    error TEXT,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    FOREIGN KEY(plan_id) REFERENCES ml_connector.plans (id)
);
CREATE INDEX changes_of_plan ON ml_connector.changes (plan_id, state, kind);
CREATE UNIQUE INDEX changes_one_pending ON ml_connector.changes (sync, email_key) WHERE state = 'pending';
CREATE INDEX changes_todo ON ml_connector.changes (plan_id, shard, id) WHERE state = 'pending';

CREATE FUNCTION ml_connector.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON ml_connector.audit
    FOR EACH ROW EXECUTE FUNCTION ml_connector.refuse_audit_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON ml_connector.audit
    FOR EACH STATEMENT EXECUTE FUNCTION ml_connector.refuse_audit_change();
REVOKE UPDATE, DELETE, TRUNCATE ON ml_connector.audit FROM PUBLIC;
