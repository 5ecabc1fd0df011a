"""Labels and explanations of decisions, reasons and outcomes. Data, without markup.

Each table is in the order in which its values are listed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ml_connector.model import Engagement
from ml_connector.rules.reasons import short_reason

STATUS = {
    "subscribed": "Subscribed",
    "pending": "Pending",
    "transactional": "Non-subscribed",
    "unsubscribed": "Unsubscribed",
    "cleaned": "Cleaned",
    "archived": "Archived",
    "forgotten": "Deleted permanently",
    "absent": "Not in the audience",
    "moved": "Changed address",
}
STATUS_MEANS = {
    "subscribed": "gets the newsletter",
    "pending": "was asked to confirm and has not",
    "transactional": "gets transactional mail only, no newsletter",
    "unsubscribed": "opted out; this sync never undoes that",
    "cleaned": "cannot be reached: mail to this address bounces",
    "archived": "is out of the audience, its history is kept",
    "forgotten": "was deleted permanently; Mailchimp refuses the address from then on",
    "absent": "is not in the audience",
    "moved": "has another address in Mailchimp now",
}
KIND = {
    "create": "Create contact",
    "update": "Update contact",
    "restore": "Restore contact",
    "archive": "Archive contact",
}
REASON = {
    "new_customer": "new customer",
    "fields_changed": "a mapped field changed in QuickBooks",
    "unchanged": "up to date",
    "owner_changed": "the contact now shows another customer with the same address",
    "adopted": "the address was in the audience already; its status was kept",
    "address_changed": "the customer's address changed in QuickBooks",
    "address_returned": "the customer returned to a former address",
    "reactivated": "the customer is active again in QuickBooks",
    "inactive_tagged": "the customer is inactive, and the settings say to tag it",
    "kept_inactive": "the customer is inactive, and the settings say to keep the contact",
    "inactive": "the customer is inactive in QuickBooks",
    "gone": "the customer was merged away or deleted in QuickBooks",
    "no_customer": "no customer uses the address",
    "no_email": "the customer has no e-mail address in QuickBooks",
    "invalid_email": "invalid e-mail address in QuickBooks",
    "job_excluded": "it is a job or sub-customer, and the settings leave those out",
    "customer_type_excluded": "the settings leave customers of its type out",
    "currency_excluded": "the settings leave customers with its currency out",
    "custom_field_excluded": "the settings leave customers out by a custom field",
    "creation_off": "it is not in the audience, and the settings create no contacts",
    "project": "it is a project, and projects are never contacts",
    "shared_address": "several customers share the address, and another one of them is shown",
    "parked": "Mailchimp asked to retry this address later",
    "opted_out_elsewhere": "the person opted out under a former address",
    "archived_by_marketer": "a user archived the contact in Mailchimp, and it stays archived",
    "forgotten": "the contact was deleted permanently in Mailchimp",
    "address_changed_in_mailchimp": "the person changed their address in Mailchimp; "
    "copy it to QuickBooks, or leave it",
    "owned_by_another_sync": "another sync had the contact first, so this one skips it",
    "left_to_another_sync": "no customer of this sync uses the address; another sync takes it over",
    "suppressed": "the person is never to be imported again",
    "compliance": "Mailchimp refuses the address: the person unsubscribed, bounced or complained",
    "fake_email": "Mailchimp rejected the address as fake or invalid",
    "member_exists": "the address was in the audience already",
    "signup_throttled": "the person signed up to many lists lately; will be retried",
    "unanswered": "Mailchimp's response did not mention this contact; will be retried",
    "cannot_archive_pending": "Mailchimp does not archive pending contacts",
    "cannot_archive_cleaned": "Mailchimp does not archive cleaned contacts",
    "undo": "a person undid a run",
    "undone": "a run was undone; written again when QuickBooks or the settings change",
    "changed_since": "it was changed since that run",
    "not_in_audience": "it is no longer in the audience",
    "erased": "its data in the audit was erased",
    "not_observed": "what it showed before was never read",
    "consent_would_rise": "taking it back would raise consent",
    "nothing_to_undo": "the run did not change it",
    "undone_already": "it is already as before the run",
    "failed_or_parked": "its write failed or is parked",
    "not_written_in_quickbooks": "QuickBooks refused its activity, or it is parked",
    "by_hand": "a person asked for it",
    "call_list": "a person asked for names, addresses and phone numbers",
    "changed_in_mailchimp": "a person changed it in Mailchimp",
    "filled_before_the_sync": "it had a value before the sync",
    "member_before_the_sync": "the member was in the audience before the sync",
    "check": "`ml-connector check` ran",
    "register_webhooks": "`ml-connector register-webhooks` ran",
    "guard": "the plan was the sync's first, or larger than the guard allows",
    "rate_limit": "there were too many requests",
    "no_contact": "the customer has no contact",
}
BECAUSE = {
    "new_customer": "the customer was new",
    "invalid_email": "the customer's e-mail address in QuickBooks is invalid",
}
"""Reasons of a write as clauses, where the reason is a noun phrase."""
DONE = {"create": "created", "restore": "restored", "archive": "archived"}
CHANGE_STATE = {
    "pending": "waiting",
    "parked": "waits for a retry",
    "failed": "failed",
    "applied": "done",
    "superseded": "superseded: data changed before it was written",
    "left": "unchanged",
    "preview": "preview only",
}
INBOX = {
    "dead": "dead-lettered",
    "quarantined": "quarantined",
    "pending": "waiting",
    "leased": "in progress",
    "done": "done",
    "ignored": "ignored",
}
OUTCOME = {
    "consent_raised": "stopped: consent would have risen",
    "failed": "failed",
    "refused": "refused",
    "unheard": "outcome unknown",
    "conflict": "conflict: changed meanwhile",
    "parked": "waits for a retry",
    "requested": "requested",
    "applied": "done",
    "approved": "approved",
    "rejected": "rejected, nothing was written",
    "unanswered": "not approved in time, nothing was written",
    "outdated": "approved too late: data had changed, nothing was written",
    "skipped": "skipped",
    "linked": "linked",
    "left": "unchanged",
    "evaluated": "evaluated",
    "requeued": "requeued",
    "waited": "waited",
    "gave_up": "stopped retrying",
    **{state: INBOX[state] for state in ("dead", "quarantined", "done", "ignored")},
}
ACTION = {
    **KIND,
    "delete_contact": "Delete contact permanently",
    "skip": "Contact",
    "link": "Shared contact",
    "write_notes": "Write Notes",
    "attach_note": "Attach note",
    "remove_note": "Remove attached note",
    "use_edit": "Use Mailchimp's value in QuickBooks",
    "ask_restore": "Restore QuickBooks' value",
    "create_merge_field": "Add merge field",
    "create_webhook": "Register webhook",
    "update_webhook": "Update webhook",
    "delete_webhook": "Remove webhook",
    "probe_batch": "Probe batch call",
    "webhook": "Webhook",
    "rate_limited": "Rate limit",
    "large_plan": "Approval of a plan",
    "replay": "Replay",
    "undo": "Undo",
    "forget": "Erase person",
    "export_customers": "Download customers",
    "retry_customers": "Retry customers",
    "start_run": "Start run",
    "start_preview": "Start preview",
}
DRIFT = {
    "differs": "Another value",
    "address": "Another address",
    "only_in_mailchimp": "Only in Mailchimp",
    "only_in_quickbooks": "Only in QuickBooks",
}
DRIFT_RULE = {
    "next_run": "the next run writes QuickBooks' value",
    "no_customer": "no customer has the address",
    "fill_empty": "filled before the sync, stays",
    "overwrite": "the next run writes QuickBooks' value",
    "skip": "member from before the sync, stays",
}
EDIT_RULE = {
    "keep": "the edit stays",
    "restore": "QuickBooks' value comes back",
    "suggest": "the edit stays and is suggested to QuickBooks",
}

EVENT = {
    "subscribed": "Subscribed",
    "pending": "Asked to subscribe, not confirmed yet",
    "transactional": "Set to transactional mail only",
    "unsubscribed": "Unsubscribed",
    "cleaned": "Mail bounced permanently",
    "complained": "Reported a mail as spam",
    "archived": "Was archived in Mailchimp",
    "forgotten": "Was deleted permanently in Mailchimp",
    "profile_changed": "Changed their details in Mailchimp",
    "address_changed": "Changed their address in Mailchimp",
    "engaged": "Opened or clicked",
    "quiet": "Has not opened or clicked for 30 days",
    "bouncing": "Mail bounces for now",
    "bounced": "Mail bounced permanently",
}
HAPPENED = {
    "subscribed": "The person subscribed in Mailchimp",
    "pending": "The person asked to subscribe and had not confirmed yet",
    "transactional": "The contact was set to transactional mail only in Mailchimp",
    "unsubscribed": "The person unsubscribed in Mailchimp",
    "cleaned": "Mail to it bounced permanently",
    "complained": "The person reported a mail as spam",
    "archived": "A user archived it in Mailchimp",
    "forgotten": "A user deleted it permanently in Mailchimp",
    "profile_changed": "The person changed their details in Mailchimp",
    "address_changed": "The person changed their address in Mailchimp",
    "engaged": "The person opened or clicked",
    "quiet": "The person had not opened or clicked for 30 days",
    "bouncing": "Mail to it bounced for now",
    "bounced": "Mail to it bounced permanently",
}
"""Member events as the start of a sentence that ends with a date."""
ENGAGEMENT = {
    Engagement.ENGAGED.value: "Opens or clicks",
    Engagement.QUIET.value: "No opens lately",
    Engagement.NEVER_OPENED.value: "Never opened",
    Engagement.NEVER_MAILED.value: "Never mailed",
    Engagement.BOUNCING.value: "Mail bounces for now",
    Engagement.BOUNCED.value: "Mail bounced permanently",
    Engagement.COMPLAINED.value: "Reported spam",
}
DECISION = {
    "contact": "Contact",
    "linked": "Shown as another customer",
    "skipped": "No contact",
    "none": "Not decided",
}
FILTER = {
    "status": "Status",
    "engagement": "Engagement",
    "decision": "Decision",
    "reason": "Reason",
    "quickbooks": "In QuickBooks",
    "audience": "Audience",
    "waiting": "Waiting for",
    "unfit": "Field not sent",
    "tag": "Tag",
    "bounced_since": "Bounced since",
    "unsubscribed_since": "Unsubscribed since",
    "changed_since": "Changed in QuickBooks since",
}
CHOICE = {
    "status": STATUS,
    "engagement": ENGAGEMENT,
    "decision": DECISION,
    "quickbooks": {
        "active": "Active",
        "inactive": "Inactive",
        "gone": "Merged or deleted",
        "all": "All, merged and deleted ones too",
    },
    "audience": {"in": "In the audience", "out": "Not in the audience"},
    "waiting": {
        "decision": "A decision",
        "mailchimp": "A retry with Mailchimp",
        "quickbooks": "A write to QuickBooks",
        "refused": "Refused by QuickBooks",
        "retry": "Anything that failed or is parked",
    },
}
"""Labels of the values of a filter, in the order of their meaning."""
INBOX_REASON = {
    "unknown_realm": "for a company that no sync names",
    "unknown_audience": "for an audience that no sync names",
    "unknown_type": "of a type we do not know",
    "unknown_format": "in a form we do not know",
    "entity_not_used": "about something we do not use",
    "type_not_used": "of a type we do not use",
    "not_json": "not JSON",
    "not_a_form": "not a form",
    "nested_too_deep": "nested too deep",
    "too_many_events": "too many events at once",
    "no_id": "without an id",
    "no_email": "without an address",
    "no_sync": "it belongs to no sync",
    "not_found": "QuickBooks does not know the customer",
    "lease_expired": "its worker stopped before finishing it, five times",
}
WEBHOOK = {
    "customer.created": "Customer created",
    "customer.updated": "Customer changed",
    "customer.deleted": "Customer deleted",
    "customer.merged": "Customers merged",
    "subscribe": "Member subscribed",
    "unsubscribe": "Member unsubscribed",
    "profile": "Member's details changed",
    "upemail": "Member's address changed",
    "cleaned": "Mail to a member bounced permanently",
    "campaign": "Campaign sent",
}
"""What a webhook event reports, by its kind."""
BLOCK = {
    "due": "waiting to be written",
    "stale": "waiting to be read again: another user wrote the customer first",
    "shown": "written",
    "parked": "waiting for the next run",
    "refused": "refused by QuickBooks",
}
PLAN_STATE = {
    "waiting": "waits for approval",
    "open": "running",
    "approved": "approved, running",
    "failed": "failed",
    "finished": "finished",
    "rejected": "rejected",
    "outdated": "approved too late",
}
PLAN = {
    "sync": "Daily sync",
    "preview": "Preview",
    "webhooks": "Webhooks",
    "replay": "Replay",
    "undo": "Undo",
    "undo_preview": "Preview of an undo",
}
SYSTEM = {"quickbooks": "QuickBooks", "mailchimp": "Mailchimp"}
_TONES = {
    "good": {"subscribed", "applied", "done", "shown", "contact", "engaged", "finished"},
    "bad": {
        "failed", "dead", "refused", "consent_raised", "cleaned", "bounced", "quarantined",
        "complained",
    },
    "warn": {
        "unsubscribed", "pending", "parked", "conflict", "leased", "due", "stale", "bouncing", "moved",
        "waiting", "outdated",
    },
    "info": {"transactional", "linked", "preview", "open", "approved"},
}  # fmt: skip


def label(name: object) -> str:
    """Return the label of a name that has no entry above."""
    return str(name).replace("_", " ")


_COMMAND = re.compile(r"(?:[;,.]| or|\s)*\s*run `ml-connector connect (\w+)`.*", re.DOTALL)
"""Where an error asks to connect. The button takes its place, so the rest is cut."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error's sentence. ``connect``: the system whose Connect button fixes it, or empty."""

    said: str
    connect: str = ""


