"""Persistence: everything the connector stores in Postgres, in the schema ``ml_connector``."""
