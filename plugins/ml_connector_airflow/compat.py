"""Run on Airflow 3.1 to 3.3: every fallback, with the version of Airflow it can go away with.

What an Airflow has itself is passed on under the name that the newest one gives it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from airflow.sdk import Connection, get_current_context

__all__ = [
    "AirflowNotFoundException",
    "AirflowSkipException",
    "CronDataIntervalTimetable",
    "ExceptionRetryPolicy",
    "RetryAction",
    "RetryRule",
    "conf",
    "connection_extra",
    "dags_in",
    "failed_by",
    "metadata_engine",
    "obeying",
    "policy_argument",
    "response_timeout",
    "stats",
    "tasks_obeying",
]

F = TypeVar("F", bound=Callable[..., Any])

try:
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSkipException,
    )
except ImportError:  # with 3.2
    from airflow.exceptions import (  # type: ignore[no-redef,attr-defined]
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSkipException,
    )

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # with 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable  # type: ignore[assignment]

try:
    from airflow.sdk.configuration import conf
except ImportError:  # with 3.2
    from airflow.configuration import conf

try:
    from airflow.sdk.observability import stats

    stats.incr  # noqa: B018 -- with 3.3: 3.2 has the class only
except ImportError:  # with 3.2
    from airflow.stats import Stats as stats  # type: ignore[no-redef] # noqa: N813
except AttributeError:
    stats = stats.Stats  # type: ignore[assignment]

try:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

    HAS_RETRY_POLICY = True
except ImportError:  # with 3.3
    HAS_RETRY_POLICY = False

    class RetryAction(Enum):  # type: ignore[no-redef]
        """What a rule does."""

        RETRY = "retry"
        FAIL = "fail"

    @dataclass(frozen=True, kw_only=True)
    class RetryRule:  # type: ignore[no-redef]
        """Map a class of errors to an action; Airflow's own delay is the task's."""

        exception: type[Exception]
        action: RetryAction
        reason: str = ""
        retry_delay: timedelta | None = None

    @dataclass(frozen=True)
    class ExceptionRetryPolicy:  # type: ignore[no-redef]
        """Apply the first rule whose class an error has."""

        rules: list[RetryRule]

        def evaluate(self, error: BaseException, **_: Any) -> RetryRule:
            """Return the rule for an error that has one."""
            return next(rule for rule in self.rules if isinstance(error, rule.exception))  # type: ignore[arg-type]


def policy_argument(policy: ExceptionRetryPolicy) -> dict[str, Any]:
    """Return the task argument that sets a retry policy. Before 3.3 there is none: ``obeying``."""
    return {"retry_policy": policy} if HAS_RETRY_POLICY else {}


def obeying(policy: ExceptionRetryPolicy, function: F) -> F:
    """Return ``function``, failing its task at once where the policy says so. With 3.3.

    Before 3.3 an error says so itself, by its class. The error of ours is its cause.
    """
    if HAS_RETRY_POLICY:
        return function

    failing: Any = tuple(rule.exception for rule in policy.rules)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except failing as error:
            if policy.evaluate(error, try_number=1, max_tries=1).action is RetryAction.FAIL:
                # Before 3.3 the callbacks of a dag.test() get no error otherwise.
                get_current_context()["exception"] = error
                raise AirflowFailException(str(error)) from error
            raise

    return run  # type: ignore[return-value]


def failed_by(error: object) -> object:
    """Return the error of ours behind a task's failure. With 3.3."""
    return error.__cause__ or error if isinstance(error, AirflowFailException) else error


def tasks_obeying(policy: ExceptionRetryPolicy) -> Any:
    """Return Airflow's ``task`` decorator, whose tasks obey the policy. With 3.3."""
    from airflow.sdk import task as airflows_task

    if HAS_RETRY_POLICY:
        return airflows_task

    def task(function: Callable[..., Any] | None = None, **arguments: Any) -> Any:
        if function is not None:
            return airflows_task(obeying(policy, function))
        return lambda given: airflows_task(**arguments)(obeying(policy, given))

    return task


def response_timeout(operator: type, limit: timedelta) -> dict[str, Any]:
    """Return the argument that limits how long an approval waits. With the standard provider 1.12."""
    known = signature(operator.__init__).parameters  # type: ignore[misc]
    return {"response_timeout" if "response_timeout" in known else "execution_timeout": limit}


async def connection_extra(connection: Connection) -> dict[str, Any]:
    """Return a connection's extra in a trigger. With 3.3, where reading it may block."""
    if hasattr(connection, "aextra_dejson"):
        return dict(await connection.aextra_dejson())
    return dict(connection.extra_dejson)


def metadata_engine() -> Any:
    """Return the engine of Airflow's own database. With 3.2."""
    from airflow import settings

    found = getattr(settings, "get_engine", None)
    return found() if found else settings.engine


def dags_in(folder: Path) -> Any:
    """Return the DAG bag of a folder: its ``dags`` and ``import_errors``. With 3.2."""
    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ImportError:
        import sys

        from airflow.models.dagbag import DagBag

        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        return DagBag(dag_folder=folder, bundle_path=folder, include_examples=False)
    return BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
