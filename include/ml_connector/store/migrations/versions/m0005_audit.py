"""The audit: by month, sealed, and each row with what set it off."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Convert the audit in place, as ``m0005_audit.sql`` says; no row is copied or changed."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script.replace("%", "%%"))  # the driver's own sign of a parameter
