"""Rehearsal report: what a plan would do, with samples of what it would overwrite.

Personal data: for a terminal, never for a log.
"""

from ml_connector.scope import Scope
from ml_connector.store import plans
from ml_connector.sync.forecast import shown
from ml_connector.sync.overwrites import overwrite_samples


def report_of(scope: Scope, *, plan_id: int) -> list[str]:
    """Return the report of a plan that is not written, a line each; empty without a forecast."""
    with scope.database.begin() as connection:
        expected = shown(plans.forecast_of(connection, plan_id=plan_id))
        if expected is None:
            return []
        samples = overwrite_samples(scope, connection, plan_id=plan_id, counts=expected.overwrites)
    return list(expected.sentences(samples))
