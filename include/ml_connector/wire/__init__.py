"""What both clients share: transport, retries, formats, the webhook event."""
