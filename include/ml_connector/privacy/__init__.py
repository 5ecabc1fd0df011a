"""Erase a person and rotate keys: everything that touches all stored payloads."""
