"""Translate our errors to Airflow's retries: the only place that does.

A step has already retried each call. The task's own retry covers longer outages. An error that
needs a person fails at once, because a retry would only hide the message.
"""

from datetime import timedelta

from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

from ml_connector.errors import Defect, RetryLater, StopRun, StorageError

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
