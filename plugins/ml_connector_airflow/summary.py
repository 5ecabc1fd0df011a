"""Task summary: the last line of a task's log, with counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from ml_connector_airflow.compat import failed_by

log = structlog.get_logger(__name__)


def summarise(context: Mapping[str, Any], result: Any = None) -> None:
    """Log one line of counts. Airflow calls it after a task's work (``post_execute``)."""
    log.info("task_summary", **fields(context["ti"], result))


def summarise_failure(context: Mapping[str, Any]) -> None:
    """Log a failed try with its kind of error. Airflow calls it after each failed try."""
    log.info(
        "task_summary", **fields_of_failure(context["ti"], failed_by(context.get("exception")))
    )


def fields(instance: Any, result: Any) -> dict[str, Any]:
    """Return the fields of the summary line: the task, its shard, its counts."""
    index = getattr(instance, "map_index", None)
    shard = {} if index is None or index < 0 else {"map_index": index}
    return {"dag": instance.dag_id, "task": instance.task_id, **shard, **result_counts(result)}


def fields_of_failure(instance: Any, error: object) -> dict[str, Any]:
    """Return the fields of a failed try's line: the task, the try, the kind of error."""
    # Not the error's text: other libraries' may contain addresses or secrets.
    kind = type(error).__name__
    return {**fields(instance, None), "failed_try": instance.try_number, "error": kind}


def result_counts(result: Any) -> dict[str, int | bool]:
    """Return the numbers in a task's result by name, and the lengths of lists; no texts."""
    if isinstance(result, bool | int):
        return {"result": result}
    if isinstance(result, Sequence) and not isinstance(result, str | bytes):
        return {"results": len(result)}
    if not isinstance(result, Mapping):
        return {}
    found: dict[str, int | bool] = {}
    for name, value in result.items():
        inner = result_counts(value)
        for key, number in inner.items():
            whole = key in {"result", "results"} and not isinstance(value, Mapping)
            found[f"{name}" if whole else f"{name}.{key}"] = number
    return found
