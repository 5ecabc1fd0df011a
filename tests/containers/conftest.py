"""An engine, and the services that come up on it in the release before and go on in this one."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import KEPT, ROOM, Engine, engine
from tests.containers.images import FORMER, FORMER_IMAGE, NOW, compose_file
from tests.containers.project import Project
from tests.e2e.conftest import ended_by_sigterm  # noqa: F401 -- a fixture
from tests.e2e.distributed import DAG, ENDED, Distributed, keys, wait_for

CUSTOMERS = 2000


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    if ROOM not in os.environ:
        pytest.skip("these tests are run by `make test-containers`")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with engine(networks=True) as running:
        clear(running)  # what a run that was killed left in the engine's own folder
        yield running


def clear(docker: Engine) -> None:
    if ids := docker("container", "ls", "--all", "--quiet").split():
        docker("container", "rm", "--force", "--volumes", *ids)
    docker("network", "prune", "--force")
    if volumes := docker("volume", "ls", "--quiet").split():
        docker("volume", "rm", "--force", *volumes)


@pytest.fixture(scope="session")
def secret_files() -> Path:
    """As docs/how-to/install/docker.md has them: a file each, which group 0 may read."""
    folder = KEPT / "secrets"
    folder.mkdir(exist_ok=True)
    for name, value in {**keys(), "POSTGRES_PASSWORD": secrets.token_hex(24)}.items():
        file = folder / name.lower()
        file.write_text(value)
        file.chmod(0o640)
    return folder


def project(docker: Engine, tree: Path, secret_files: Path, *, former: bool = False) -> Project:
    """A release's files, with what a test needs otherwise: nobody is asked to approve.

    The mock servers are this release's in both: an upgrade of ours restarts no vendor.
    """
    overrides: dict[str, dict] = {}
    for name, service in compose_file(tree)["services"].items():
        if service["image"].startswith("ml-connector:") and name != "sandbox":
            overrides[name] = {"environment": {"ML_CONNECTOR_FIRST_RUN": "write"}}
            overrides[name] |= {"image": FORMER_IMAGE} if former else {}
    if former:
        mock = compose_file(NOW)["services"]["sandbox"]["image"]
        overrides["sandbox"] = {"image": mock, "working_dir": "/opt/sandbox"}
    (tree / ".env.compose").write_text(
        f"WEBHOOK_SITE=localhost\nWORKER_CONCURRENCY=2\nSANDBOX_COMPANY={CUSTOMERS}\n"
    )
    return Project(docker, tree, secret_files, {"services": overrides})


@pytest.fixture(scope="session")
def now(docker, secret_files) -> Project:
    """This release; not up yet."""
    return project(docker, NOW, secret_files)


@pytest.fixture(scope="session")
def loaded(docker, now, secret_files) -> Iterator[Distributed]:
    """The release before after its first load; this one where the clone does not go back so far."""
    first = project(docker, FORMER, secret_files, former=True) if FORMER.exists() else now
    try:
        first.up("sandbox")
        machines = Distributed(first)
        run = machines.daily_run()
        wait_for(lambda: machines.airflow.run_state(DAG, run) in ENDED, seconds=600)
        yield machines
    finally:
        now.down()


@pytest.fixture(scope="session")
def machines(loaded, now) -> Distributed:
    """This release, upgraded to by the commands of docs/how-to/upgrade.md, with the proxy."""
    now.up("proxy")
    return Distributed(now)
