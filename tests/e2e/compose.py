"""docker-compose.yaml without an engine: the same commands and environment, as processes.

What an engine would do is done here with as little of its own as possible:

- a service's name becomes 127.0.0.1, and each port of the file another one that is free;
- a volume, a secret and what the image has become folders, a container's own files too;
- Postgres is the embedded server; redis-server and caddy are Debian's;
- on one machine all containers have one host name, so workers are told theirs.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from local.airflow import for_processes
from local.errors import LocalError
from local.logs import last_words
from local.postgres import EmbeddedPostgres, binaries
from local.processes import Component, Processes
from ml_connector.vault import Vault
from sandbox.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0  # seconds until everything is healthy
PORTS = (5432, 6379, 8080, 8974, 9410, 9420, 9440, 9441)
AIRFLOW = "ml-connector"


@dataclass
class Container:
    """One container of a service."""

    name: str
    service: str
    component: Component


class Stack:
    """The services of the file as processes, in an order that their ``depends_on`` allows."""

    def __init__(
        self,
        folder: Path,
        given: Mapping[str, str],
        *,
        profiles: set[str],
        patience: float = PATIENCE,
    ) -> None:
        self.folder, self._given, self._patience = folder, given, patience
        file = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
        self._secrets = {name: one["environment"] for name, one in file["secrets"].items()}
        self.services = {
            name: service
            for name, service in file["services"].items()
            if set(service.get("profiles", profiles)) & profiles
        }
        self.ports = {port: free_port() for port in PORTS}
        self.containers: list[Container] = []
        self._healthy: set[str] = set()
        self._postgres = EmbeddedPostgres(folder / "postgres", throwaway=True)
        self._processes = Processes(folder / "logs")

    @property
    def site(self) -> str:
        """Where the proxy is reached."""
        return self._given["WEBHOOK_SITE"]

    def url(self, port: int) -> str:
        """Where a port of the file is."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def database_url(self, name: str = "ml_connector") -> str:
        """A database for psycopg."""
        return self._postgres.url(name, driver="")

    def start(self) -> None:
        """Start everything and wait until all health checks of the file pass."""
        self._postgres.start()
        self.ports[5432] = self._postgres.port
        self._postgres.create_database("airflow")  # POSTGRES_DB
        self._write_files()
        left = [name for name in self.services if name != "postgres"]
        deadline = time.monotonic() + self._patience
        while left:
            for name in list(left):
                if all(self._met(*each) for each in self._waits(name)):
                    self._start(name)
                    left.remove(name)
            self._give_up(deadline, f"these wait for others: {left}")
        for name, service in self.services.items():
            ready = self.is_healthy if "healthcheck" in service else self._has_ended
            while not ready(name):
                self._give_up(deadline, f"{name} is not ready")

    def stop(self) -> None:
        """Stop everything; nothing is left running."""
        with suppress(LocalError):
            self._processes.stop()
        self._postgres.stop()

    def is_healthy(self, service: str) -> bool:
        """Run a service's health check in each of its containers, as the engine would."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        names = [one.name for one in self.containers if one.service == service] or [service]
        return all(self._passes(service, name, kind, words) for name in names)

    def exec(
        self, service: str, *command: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of a service, as ``docker compose exec``."""
        words = [self._mapped(word, service) for word in command]
        return subprocess.run(
            words,
            env=self._environment(service, service) | environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )

    def password(self) -> str:
        """The password of Airflow's user."""
        file = self.folder / "volumes/state/passwords.json"
        return str(json.loads(file.read_text())["admin"])

    def vault(self) -> Vault:
        """What decrypts the connector's tables."""
        return vault_of(self.folder / "secrets")

    def lose(self, _hostname: str, pid: int) -> None:
        """SIGKILL every process of a process's container at once, as losing its machine would."""
        session = os.getsid(pid)
        container = next(one for one in self.containers if one.component.process.pid == session)
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == session:
                    process.kill()
        container.component.process.wait(10)
        self.containers.remove(container)

    def _start(self, service: str) -> None:
        replicas = self.services[service].get("deploy", {}).get("replicas", 1)
        for number in range(1, replicas + 1):
            name = service if replicas == 1 else f"{service}-{number}"
            command = self._command(service)
            if service == "worker":
                command += ["--celery-hostname", f"celery@{name}"]
            folder = self.folder / "containers" / name
            folder.mkdir(parents=True, exist_ok=True)
            component = self._processes.start(
                name, command, environment=self._environment(service, name), folder=folder
            )
            self.containers.append(Container(name, service, component))

    def _command(self, service: str) -> list[str]:
        spec = self.services[service]
        words = spec.get("command", [])
        words = words.split() if isinstance(words, str) else words
        entry = spec.get("entrypoint", ["airflow"] if spec["image"].startswith(AIRFLOW) else [])
        return [self._mapped(word, service) for word in [*entry, *words]]

    def _environment(self, service: str, name: str) -> dict[str, str]:
        here = Path(sys.prefix) / "bin"
        machine = {
            "PATH": f"{here}:{binaries()}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(str(ROOT / each) for each in ("include", "plugins", "")),
            "HOSTNAME": name,
            "XDG_DATA_HOME": str(self.folder / "containers" / name),
            "XDG_CONFIG_HOME": str(self.folder / "containers" / name),
        }
        if self.services[service]["image"].startswith(AIRFLOW):
            # As the image has it; and ports that containers may share, but processes may not.
            machine |= {
                "AIRFLOW_HOME": "/opt/airflow",
                "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": "8080",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": "8974",
                "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
                "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
                "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            }
        wanted = {**machine, **self.services[service].get("environment", {})}
        return for_processes({key: self._mapped(value, name) for key, value in wanted.items()})

    def _mapped(self, text: str, container: str = "") -> str:
        """A text of the file with what an engine puts into it, for this machine."""
        text = re.sub(r"(?<!\$)\$\{(\w+)(?::-(.*?))?\}", self._interpolated, text)
        text = text.replace("$$", "$").replace("0.0.0.0", "127.0.0.1")
        names = "|".join(["localhost", *self.services])
        # A port, and no password that starts with a digit.
        text = re.sub(rf"\b({names})(?=:\d+(?![\w-]))", "127.0.0.1", text)
        text = re.sub(r"(?<![\w.])\d{4}(?!\w)", self._port, text)
        for inside, outside in (
            ("/run/secrets/", self.folder / "secrets"),
            ("/etc/caddy/", self.folder / "deploy"),
            ("/etc/ml-connector/", ROOT / "include/config"),
            ("/opt/ml-connector/", self.folder / "deploy"),
            ("/opt/sandbox/", self.folder / "deploy/sandbox"),
            ("/opt/airflow/logs", self.folder / "volumes/logs"),
            ("/opt/airflow/state", self.folder / "volumes/state"),
            ("/opt/airflow", self.folder / "containers" / (container or "none")),
        ):
            tail = "/" if inside.endswith("/") else ""
            text = text.replace(inside, f"{outside}{tail}")
        return text

    def _interpolated(self, found: re.Match[str]) -> str:
        return self._given.get(found[1]) or found[2] or ""

    def _port(self, found: re.Match[str]) -> str:
        return str(self.ports.get(int(found[0]), found[0]))

    def _write_files(self) -> None:
        for name in ("secrets", "deploy", "volumes/logs", "volumes/state"):
            (self.folder / name).mkdir(parents=True)
        for name, variable in self._secrets.items():
            value = self._given.get(variable, "")
            value = self._postgres.password if name == "postgres_password" else value
            (self.folder / "secrets" / name).write_text(value)
        for file in (one for one in (ROOT / "deploy").rglob("*") if one.is_file()):
            copy = self.folder / "deploy" / file.relative_to(ROOT / "deploy")
            copy.parent.mkdir(exist_ok=True)
            text = file.read_text()
            copy.write_text(text if file.suffix == ".sh" else self._mapped(text))

    def _waits(self, service: str) -> Iterator[tuple[str, str]]:
        for name, how in self.services[service].get("depends_on", {}).items():
            if name in self.services:
                yield name, how["condition"]

    def _met(self, service: str, condition: str) -> bool:
        if service != "postgres" and service not in {one.service for one in self.containers}:
            return False
        if condition == "service_healthy":
            return service in self._healthy or self.is_healthy(service)
        return self._has_ended(service)

    def _has_ended(self, service: str) -> bool:
        (one,) = [one for one in self.containers if one.service == service]
        return one.component.process.poll() == 0

    def _passes(self, service: str, name: str, kind: str, words: list[str]) -> bool:
        words = [self._mapped(word, name) for word in words]
        words = ["127.0.0.1" if word == "localhost" else word for word in words]
        done = subprocess.run(
            ["sh", "-c", *words] if kind == "CMD-SHELL" else words,
            env=self._environment(service, name),
            capture_output=True,
            check=False,
            cwd=self.folder,
        )
        if done.returncode == 0:
            self._healthy.add(service)
        return done.returncode == 0

    def _give_up(self, deadline: float, reason: str) -> None:
        for one in self.containers:
            code = one.component.process.poll()
            if code is not None and (code or self.services[one.service].get("restart") != "no"):
                words = last_words(one.component.log, lines=5)
                raise LocalError(f"{one.name} stopped ({code}): {words}")
        if time.monotonic() > deadline:
            raise LocalError(reason)
        time.sleep(0.5)


def vault_of(folder: Path) -> Vault:
    """What decrypts the connector's tables, from a folder with a file for each secret."""
    key, index = (
        base64.b64decode((folder / name).read_text())
        for name in ("ml_connector_encryption_keys", "ml_connector_index_key")
    )
    return Vault(encryption_keys=[key], index_key=index)


def missing_programs() -> list[str]:
    """What has to be installed beside the environment: Debian's redis-server and caddy."""
    return [name for name in ("redis-server", "caddy") if shutil.which(name) is None]
