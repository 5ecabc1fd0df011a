"""Airflow's public REST API, as far as the local run needs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from local.secrets import ADMIN

TIMEOUT = 15.0  # seconds a call may take; the first ones find a server still importing


@dataclass(frozen=True)
class TaskState:
    """A task of a DAG run, one for every mapped copy."""

    task_id: str
    map_index: int
    state: str
    try_number: int

    @property
    def label(self) -> str:
        """Return the task's name, with the number of the copy where there are several."""
        return self.task_id if self.map_index < 0 else f"{self.task_id} [{self.map_index}]"


class AirflowApi:
    """A session with Airflow's API server as the user ``admin``."""

    def __init__(self, url: str, *, password: str) -> None:
        self._url = url
        self._password = password
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy of the shell must not see loopback calls

    def is_up(self) -> bool:
        """Return whether the server responds and accepts our password."""
        try:
            answer = self._http.post(
                f"{self._url}/auth/token",
                json={"username": ADMIN, "password": self._password},
                timeout=TIMEOUT,
            )
        except requests.RequestException:
            return False
        if answer.status_code != 201:
            return False
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return True

    def has_dag(self, dag_id: str) -> bool:
        """Return whether the DAG was parsed."""
        return self._send("GET", f"/dags/{dag_id}", accept=(404,)).status_code == 200

    def import_errors(self) -> list[tuple[str, str]]:
        """Return files that could not be read as DAGs, with the last line of the reason."""
        found = self._get("/importErrors")["import_errors"]
        return [
            (error["filename"], (error["stack_trace"].strip().splitlines() or [""])[-1])
            for error in found
        ]

    def unpause(self, dag_id: str) -> None:
        """Let runs of the DAG start."""
        self._send("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run now; return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        run = self._send("POST", f"/dags/{dag_id}/dagRuns", body).json()
        return str(run["dag_run_id"])

    def end_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run and its tasks as successful, so that the next start does not resume it."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        self._send("PATCH", path, {"state": "success"})

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: queued, running, success or failed."""
        return str(self._get(f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"])

    def active_run_ids(self, dag_id: str) -> list[str]:
        """Return the runs of the DAG that are queued or running."""
        runs = self._get(f"/dags/{dag_id}/dagRuns?state=running&state=queued&limit=100")
        return [run["dag_run_id"] for run in runs["dag_runs"]]

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the state of every task of a run."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=1000"
        return [
            TaskState(
                task["task_id"], task["map_index"], task["state"] or "waiting", task["try_number"]
            )
            for task in self._get(path)["task_instances"]
        ]

    def _get(self, path: str) -> Any:
        return self._send("GET", path).json()

    def _send(
        self, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = ()
    ) -> requests.Response:
        answer = self._http.request(method, f"{self._url}/api/v2{path}", json=body, timeout=TIMEOUT)
        if answer.status_code not in accept:
            answer.raise_for_status()
        return answer
