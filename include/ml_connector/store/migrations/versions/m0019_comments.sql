-- Keyed hash: HMAC-SHA256 under ML_CONNECTOR_INDEX_KEY. Encrypted: AES-256-GCM, by vault.Vault.
-- Partitions of audit carry no notes of their own.

COMMENT ON TABLE ml_connector.customers
    IS 'A QuickBooks customer as last fetched, and the decision on it.';
COMMENT ON COLUMN ml_connector.customers.sync IS 'The sync, as named in syncs.yaml.';
COMMENT ON COLUMN ml_connector.customers.customer_id IS 'The customer''s id in QuickBooks.';
COMMENT ON COLUMN ml_connector.customers.customer_no IS 'The id as a number, for sorting.';
COMMENT ON COLUMN ml_connector.customers.sync_token IS 'QuickBooks'' version of the customer.';
COMMENT ON COLUMN ml_connector.customers.gone IS 'Merged or deleted in QuickBooks.';
COMMENT ON COLUMN ml_connector.customers.email_key IS 'Keyed hash of the current address.';
COMMENT ON COLUMN ml_connector.customers.email_problem
    IS 'Why the address in QuickBooks is unusable.';
COMMENT ON COLUMN ml_connector.customers.contact_key
    IS 'Keyed hash of the address of the customer''s contact in the audience, or of its future contact.';
COMMENT ON COLUMN ml_connector.customers.fields_hash
    IS 'Keyed hash of the merge fields and tags. A different hash makes the customer dirty.';
COMMENT ON COLUMN ml_connector.customers.payload
    IS 'Name, addresses, merge fields and Notes, encrypted.';
COMMENT ON COLUMN ml_connector.customers.dirty IS 'Fetched again and not yet decided.';
COMMENT ON COLUMN ml_connector.customers.seen_in IS 'The full load that last listed the customer.';
COMMENT ON COLUMN ml_connector.customers.decision
    IS 'contact, linked (shares another customer''s contact) or skipped. Null before the first decision.';
COMMENT ON COLUMN ml_connector.customers.reason IS 'The reason for the decision.';
COMMENT ON COLUMN ml_connector.customers.linked_to IS 'The customer that owns the shared contact.';
COMMENT ON COLUMN ml_connector.customers.merged_into
    IS 'The customer it was merged into, if a webhook named it.';
COMMENT ON COLUMN ml_connector.customers.forgotten
    IS 'The person was erased. The connector stores nothing about them.';
COMMENT ON COLUMN ml_connector.customers.left_out
    IS 'Why include or exclude of the settings leaves the customer out.';

COMMENT ON TABLE ml_connector.contacts IS 'A member of the Mailchimp audience, as last known.';
COMMENT ON COLUMN ml_connector.contacts.sync IS 'The sync, as named in syncs.yaml.';
COMMENT ON COLUMN ml_connector.contacts.email_key IS 'Keyed hash of the address.';
COMMENT ON COLUMN ml_connector.contacts.status IS 'Mailchimp''s status as last seen.';
COMMENT ON COLUMN ml_connector.contacts.previous_status IS 'The status before the last change.';
COMMENT ON COLUMN ml_connector.contacts.owner
    IS 'The customer that the contact represents. Null for members who are no customers, and for orphaned contacts.';
COMMENT ON COLUMN ml_connector.contacts.pushed_hash
    IS 'Keyed hash of the merge fields and tags last written.';
COMMENT ON COLUMN ml_connector.contacts.sent_fields
    IS 'Merge fields that the connector filled. It clears no others.';
COMMENT ON COLUMN ml_connector.contacts.tagged_inactive IS 'The tag for inactive customers is set.';
COMMENT ON COLUMN ml_connector.contacts.archived_by IS 'us (the connector) or marketer.';
COMMENT ON COLUMN ml_connector.contacts.alias_of
    IS 'Keyed hash of the former address, if the member changed it in Mailchimp.';
COMMENT ON COLUMN ml_connector.contacts.refused_hash
    IS 'The decided_hash that Mailchimp refused.';
COMMENT ON COLUMN ml_connector.contacts.refused_reason IS 'Why Mailchimp refused the fields.';
COMMENT ON COLUMN ml_connector.contacts.parked_until
    IS 'The connector retries the contact after this time.';
COMMENT ON COLUMN ml_connector.contacts.parked_times
    IS 'How often the contact was parked in a row.';
COMMENT ON COLUMN ml_connector.contacts.payload IS 'Address, merge fields and our tags, encrypted.';
COMMENT ON COLUMN ml_connector.contacts.profile_hash
    IS 'Keyed hash of the merge fields as last seen in Mailchimp.';
COMMENT ON COLUMN ml_connector.contacts.seen_tags
    IS 'Keyed hashes of the tags as last seen, ours among them.';
COMMENT ON COLUMN ml_connector.contacts.news
    IS 'Counts the member events and status changes so far. QuickBooks shows them all if it equals activity_blocks.shown_news.';

