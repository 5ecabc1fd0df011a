"""Subscriber activity on QuickBooks customers: queue it, write it, read engagement."""
