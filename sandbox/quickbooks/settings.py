"""Switches of the QuickBooks mock server, changed by ``PUT /_sandbox/settings``."""

from typing import Any

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the mock server behaves where Intuit's behaviour varies or is not known.

    ``rotate``: "daily" (a new refresh token on the first refresh 24 h after the last, as Intuit
    does), "always", or a number of seconds in place of the 24 h. ``grace_seconds``: how long the
    previous refresh token still works after a new one is issued (sources disagree: 0 or 24 h).
    ``read_ahead_seconds``: how much later LastUpdatedTime is on a read than in a query (recorded
    traffic shows the two disagree). ``batch_limit`` is 30 by the reference, 10 by the guide.
    ``inactive_refuses_updates``: fault 610 for an update of an inactive customer that does not send
    Active (its wording says as much; no recording shows it).
    """

    access_token_seconds: int = 3600
    rotate: str | float = "daily"
    grace_seconds: float = 0.0
    revoke_on_concurrent: bool = False
    reuse_revokes_family: bool = False
    token_latency_ms: float = 0.0
    deny_consent: bool = False
    enforce_limits: bool = False
    read_ahead_seconds: int = 0
    attachable_bumps_customer: bool = False
    batch_limit: int = 30
    inactive_refuses_updates: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.rotate, str) and self.rotate not in {"daily", "always"}:
            raise ValueError("rotate is 'daily', 'always' or a number of seconds")

    @property
    def rotate_after_seconds(self) -> float:
        """Return seconds after which a refresh brings a new refresh token."""
        if isinstance(self.rotate, str):
            return {"daily": 86400.0, "always": 0.0}[self.rotate]
        return self.rotate

    def changed(self, posted: object) -> "Settings":
        """Return the settings with some replaced.

        Raises:
            ValueError: an unknown setting, or a value of the wrong type.
        """
        current: dict[str, Any] = msgspec.to_builtins(self)
        return msgspec.convert(current | msgspec.convert(posted, dict[str, Any]), Settings)
