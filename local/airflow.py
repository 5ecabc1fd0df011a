"""Airflow on one machine: its environment, the seed of its database, its four processes."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local import warm
from local.errors import LocalError
from local.forks import ForkServer, Process
from local.logs import reason_of
from local.processes import Processes
from local.secrets import ADMIN, Secrets, passwords_file, write_private
from local.settings import REPOSITORY, Settings

CONNECTOR_DATABASE = "ml_connector"
AIRFLOW_DATABASE = "airflow"

# Slots times threads per task stays at or below 8 connections to each system (design, section 3).
POOLS = {
    "quickbooks_api": (2, "Tasks that talk to QuickBooks at the same time"),
    "mailchimp_api": (2, "Tasks that talk to Mailchimp at the same time"),
    # Of its own, so that webhooks do not wait behind the daily run.
    "webhooks": (1, "Tasks that process webhooks at the same time"),
}
EAGER_PLUGINS = "AIRFLOW__CORE__LAZY_LOAD_PLUGINS"
EXPIRED = "2000-01-01T00:00:00Z"


def environment(
    settings: Settings,
    secrets: Secrets,
    *,
    airflow_database: str,
    syncs_file: Path,
    schedule: bool = True,
) -> dict[str, str]:
    """Return the variables that make ``airflow`` and ``ml-connector`` use this state folder.

    Args:
        settings: The run.
        secrets: Its keys.
        airflow_database: URL of Airflow's own database.
        syncs_file: The connector's settings file.
        schedule: Whether DAGs also start by their schedule; a single run starts just its own.
    """
    ports = settings.ports
    python_path = [REPOSITORY / "include", REPOSITORY / "plugins", REPOSITORY]
    return {
        "AIRFLOW_HOME": str(settings.home / "airflow"),
        "PYTHONPATH": os.pathsep.join(map(str, python_path)),
        "ML_CONNECTOR_HOME": str(settings.home),
        "ML_CONNECTOR_SYNCS": str(syncs_file),
        **({"ML_CONNECTOR_FIRST_RUN": "write"} if settings.approve else {}),
        **({"ML_CONNECTOR_PUBLIC_URL": settings.public_url} if settings.public_url else {}),
        "ML_CONNECTOR_ENCRYPTION_KEYS": secrets.encryption_keys,
        "ML_CONNECTOR_INDEX_KEY": secrets.index_key,
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags_folder),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # each is an idle process of about 100 MB
        "AIRFLOW__CORE__FERNET_KEY": secrets.fernet_key,
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file(settings.home)),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.ui}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow_database,
        "AIRFLOW__API__BASE_URL": settings.ui,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(ports.airflow_port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.jwt_secret,
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # Measured (facts on Airflow): from event to task start 1.12 s by default, 0.14 s so.
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # Without a fork server this loads our plugin, and with it preloaded.py, before the executor
        # forks its workers: a task then starts 1 to 2 s sooner.
        EAGER_PLUGINS: "False",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(schedule),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.logs / "tasks"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
            settings.logs / "dag-files"
        ),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports.log_server_port),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports.triggerer_log_port),
        # The first requests of a busy machine take longer than the default of 5 s, and a task whose
        # request gets no response in time is killed.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # A changed file is read at once; by default unchanged ones are too, twice a minute.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        # numpy's threads help nothing here, and a fork takes only one thread along.
        "OPENBLAS_NUM_THREADS": "1",
        # A finished task keeps its slot until the next heartbeat (seen with 3.3.2): with 5 s, the
        # default, a chain of short tasks fills all four slots and then waits for them.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # What a killed scheduler leaves is taken up by the next one half a minute later, and a task that
        # died is missed by then; by default both take 5 minutes, and meanwhile its run holds up the next.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def for_processes(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a started process: the caller's, without other Airflow settings."""
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW_", "PG")) and name not in {"PYTHONHOME", "PYTHONPATH"}
    }
    # Some machines set HOME to a folder that is not writable; nothing of ours is kept there.
    return mine | dict(variables) | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def write_shell_environment(path: Path, variables: Mapping[str, str]) -> None:
    """Write what a shell needs so that the commands of the venv use this state folder."""
    lines = [
        f"{name}={shlex.quote(value)}"
        for name, value in sorted(variables.items())
        if name != EAGER_PLUGINS  # a command forks no tasks, and starts a second sooner without
    ]
    write_private(path, "\n".join(lines) + "\n")