COMMENT ON TABLE ml_connector.plans IS 'The decisions of one run.';
COMMENT ON COLUMN ml_connector.plans.run_id IS 'Airflow''s run.';
COMMENT ON COLUMN ml_connector.plans.kind
    IS 'sync, preview, webhooks or replay.';
COMMENT ON COLUMN ml_connector.plans.calls IS 'API calls by name, summed over the run''s tasks.';
COMMENT ON COLUMN ml_connector.plans.counts IS 'The run''s report: counts only.';
COMMENT ON COLUMN ml_connector.plans.error IS 'The last error of the run.';

COMMENT ON TABLE ml_connector.changes IS 'A decided write to one contact, and its outcome.';
COMMENT ON COLUMN ml_connector.changes.plan_id
    IS 'The plan. No foreign key: a plan is deleted only after its changes.';
COMMENT ON COLUMN ml_connector.changes.shard IS 'The push task that writes the change.';
COMMENT ON COLUMN ml_connector.changes.email_key IS 'Keyed hash of the contact''s address.';
COMMENT ON COLUMN ml_connector.changes.decided_hash
    IS 'The customer''s fields_hash and one byte for the inactive tag.';
COMMENT ON COLUMN ml_connector.changes.state
    IS 'pending, applied, failed, parked, superseded, or preview.';
COMMENT ON COLUMN ml_connector.changes.origin
    IS 'What caused the change, if not the daily run: webhook:9, replay:3.';

COMMENT ON TABLE ml_connector.archive_intents
    IS 'An archive call in flight. Mailchimp does not say who archived a contact.';

COMMENT ON TABLE ml_connector.batch_intents IS 'A batch call to Mailchimp in flight.';
COMMENT ON COLUMN ml_connector.batch_intents.changes IS 'The ids of the batch''s changes.';

COMMENT ON TABLE ml_connector.write_intents IS 'A write of Notes to QuickBooks in flight.';
COMMENT ON COLUMN ml_connector.write_intents.digest IS 'Keyed hash of the text.';

COMMENT ON TABLE ml_connector.audit
    IS 'One attempt to change Mailchimp or QuickBooks, or a refusal to. Append-only. One partition a month (UTC).';
COMMENT ON COLUMN ml_connector.audit.email_key IS 'Keyed hash of the contact''s address.';
COMMENT ON COLUMN ml_connector.audit.attempts IS 'Tries of the call, the first included.';
COMMENT ON COLUMN ml_connector.audit.request_id IS 'The vendor''s id of the request.';
COMMENT ON COLUMN ml_connector.audit.cause IS 'The decision behind the row: change:12, plan:3.';
COMMENT ON COLUMN ml_connector.audit.actor
    IS 'The person who started the run. Empty for a scheduled run.';
COMMENT ON COLUMN ml_connector.audit.seal_id
    IS 'A random id. The encrypted states open in this row only.';
COMMENT ON COLUMN ml_connector.audit.before IS 'The state before, encrypted.';
COMMENT ON COLUMN ml_connector.audit.after IS 'The state after, encrypted.';
COMMENT ON COLUMN ml_connector.audit.origin
    IS 'What caused the row, if not the daily run: webhook:9, replay:3.';

COMMENT ON TABLE ml_connector.audit_seals IS 'The seal of one audit row in the hash chain.';
COMMENT ON COLUMN ml_connector.audit_seals.position IS 'The place in the chain.';
COMMENT ON COLUMN ml_connector.audit_seals.at IS 'The audit row''s own time.';
COMMENT ON COLUMN ml_connector.audit_seals.digest IS 'Keyed digest of the audit row.';
COMMENT ON COLUMN ml_connector.audit_seals.mac IS 'Keyed hash of the digest and the previous mac.';

COMMENT ON TABLE ml_connector.audit_checkpoints
    IS 'The new start of the hash chain after retention dropped older audit rows.';
COMMENT ON COLUMN ml_connector.audit_checkpoints.dropped_before
    IS 'Rows from before this time were dropped.';
COMMENT ON COLUMN ml_connector.audit_checkpoints.mac
    IS 'The mac of the last dropped seal. The chain continues from it.';
COMMENT ON COLUMN ml_connector.audit_checkpoints.signature IS 'Keyed hash of the checkpoint.';

COMMENT ON TABLE ml_connector.audit_rewrites
    IS 'The second digest of an audit row that an erasure or a key rotation rewrote.';
COMMENT ON COLUMN ml_connector.audit_rewrites.kind IS 'erased or rotated.';
COMMENT ON COLUMN ml_connector.audit_rewrites.digest IS 'Keyed digest of the rewritten row.';
COMMENT ON COLUMN ml_connector.audit_rewrites.mac IS 'Binds the new digest to the row''s seal.';

COMMENT ON TABLE ml_connector.cursors
    IS 'What a sync keeps between runs: watermarks, company, mapping, batch contract.';

COMMENT ON TABLE ml_connector.token_refreshes
    IS 'The row whose lock serialises the token refreshes of a QuickBooks connection.';

COMMENT ON TABLE ml_connector.token_intents
    IS 'One intent to redeem a refresh token, stored before the call.';
