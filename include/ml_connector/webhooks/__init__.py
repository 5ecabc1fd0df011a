"""Webhooks of both systems: receive, store in the inbox, process, register."""
