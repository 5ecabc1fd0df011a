"""Sync QuickBooks Online customers with a Mailchimp audience."""