COMMENT ON COLUMN ml_connector.token_intents.finished_at
    IS 'Null after a crash: a rotated token pair may be lost.';
COMMENT ON COLUMN ml_connector.token_intents.refused
    IS 'Hash of a refresh token that QuickBooks refused for good.';

COMMENT ON TABLE ml_connector.suppressions IS 'An address never to import again.';
COMMENT ON COLUMN ml_connector.suppressions.email_key IS 'Keyed hash of the address.';

COMMENT ON TABLE ml_connector.erasures IS 'One person''s erasure on request.';
COMMENT ON COLUMN ml_connector.erasures.email_key IS 'Keyed hash of the address.';
COMMENT ON COLUMN ml_connector.erasures.payload
    IS 'Whom the erasure concerns, encrypted. Null once it is finished.';
COMMENT ON COLUMN ml_connector.erasures.calling IS 'The API call in flight.';

COMMENT ON TABLE ml_connector.alerts IS 'A cause of an alert: raised once, ended once.';
COMMENT ON COLUMN ml_connector.alerts.cause IS 'Kind and subject: needs_reauth:quickbooks_default.';
COMMENT ON COLUMN ml_connector.alerts.link IS 'The log of the task that raised the alert.';
COMMENT ON COLUMN ml_connector.alerts.times IS 'How often the cause was seen.';
COMMENT ON COLUMN ml_connector.alerts.told IS 'Recipients that received the alert.';
COMMENT ON COLUMN ml_connector.alerts.told_end IS 'Recipients that received the end of the alert.';

COMMENT ON TABLE ml_connector.watched_syncs
    IS 'Start of the silence alert''s clock for a sync that never succeeded.';

COMMENT ON TABLE ml_connector.member_events
    IS 'Something a member did, or that happened to them. One row a transition.';
COMMENT ON COLUMN ml_connector.member_events.email_key IS 'Keyed hash of the member''s address.';
COMMENT ON COLUMN ml_connector.member_events.source IS 'Where the event was seen: poll or webhook.';
COMMENT ON COLUMN ml_connector.member_events.payload
    IS 'A reason, field names or a new address, encrypted.';
COMMENT ON COLUMN ml_connector.member_events.written_to_quickbooks_at
    IS 'When the QuickBooks customer first showed the event.';

COMMENT ON TABLE ml_connector.activity_blocks IS 'What a QuickBooks customer shows of its contact.';
COMMENT ON COLUMN ml_connector.activity_blocks.customer_no
    IS 'The customer''s id as a number, for sorting.';
COMMENT ON COLUMN ml_connector.activity_blocks.state
    IS 'due (to write), stale (QuickBooks changed first, read again), shown, parked (until the next run) or refused.';
COMMENT ON COLUMN ml_connector.activity_blocks.shown_key
    IS 'Keyed hash of the address of the contact shown.';
COMMENT ON COLUMN ml_connector.activity_blocks.shown_news
    IS 'The contact''s news count at the last write.';
COMMENT ON COLUMN ml_connector.activity_blocks.attachment_id IS 'The id of the attached note.';
COMMENT ON COLUMN ml_connector.activity_blocks.attaching
    IS 'A note''s creation is in flight. Its id may be unknown.';

COMMENT ON TABLE ml_connector.pacing IS 'The rate limit of an account, shared by all workers.';
COMMENT ON COLUMN ml_connector.pacing.free_at IS 'The next call may leave at this time.';
COMMENT ON COLUMN ml_connector.pacing.recent IS 'Times of the last batch calls.';

COMMENT ON TABLE ml_connector.api_usage IS 'API calls by day, connection and kind.';

COMMENT ON TABLE ml_connector.webhook_inbox IS 'One webhook event as delivered.';
COMMENT ON COLUMN ml_connector.webhook_inbox.source
    IS 'The company (realm id) or the audience that the event is from.';
COMMENT ON COLUMN ml_connector.webhook_inbox.sync
    IS 'The sync. Null if the event concerns every sync of the company.';
COMMENT ON COLUMN ml_connector.webhook_inbox.entity_id IS 'The record''s id in QuickBooks.';
COMMENT ON COLUMN ml_connector.webhook_inbox.deleted_id
    IS 'The id of the record that a merge deleted.';
COMMENT ON COLUMN ml_connector.webhook_inbox.dedupe_key
    IS 'Deliveries with the same key are one event.';
COMMENT ON COLUMN ml_connector.webhook_inbox.payload IS 'The event, encrypted.';
COMMENT ON COLUMN ml_connector.webhook_inbox.state
    IS 'pending, leased, done, ignored, quarantined (valid but unusable) or dead (out of retries).';
COMMENT ON COLUMN ml_connector.webhook_inbox.reason
    IS 'Why the event is ignored, quarantined or dead.';
COMMENT ON COLUMN ml_connector.webhook_inbox.attempts
    IS 'Leases so far. The number tells one lease from the next.';
COMMENT ON COLUMN ml_connector.webhook_inbox.lease_until
    IS 'A leased event returns to the queue after this time.';
