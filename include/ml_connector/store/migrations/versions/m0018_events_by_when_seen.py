"""What members did is found by when it was seen: each report and overview read all events ever."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Swap an index that nothing looks into for one that reports and overviews do."""
    op.execute("CREATE INDEX member_events_seen ON ml_connector.member_events (sync, seen_at)")
    op.execute("DROP INDEX ml_connector.member_events_newest")
