"""The first sync as a DAG run: started, watched, and explained if it fails."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from local.client import AirflowApi, TaskState
from local.errors import LocalError
from local.logs import last_words, reason_of
from local.processes import Processes
from local.progress import Progress
from local.settings import Settings

FINISHED = {"success", "failed"}
QUIET = {"waiting", "scheduled", "queued", "removed"}  # not worth a line
POLL = 0.3  # seconds
ASKS_A_PERSON = {"awaiting_input", "deferred"}


class FirstSync:
    """Triggers the sync's DAG and waits for it, with a line for every task that moves on.

    ``conf`` is the run's configuration. ``beside`` is called while it runs, until it returns true.
    """

    def __init__(
        self,
        api: AirflowApi,
        settings: Settings,
        processes: Processes,
        progress: Progress,
        *,
        conf: Mapping[str, Any],
        beside: Callable[[], bool] | None = None,
    ) -> None:
        self._conf = conf
        self._beside = beside
        self._asked = False
        self._api = api
        self._settings = settings
        self._processes = processes
        self._progress = progress
        self._shown: dict[str, str] = {}

    def run(self) -> bool:
        """Run the sync to its end; return False if it waits for a person to approve its plan.

        Raises:
            LocalError: A task failed, Airflow died, or the time is up.
        """
        dag_id = self._settings.dag_id
        # Triggered before it may run: then a run that the schedule adds can only come second.
        run_id = self._api.trigger(dag_id, self._conf)
        self._api.unpause(dag_id)
        self._progress.say(f"{dag_id} started")
        deadline = time.monotonic() + self._settings.timeout
        while True:
            self._processes.check()
            state = self._look(dag_id, run_id)
            if state == "failed":
                raise self._failure(run_id)
            if state == "success" and not self._api.active_run_ids(dag_id):
                self._progress.say(f"{dag_id} finished")
                return True
            if self._asked:
                return False
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{dag_id} is still {state or 'unknown'} after {self._settings.timeout:.0f} s "
                    "(RUN_TIMEOUT sets how long to wait)",
                    log=self._settings.logs / "tasks",
                )
            time.sleep(POLL)

    def _look(self, dag_id: str, run_id: str) -> str:
        try:
            for task in self._api.tasks(dag_id, run_id):
                self._show(task, run_id)
            # The run that the schedule adds may come first, and ours waits for its approval.
            for other in set(self._api.active_run_ids(dag_id)) - {run_id}:
                self._asked |= any(
                    task.state in ASKS_A_PERSON for task in self._api.tasks(dag_id, other)
                )
            if self._beside and self._beside():
                self._beside = None
            return self._api.run_state(dag_id, run_id)
        except (requests.ConnectionError, requests.Timeout):
            return ""  # a busy server; if it has died, the next check says so

    def _show(self, task: TaskState, run_id: str) -> None:
        if self._shown.get(task.label) == task.state or task.state in QUIET:
            return
        self._shown[task.label] = task.state
        if task.state == "up_for_retry":
            reason = reason_in(self._log(run_id, task))
            self._progress.say(f"  {task.label}: will be retried, after {reason}")
        else:
            self._progress.say(f"  {task.label}: {task.state}")
        if task.state in ASKS_A_PERSON:
            self._progress.say(f"  your decision is needed: {self._settings.ui}/required_actions")
            self._asked = True

    def _failure(self, run_id: str) -> LocalError:
        tasks = self._api.tasks(self._settings.dag_id, run_id)
        failed = next((task for task in tasks if task.state == "failed"), None)
        if failed is None:
            return LocalError(
                f"{self._settings.dag_id} failed before any task ran",
                log=self._settings.logs / "scheduler.log",
            )
        log = self._log(run_id, failed)
        return LocalError(f"task {failed.label} failed: {reason_in(log)}", log=log)

    def _log(self, run_id: str, task: TaskState) -> Path:
        folder = self._settings.logs / "tasks" / f"dag_id={self._settings.dag_id}"
        folder = folder / f"run_id={run_id}" / f"task_id={task.task_id}"
        if task.map_index >= 0:
            folder = folder / f"map_index={task.map_index}"
        return folder / f"attempt={task.try_number}.log"


def reason_in(log: Path) -> str:
    """Return the exception that ended a task from its JSON log, else the log's last line."""
    reason = ""
    for line in last_words(log, lines=200).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        for error in entry.get("error_detail") or ():
            if error.get("exc_value"):
                reason = f"{error['exc_type']}: {error['exc_value']}"
    return (reason or reason_of(log)).splitlines()[0]
