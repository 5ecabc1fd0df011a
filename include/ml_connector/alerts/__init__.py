"""Alerts: causes with their recipients, and the message texts."""
