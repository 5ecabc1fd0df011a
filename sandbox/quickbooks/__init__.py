"""A mock server for the QuickBooks Online Accounting API v3 and Intuit's OAuth 2.0 server."""
