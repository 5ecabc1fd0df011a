"""The console's filters of the audit by run and by outcome: found without reading every row."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add two indexes. Most rows are applied, so the one by outcome leaves these out."""
    op.execute("CREATE INDEX audit_by_run ON ml_connector.audit (run_id, id)")
    op.execute("""CREATE INDEX audit_by_outcome ON ml_connector.audit (sync, outcome, id)
                  WHERE outcome <> 'applied'""")
