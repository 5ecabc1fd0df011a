"""Audit batches: digests at write time, ids in one piece, seals that link batches."""

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Add what ``m0021_audit_batches.sql`` says; rows and seals of before stay as they are."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script.replace("%", "%%"))  # the driver's own sign of a parameter
