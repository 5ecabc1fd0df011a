"""QuickBooks Online: authorisation, client, protocol, query statements, tokens, webhooks."""
