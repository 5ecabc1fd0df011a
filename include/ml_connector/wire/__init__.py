"""Shared parts of both clients: transport, retries, formats, the webhook event."""
