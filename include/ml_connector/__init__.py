"""QuickBooks Online customers and a Mailchimp audience, kept in step."""
