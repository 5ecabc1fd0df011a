"""Mock servers for the QuickBooks Online and Mailchimp APIs: small working systems, not mocks."""
