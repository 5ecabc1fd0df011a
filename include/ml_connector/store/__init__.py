"""Everything the connector remembers, in Postgres, schema ``ml_connector``."""
