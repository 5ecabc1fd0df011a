"""Short words for the reasons of decisions, for lists and counts. Pure.

The console's ``words.REASON`` has the same reasons as whole sentences.
"""

_SHORT = {
    "new_customer": "new customer",
    "no_email": "no e-mail address",
    "invalid_email": "invalid e-mail address",
    "inactive": "inactive in QuickBooks",
    "gone": "merged or deleted in QuickBooks",
    "job_excluded": "job or sub-customer",
    "project": "project",
    "customer_type_excluded": "customer type excluded",
    "currency_excluded": "currency excluded",
    "custom_field_excluded": "excluded by a custom field",
    "creation_off": "not in the audience, and new contacts are off",
    "shared_address": "same address as another customer",
    "parked": "Mailchimp asked to retry later",
    "opted_out_elsewhere": "opted out under a former address",
    "archived_by_marketer": "archived by a user in Mailchimp",
    "forgotten": "deleted permanently in Mailchimp",
    "address_changed_in_mailchimp": "address changed in Mailchimp",
    "owned_by_another_sync": "contact of another sync",
    "left_to_another_sync": "left to another sync",
    "suppressed": "on the suppression list",
    "compliance": "refused by Mailchimp: unsubscribed, bounced or complained",
    "fake_email": "refused by Mailchimp: fake or invalid address",
    "member_exists": "already in the audience",
    "merge_fields": "refused by Mailchimp: a merge field",
    "signup_throttled": "signed up to many lists lately",
    "unanswered": "not mentioned in Mailchimp's response",
    "cannot_archive_pending": "pending, which Mailchimp does not archive",
    "cannot_archive_cleaned": "cleaned, which Mailchimp does not archive",
    "undone": "undone run",
}


def short_reason(reason: str) -> str:
    """Return a reason in a few words: ``no e-mail address``."""
    return _SHORT.get(reason) or reason.replace("_", " ").replace("mailchimp", "Mailchimp")
