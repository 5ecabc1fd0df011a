"""Alerts: causes with their recipients, and the texts people read."""