def wanted(settings: Settings, *, connector_database: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run puts into Airflow's database: connections, pools and the first token."""
    given = settings.credentials
    connections = [
        {
            "conn_id": "quickbooks_default",
            "conn_type": "quickbooks",
            "description": "The sandbox's company" if settings.sandbox else "",
            "host": given.quickbooks_url,
            "login": given.client_id,
            "password": given.client_secret,
            "extra": {
                "realm_id": given.realm_id,
                "token_url": given.token_url,
                "webhook_verifier_token": given.verifier_token,
            },
        },
        {
            "conn_id": "mailchimp_default",
            "conn_type": "mailchimp",
            "description": "The sandbox's account" if settings.sandbox else "",
            "host": given.mailchimp_url,
            "login": given.mailchimp_client_id,
            "password": given.mailchimp_key,
            "extra": {
                "client_secret": given.mailchimp_client_secret,
                "token_url": given.mailchimp_token_url,
                "webhook_secret": given.webhook_secret,
                "webhook_signing_secret": given.signing_secret,
            },
        },
        {
            "conn_id": "ml_connector_db",
            "conn_type": "postgres",
            "description": "The connector's own tables",
            "extra": {},
            **connector_database,
        },
    ]
    for connection in connections:
        connection["extra"] = {name: value for name, value in connection["extra"].items() if value}
    return {
        "connections": connections,
        "pools": [
            {"name": name, "slots": slots, "description": description}
            for name, (slots, description) in POOLS.items()
        ],
        "token": {
            "variable": "quickbooks_token__quickbooks_default",
            "value": {
                "access_token": "",
                "refresh_token": given.refresh_token,
                "expires_at": EXPIRED,
            }
            if given.refresh_token
            else None,
        },
    }


def start_fork_server(processes: Processes, variables: Mapping[str, str]) -> ForkServer:
    """Start the fork server and let it import what the setup of the database needs."""
    lazy = {name: value for name, value in variables.items() if name != EAGER_PLUGINS}
    forks = processes.start_fork_server(environment=for_processes(lazy), folder=REPOSITORY)
    forks.preload(*warm.SETUP)
    return forks


def prepare(
    settings: Settings,
    variables: Mapping[str, str],
    seed: Mapping[str, Any],
    *,
    forks: ForkServer | None = None,
) -> Process:
    """Begin to migrate Airflow's database and to seed it."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / "airflow-setup.log"
    given = json.dumps(seed)
    if forks:
        argv = ["ml-connector setup"]
        return forks.start("local.prepare:main", argv, log=log, folder=REPOSITORY, given=given)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.prepare"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=for_processes(variables),
            cwd=REPOSITORY,
            start_new_session=True,
        )
    # Over a pipe, not as an argument: every user of the machine can read arguments.
    if process.stdin:
        process.stdin.write(given.encode())
        process.stdin.close()
    return process


def finish_preparing(settings: Settings, process: Process) -> None:
    """Wait for what ``prepare`` began.

    Raises:
        LocalError: It failed; carries the reason from its log.
    """
    log = settings.logs / "airflow-setup.log"
    if process.wait():
        raise LocalError(f"Airflow's database could not be set up: {reason_of(log)}", log=log)


def start(
    processes: Processes, names: tuple[str, ...], settings: Settings, variables: Mapping[str, str]
) -> None:
    """Start Airflow's components, each with its own log."""
    program = Path(sys.executable).with_name("airflow")
    for name in names:
        arguments: list[str | Path] = (
            ["airflow", name] if processes.forking else [sys.executable, program, name]
        )
        # In the state folder: Airflow writes a few files into its working directory.
        processes.start(
            name,
            arguments,
            environment=for_processes(variables),
            folder=settings.home,
            restart=True,
            entry="airflow.__main__:main",
        )
