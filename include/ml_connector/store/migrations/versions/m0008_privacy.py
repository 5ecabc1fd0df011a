"""Erasures of people, and the audit rows that were lawfully rewritten."""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0005"


def upgrade() -> None:
    """Add both tables; let the audit's trigger pass what ``m0008_privacy.sql`` says."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script.replace("%", "%%"))  # the driver's own sign of a parameter