def fault(text: str | None) -> Fault:
    """Return an error as the console shows it: the Connect button in place of the command."""
    said = text or ""
    found = _COMMAND.search(said)
    if found is None or found[1] not in SYSTEM:
        return Fault(said)
    return Fault(said[: found.start()], found[1])


def ordered(names: Iterable[str], table: Mapping[str, str]) -> list[str]:
    """Return names in the order of a table; those it lacks follow, by name."""
    places = {name: place for place, name in enumerate(table)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def action(name: str) -> str:
    """Return the label of an action."""
    return ACTION.get(name) or sentence(label(name))


def webhook(kind: str) -> str:
    """Return what a webhook event of this kind reports."""
    return WEBHOOK.get(kind) or sentence(label(kind.replace(".", " ")))


def reason(name: str | None) -> str:
    """Return the explanation of a reason. A webhook event or a member event is one too."""
    if not name:
        return "no reason was recorded"
    event = WEBHOOK.get(name) or EVENT.get(name)
    return REASON.get(name) or (clause(event) if event else label(name))


def in_short(name: str | None) -> str:
    """Return a reason in a few words."""
    return short_reason(name or "no contact")


def inbox_reason(name: str | None) -> str:
    """Return why an event is in its state; empty without a reason."""
    return INBOX_REASON.get(name, name) if name else ""


def sentence(text: str) -> str:
    """Capitalise the first letter of a text."""
    return text[:1].upper() + text[1:]


def clause(text: str) -> str:
    """Write the first letter of a text small, so that a sentence can go on with it."""
    return text[:1].lower() + text[1:]


def tone(name: object) -> str:
    """Return the colour of a state: good, bad, warn, info or none."""
    return next((tone for tone, names in _TONES.items() if str(name) in names), "none")


def drift_rule(rule: str) -> str:
    """Return which rule decides on a difference, in words."""
    return DRIFT_RULE.get(rule) or EDIT_RULE.get(rule) or reason(rule)
