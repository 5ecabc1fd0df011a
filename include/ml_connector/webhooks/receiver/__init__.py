"""The HTTP receiver: verify a delivery, commit it, respond."""
