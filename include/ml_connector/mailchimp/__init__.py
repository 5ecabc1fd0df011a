"""Mailchimp: client, protocol, error interpretation, webhooks."""
