"""The services of a docker-compose.yaml as containers."""

import json
import time
from pathlib import Path

import yaml

from ml_connector.vault import Vault
from tests.containers.engine import Engine, EngineError
from tests.e2e.compose import vault_of
from tests.e2e.distributed import wait_for

PROFILES = ("sandbox", "proxy")
PATIENCE = 600.0  # seconds until everything is healthy
PUBLISHED = {8080}
PLACES = {9410: "sandbox", 9420: "sandbox", 5432: "postgres"}
"""The service of each port that the file does not publish; asked at the container's own address."""


class Project:
    """A project of Compose, in one version of its files."""

    def __init__(self, docker: Engine, tree: Path, secrets: Path, overrides: dict) -> None:
        self._docker, self.tree, self._secrets = docker, tree, secrets
        (tree / "secrets").symlink_to(secrets)
        (tree / "tests.yaml").write_text(yaml.safe_dump(overrides))
        files = ("docker-compose.yaml", "deploy/compose.secret-files.yaml", "tests.yaml")
        self._options = [
            "--ansi",
            "never",
            "--project-name",
            "ml-connector",
            "--env-file",
            ".env.compose",
        ]
        self._options += [word for file in files for word in ("--file", file)]
        self.services = yaml.safe_load((tree / "docker-compose.yaml").read_text())["services"]

    def compose(self, *words: str, profiles: tuple[str, ...] = ()) -> str:
        """Run a Compose command on the project; return what it prints."""
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        return self._docker("compose", *self._options, *chosen, *words, tree=self.tree)

    def up(self, *profiles: str) -> None:
        """Bring the services up and wait until every health check passes.

        On a busy machine a service may be late, and Compose gives up what waits for it: once more.
        """
        deadline = time.monotonic() + PATIENCE
        try:
            while not self._up(profiles):
                wait_for(lambda: not self.unready(), seconds=deadline - time.monotonic())
            wait_for(lambda: not self.unready(), seconds=PATIENCE)
        except TimeoutError as error:
            said = self.compose("logs", "--tail", "15", profiles=PROFILES)
            raise EngineError(f"not ready: {self.unready()}\n{said}") from error

    def _up(self, profiles: tuple[str, ...]) -> bool:
        try:
            self.compose("up", "--detach", "--no-build", "--pull", "never", profiles=profiles)
        except EngineError as error:
            if "unhealthy" not in str(error):
                raise
            return False
        return True

    def down(self) -> None:
        """Remove the project's containers, networks and volumes."""
        self.compose("down", "--volumes", "--remove-orphans", profiles=PROFILES)

    def exec(self, service: str, *command: str) -> str:
        """Run a command in a container of a service; return what it prints."""
        return self.compose("exec", "-T", service, *command)

    def containers(self, service: str = "") -> list[dict]:
        """What the engine knows of the containers, of one service or of all."""
        wanted = [service] if service else []
        ids = self.compose("ps", "--all", "--quiet", *wanted, profiles=PROFILES).split()
        return json.loads(self._docker("container", "inspect", *ids)) if ids else []

    def unready(self) -> list[str]:
        """Containers that were started and are neither healthy nor ended well."""
        return [
            f"{one['Name']}: {one['State']['Status']} {one['State'].get('Health', {}).get('Status')}"
            for one in self.containers()
            if one["State"].get("Health", {}).get("Status") != "healthy"
            and (one["State"]["Status"], one["State"]["ExitCode"]) != ("exited", 0)
            and one["State"]["Status"] != "created"
        ]

    def url(self, port: int) -> str:
        """Where a port of the file is."""
        host = "127.0.0.1" if port in PUBLISHED else self._address(PLACES[port])
        return f"http://{host}:{port}"

    def database_url(self, name: str = "ml_connector") -> str:
        """A database for psycopg."""
        password = (self._secrets / "postgres_password").read_text()
        return f"postgresql://postgres:{password}@{self._address('postgres')}:5432/{name}"

    def password(self) -> str:
        """The password of Airflow's user."""
        return json.loads(self.exec("api-server", "cat", "/opt/airflow/state/passwords.json"))[
            "admin"
        ]

    def vault(self) -> Vault:
        """What decrypts the connector's tables."""
        return vault_of(self._secrets)

    def lose(self, hostname: str, _pid: int) -> None:
        """SIGKILL the container of that host name, which does not come back."""
        self._docker("container", "kill", hostname)

    def _address(self, service: str) -> str:
        (one,) = self.containers(service)
        networks = one["NetworkSettings"]["Networks"]
        return networks["ml-connector_default"]["IPAddress"]
