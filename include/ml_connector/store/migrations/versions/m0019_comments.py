"""Describe tables and columns in the database itself."""

from pathlib import Path

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the notes of ``m0019_comments.sql``; runs go on reading and writing meanwhile."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script.replace("%", "%%"))  # the driver's own sign of a parameter
