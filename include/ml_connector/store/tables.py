"""The tables. What a row is, is said beside each; design notes are in docs/storage.md.

No column holds personal data in clear: ``payload``, ``before`` and ``after`` are sealed by
``vault.Vault``, addresses appear as ``email_key``.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

SCHEMA = "ml_connector"
metadata = MetaData(schema=SCHEMA)

_now = text("clock_timestamp()")


def _time(name: str, *, required: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=not required)


# A QuickBooks customer as last fetched. customer_no orders ids as numbers. email_key is the
# address it has now, contact_key the one under which it was last represented in the audience,
# or is to be for the first time.
# dirty: fetched anew and not yet decided on. gone: merged away (into merged_into, where a webhook
# told) or deleted in QuickBooks. forgotten: its person was erased; nothing about them is staged.
customers = Table(
    "customers",
    metadata,
    Column("sync", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("customer_no", BigInteger, nullable=False),
    Column("sync_token", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("is_job", Boolean, nullable=False),
    Column("is_project", Boolean, nullable=False),
    Column("gone", Boolean, nullable=False, server_default=text("false")),
    Column("email_key", LargeBinary),
    Column("email_problem", Text),
    Column("contact_key", LargeBinary),
    Column("fields_hash", LargeBinary, nullable=False),
    _time("last_updated", required=True),
    Column("payload", LargeBinary, nullable=False),
    Column("dirty", Boolean, nullable=False, server_default=text("true")),
    Column("seen_in", BigInteger, nullable=False, server_default=text("0")),
    Column("decision", Text),
    Column("reason", Text),
    Column("linked_to", Text),
    Column("merged_into", Text),
    Column("forgotten", Boolean, nullable=False, server_default=text("false")),
    Column("left_out", Text),
    Index("customers_by_email", "sync", "email_key"),
    Index(
        "customers_by_contact",
        "sync",
        "contact_key",
        postgresql_where=text("contact_key IS NOT NULL AND contact_key IS DISTINCT FROM email_key"),
    ),
    Index(
        "customers_dirty",
        "sync",
        text("coalesce(email_key, '')"),
        "customer_id",
        postgresql_where=text("dirty"),
    ),
    Index("customers_forgotten", "sync", "customer_id", postgresql_where=text("forgotten")),
    CheckConstraint("decision IN ('contact', 'linked', 'skipped')", name="customers_decision"),
)

# What we know of a contact. owner is the customer it shows; null for people who are no customers.
# sent_fields: merge fields we filled, the only ones we may clear. refused_hash: the fields that
# Mailchimp refused, tried again only when they change. alias_of: the address its person left for this
# one, in Mailchimp. news counts what there is to show on the QuickBooks customer. profile_hash: its
# merge fields as last seen. seen_tags: keyed hashes of its tags as last seen, ours among them.
contacts = Table(
    "contacts",
    metadata,
    Column("sync", Text, primary_key=True),
    Column("email_key", LargeBinary, primary_key=True),
    Column("status", Text, nullable=False),
    Column("previous_status", Text),
    Column("owner", Text),
    Column("pushed_hash", LargeBinary),
    Column("sent_fields", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("tagged_inactive", Boolean, nullable=False, server_default=text("false")),
    Column("archived_by", Text),
    Column("alias_of", LargeBinary),
    Column("refused_hash", LargeBinary),
    Column("refused_reason", Text),
    _time("parked_until"),
    Column("parked_times", Integer, nullable=False, server_default=text("0")),
    Column("engagement", Text),
    _time("last_changed"),
    _time("seen_at"),
    Column("payload", LargeBinary),
    Column("contact_id", Text),
    Column("profile_hash", LargeBinary),
    _time("status_since"),
    Column("news", BigInteger, nullable=False, server_default=text("0")),
    _time("last_engaged_at"),
    _time("last_soft_bounce_at"),
    _time("last_hard_bounce_at"),
    Column("seen_tags", ARRAY(LargeBinary)),
    CheckConstraint("archived_by IN ('us', 'marketer')", name="contacts_archived_by"),
    Index("contacts_by_owner", "sync", "owner"),
    Index(
        "contacts_parked", "sync", "parked_until", postgresql_where=text("parked_until IS NOT NULL")
    ),
    Index(
        "contacts_by_contact_id",
        "sync",
        "contact_id",
        postgresql_where=text("contact_id IS NOT NULL"),
    ),
    Index("contacts_by_alias", "sync", "alias_of", postgresql_where=text("alias_of IS NOT NULL")),
    Index("contacts_with_news", "sync", "email_key", postgresql_where=text("news > 0")),
)

# One run's decisions. calls: API calls by name, added up by the run's tasks. error: why a step of
# the run failed last.
plans = Table(
    "plans",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sync", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="open"),
    Column("calls", JSONB, nullable=False, server_default=text("'{}'")),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'")),
    Column("error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    _time("finished_at"),
    Index("plans_run", "sync", "run_id", unique=True),
)

# A decided change and its outcome. decided_hash and decided_owner are the facts it rests on:
# if they moved, the change is dropped and decided again. origin: what set it off, if not the daily run
# (webhook:9, replay:3). plan_id is no foreign key: looking for the plan of each was half the work of
# queueing a change, and a plan is dropped only when it has none left.
changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("plan_id", BigInteger, nullable=False),
    Column("sync", Text, nullable=False),
    Column("shard", Integer, nullable=False, server_default=text("0")),
    Column("email_key", LargeBinary, nullable=False),
    Column("customer_id", Text),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", Text),
    Column("decided_hash", LargeBinary),
    Column("tag_inactive", Boolean, nullable=False, server_default=text("false")),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("origin", Text),
    Column("decided_at", DateTime(timezone=True), nullable=False, server_default=_now),
    _time("settled_at"),
    Index(
        "changes_one_pending",
        "sync",
        "email_key",
        unique=True,
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "changes_one_preview",
        "plan_id",
        "email_key",
        unique=True,
        postgresql_where=text("state = 'preview'"),
    ),
    Index("changes_todo", "plan_id", "shard", "id", postgresql_where=text("state = 'pending'")),
    Index("changes_of_plan", "plan_id", "state", "kind"),
)

# Archives whose call was about to leave: an archived contact does not say who archived it. In a table
# of its own, since the change's row is locked while its call is on the wire.
archive_intents = Table(
    "archive_intents",
    metadata,
    Column("change_id", BigInteger, primary_key=True),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_now),
)

# Batches whose call to Mailchimp was about to leave, by the ids of their changes.
batch_intents = Table(
    "batch_intents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sync", Text, nullable=False),
    Column("changes", ARRAY(BigInteger), nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_now),
)

# Notes whose write to QuickBooks was about to leave: a digest of the text.
write_intents = Table(
    "write_intents",
    metadata,
    Column("sync", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_now),
)

# One attempt to change the outside world, or a refusal to. Append-only: a trigger forbids UPDATE,
# DELETE and TRUNCATE. A partition a month (UTC), made by make_audit_partition.
audit = Table(
    "audit",
    metadata,
    Column(
        "id",
        BigInteger,
        primary_key=True,
        server_default=text("nextval('ml_connector.audit_id_seq')"),
    ),
    Column("at", DateTime(timezone=True), primary_key=True, server_default=_now),
    Column("sync", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("customer_id", Text),
    Column("email_key", LargeBinary),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),
    Column("request_id", Text),
    Column("cause", Text, nullable=False),
    Column("dag_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("try_number", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("seal_id", Text, nullable=False),
    Column("before", LargeBinary),
    Column("after", LargeBinary),
    Column("origin", Text),
    Index("audit_by_time", "at"),
    Index("audit_by_customer", "sync", "customer_id"),
    Index("audit_by_email", "sync", "email_key"),
    Index("audit_by_cause", "cause"),
    Index("audit_by_origin", "origin", postgresql_where=text("origin IS NOT NULL")),
    Index("audit_by_run", "run_id", "id"),
    Index(
        "audit_by_outcome", "sync", "outcome", "id", postgresql_where=text("outcome <> 'applied'")
    ),
    postgresql_partition_by="RANGE (at)",
)

# The seal of an audit row: its place in the chain, a keyed digest of the row, and a keyed hash that
# takes in the one before. at is the row's own.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("audit_id", BigInteger, nullable=False),
    _time("at", required=True),
    Column("digest", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Index("audit_seals_by_row", "audit_id", unique=True),
)

# Where the chain starts since rows from before dropped_before were dropped by age.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("dropped_before", DateTime(timezone=True), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("audit_id", BigInteger, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=_now),
)

# An audit row that an erasure or a rotation of keys rewrote: its digest since then. The mac binds it
# to the row's seal, so that nobody without the keys can make one.
audit_rewrites = Table(
    "audit_rewrites",
    metadata,
    Column("audit_id", BigInteger, primary_key=True, autoincrement=False),
    _time("at", required=True),
    Column("kind", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=_now),
    CheckConstraint("kind IN ('erased', 'rotated')", name="audit_rewrites_kind"),
)

# Watermarks and what else a sync has to remember between runs.
cursors = Table(
    "cursors",
    metadata,
    Column("sync", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
)

# The row whose lock serialises a QuickBooks connection's refreshes.
token_refreshes = Table(
    "token_refreshes",
    metadata,
    Column("conn_id", Text, primary_key=True),
)

# Each intent to redeem a refresh token, recorded before the call; an unfinished one tells the next
# holder of the lock that a rotated pair may have been lost. refused: a mark of the refresh token
# (a hash) that was refused for good.
token_intents = Table(
    "token_intents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("conn_id", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_now),
    _time("finished_at"),
    Column("refused", Text),
    Index("token_intents_open", "conn_id", postgresql_where=text("finished_at IS NULL")),
)

# People never to import again: blind indexes only.
suppressions = Table(
    "suppressions",
    metadata,
    Column("email_key", LargeBinary, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
)

# A person's erasure. payload: whom it is about, until it is finished. calling: the call to the
# outside that was about to leave.
erasures = Table(
    "erasures",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("email_key", LargeBinary, nullable=False),
    Column("actor", Text, nullable=False),
    Column("payload", LargeBinary),
    Column("calling", Text),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_now),
    _time("finished_at"),
    Index("erasures_open", "email_key", unique=True, postgresql_where=text("finished_at IS NULL")),
)

# What a person has to know: raised once for a cause, ended once when it is over.
alerts = Table(
    "alerts",
    metadata,
    Column("cause", Text, primary_key=True),
    Column("message", Text, nullable=False),
    Column("raised_at", DateTime(timezone=True), nullable=False, server_default=_now),
    _time("ended_at"),
    Column("link", Text, nullable=False, server_default=text("''")),
    Column("last_seen_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("times", BigInteger, nullable=False, server_default=text("1")),
    Column("told", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("told_end", ARRAY(Text), nullable=False, server_default=text("'{}'")),
)

# Since when a sync is looked after: the measure of silence before its first success.
watched_syncs = Table(
    "watched_syncs",
    metadata,
    Column("sync", Text, primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False, server_default=_now),
)

# Something a member did, or that became true of them, once however often it is seen: a transition.
# payload: what a person would want to read of it (a reason, field names, a new address).
member_events = Table(
    "member_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sync", Text, nullable=False),
    Column("email_key", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    _time("happened_at", required=True),
    Column("source", Text, nullable=False),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("payload", LargeBinary),
    _time("written_to_quickbooks_at"),
    Index("member_events_once", "sync", "email_key", "kind", "happened_at", unique=True),
    Index("member_events_seen", "sync", "seen_at"),
)

# What a QuickBooks customer shows of its contact, and whether that is still so: due to be written,
# stale (somebody else wrote the customer first: to be read again), shown, parked until the next run,
# refused. attaching: a note was about to be created whose id we may not have heard of.
activity_blocks = Table(
    "activity_blocks",
    metadata,
    Column("sync", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("customer_no", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("shown_key", LargeBinary),
    Column("shown_news", BigInteger),
    Column("attachment_id", Text),
    Column("attachment_token", Text),
    Column("attaching", Boolean, nullable=False, server_default=text("false")),
    _time("settled_at"),
    CheckConstraint(
        "state IN ('due', 'stale', 'shown', 'parked', 'refused')", name="activity_blocks_state"
    ),
    Index(
        "activity_blocks_todo",
        "sync",
        "state",
        "customer_no",
        postgresql_where=text("state IN ('due', 'stale')"),
    ),
)

# When an account's rate window is free again, for all workers together; recent: its last batches.
pacing = Table(
    "pacing",
    metadata,
    Column("account", Text, primary_key=True),
    Column("free_at", DateTime(timezone=True), nullable=False),
    Column("recent", ARRAY(DateTime(timezone=True))),
)

# Calls made, by day: QuickBooks meters reads by the month.
api_usage = Table(
    "api_usage",
    metadata,
    Column("day", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("call", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
)

# One event as a webhook delivered it. sync: null where every sync of the realm (source) is meant.
# entity_id, deleted_id: QuickBooks' ids. attempts tells one lease from the next.
webhook_inbox = Table(
    "webhook_inbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("system", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("sync", Text),
    Column("kind", Text, nullable=False),
    Column("entity_id", Text),
    Column("deleted_id", Text),
    Column("dedupe_key", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _time("lease_until"),
    _time("next_try_at"),
    _time("occurred_at"),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=_now),
    _time("settled_at"),
    UniqueConstraint("dedupe_key", name="webhook_inbox_dedupe"),
    CheckConstraint(
        "state IN ('pending', 'leased', 'done', 'quarantined', 'dead', 'ignored')",
        name="webhook_inbox_state",
    ),
    Index(
        "webhook_inbox_due",
        text("coalesce(next_try_at, received_at)"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("webhook_inbox_leases", "lease_until", postgresql_where=text("state = 'leased'")),
    Index("webhook_inbox_by_state", "state", "received_at"),
)
