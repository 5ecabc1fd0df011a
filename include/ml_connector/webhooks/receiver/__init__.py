"""The HTTP receiver: prove a delivery genuine, commit it, respond."""
