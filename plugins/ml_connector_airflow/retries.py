"""Translate our errors to Airflow's retries: the only place that does.

A step has already retried each call. The task's own retry covers longer outages. An error that
needs a person fails at once, because a retry would only hide the message.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ml_connector.errors import Defect, RetryLater, StopRun, StorageError
from ml_connector_airflow.compat import (
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
    obeying,
    tasks_obeying,
)

RETRIES = 3
RETRY_DELAY = timedelta(minutes=1)

POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=StorageError,
            action=RetryAction.RETRY,
            retry_delay=timedelta(seconds=30),
            reason="the database may be back soon; nothing was lost",
        ),
        RetryRule(
            exception=StopRun,
            action=RetryAction.FAIL,
            reason="a person has to act; the error says what to do",
        ),
        RetryRule(
            exception=Defect,
            action=RetryAction.FAIL,
            reason="the same data would fail again",
        ),
        RetryRule(
            exception=RetryLater,
            action=RetryAction.RETRY,
            retry_delay=timedelta(minutes=2),
            reason="the other system may be back soon; what was done is kept",
        ),
    ]
)

task = tasks_obeying(POLICY)
"""Airflow's ``task`` decorator, for every task of ours."""


def fail_at_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let an operator's method obey the policy as a decorated task does."""
    return obeying(POLICY, function)
