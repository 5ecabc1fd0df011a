"""Alembic's entry: runs the migrations on the connection that ``migrate.upgrade`` opened."""

from alembic import context

from ml_connector.store.migrate import SCHEMA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
