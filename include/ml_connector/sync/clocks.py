"""Clock skew: compare our clock with the one in a system's responses, and report a large difference.

Watermarks are kept in the other system's time, so a skew makes a run read more, never less (D10).
"""

from datetime import timedelta

import structlog

from ml_connector.scope import Scope

WORTH_LOGGING = timedelta(minutes=1)
"""A smaller skew is ordinary: responses take seconds, and their clock ticks once a second."""

log = structlog.get_logger(__name__)


def note_skew(scope: Scope, system: str, skew: timedelta, *, overlap: timedelta) -> None:
    """Log a ``skew`` over a minute, and keep one over the ``overlap`` in ``scope.skews``.

    ``skew``: the system's clock less ours. The task raises an alert for what is in ``scope.skews``.
    """
    if abs(skew) > WORTH_LOGGING:
        seconds = round(skew.total_seconds())
        log.warning("clock_skew", sync=scope.name, system=system, seconds=seconds)
    if abs(skew) > overlap:
        scope.skews[system] = skew
