"""A container engine of the tests' own, in namespaces of its own.

Whatever an engine makes - processes, mounts, networks, packet filter rules, open ports - is inside
the namespaces and ends with them, also where the tests are killed. What stays is the folder ``KEPT``:
images for the next run.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local.needs import Program

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".state" / "containers"
ROOM = "ML_CONNECTOR_CONTAINERS_ROOM"
"""The variable that names the folder of the engine's sockets; set inside the namespaces only."""
PROGRAMS = tuple(
    Program(names=(name,), package=package, purpose="make test-containers")
    for name, package in (
        ("dockerd", "docker.io"),
        ("docker", "docker.io"),
        ("iptables", "iptables"),
        ("ip", "iproute2"),
        ("tini", "tini"),
        ("debootstrap", "debootstrap"),
    )
)
COMPOSE = (2, 24, 4)
"""The first version that knows `!override`."""
GROUP = Path("/sys/fs/cgroup/cpu/docker")
WEIGHT = 10 * 1024
"""All containers together would weigh as much as one process (cgroup v1), and starve on a busy machine."""
NEXT_DEBIAN = "trixie"
"""Debian 12 has Compose 1; this one's package runs there as well."""


class EngineError(Exception):
    """The engine cannot do what the tests need; the message says why."""


def isolated(command: Sequence[object], *, room: Path, own_network: bool) -> int:
    """Run a command in namespaces of its own; nothing that it starts outlives it."""
    spaces = ["--mount", "--mount-proc", "--pid", "--fork", "--kill-child"]
    if own_network:
        spaces.append("--net")
    return subprocess.run(
        ["unshare", *spaces, "tini", "--", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, ROOM: str(room), "PYTHONPATH": f"{ROOT}:{ROOT}/include:{ROOT}/plugins"},
        check=False,
    ).returncode


class Engine:
    """A running engine."""

    def __init__(self, room: Path) -> None:
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{room}/docker.sock",
            "DOCKER_CONFIG": str(KEPT / "cli"),
            "DOCKER_BUILDKIT": "0",  # Debian's command has no plugin for it; Compose brings its own
        }

    def __call__(self, *words: object, tree: Path = KEPT, check: bool = True) -> str:
        """Run a docker command; return what it prints."""
        done = subprocess.run(
            ["docker", *map(str, words)],
            cwd=tree,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-30:]
            raise EngineError("\n".join([f"docker {' '.join(map(str, words))}", *said]))
        return done.stdout

    def has(self, image: str) -> bool:
        """Return whether the image is there."""
        return bool(self("image", "ls", "--quiet", image).strip())


@contextmanager
def engine(*, networks: bool) -> Iterator[Engine]:
    """Start the engine and stop it. Without networks it only builds, and changes none of the machine's."""
    room = Path(os.environ[ROOM])
    options = [] if networks else ["--bridge=none", "--iptables=false", "--ip-forward=false"]
    log = KEPT / "dockerd.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                *("dockerd", "--data-root", KEPT / "docker", "--exec-root", room / "exec"),
                *("--host", f"unix://{room}/docker.sock", "--pidfile", room / "dockerd.pid"),
                *options,
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        docker = Engine(room)
        deadline = time.monotonic() + 60
        while not docker("version", "--format", "{{.Server.Version}}", check=False).strip():
            if process.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(log.read_text().splitlines()[-5:])
                raise EngineError(f"the engine does not start:\n{last}")
            time.sleep(0.5)
        with weighty():
            yield docker
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def weighty() -> Iterator[None]:
    """Give all containers together the weight of several processes (cgroup v1), then take it back.

    The group may be that of an engine of the machine's own.
    """
    if not GROUP.parent.is_dir():
        yield
        return
    GROUP.mkdir(exist_ok=True)
    shares = GROUP / "cpu.shares"
    before = shares.read_text()
    shares.write_text(str(WEIGHT))
    try:
        yield
    finally:
        shares.write_text(before)


def provide_compose() -> None:
    """Put Compose where the docker command looks for it. Raises ``EngineError``."""
    plugin = KEPT / "cli" / "cli-plugins" / "docker-compose"
    if _compose_version() >= COMPOSE:
        return
    folder = KEPT / "compose"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lists" / "partial").mkdir(parents=True)
    ours = ("apt-get", "-qq", "-o", f"Dir::Etc::SourceList={folder}/sources.list")
    ours += ("-o", "Dir::Etc::SourceParts=/dev/null", "-o", f"Dir::State::Lists={folder}/lists")
    (folder / "sources.list").write_text(f"deb {_mirror()} {NEXT_DEBIAN} main\n")
    _run(*ours, "update")
    _run(*ours, "download", "docker-compose", folder=folder)
    (package,) = folder.glob("*.deb")
    _run("dpkg-deb", "--extract", package, folder / "package")
    (program,) = [
        file
        for file in (folder / "package").rglob("docker-compose")
        if file.is_file() and not file.is_symlink() and os.access(file, os.X_OK)
    ]
    plugin.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(program, plugin)
    shutil.rmtree(folder)
    if _compose_version() < COMPOSE:
        raise EngineError(f"Compose {_compose_version()} is too old")


def _compose_version() -> tuple[int, ...]:
    done = subprocess.run(
        ["docker", "compose", "version", "--short"],
        env={**os.environ, "DOCKER_CONFIG": str(KEPT / "cli")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return (0,)
    numbers = done.stdout.strip().lstrip("v").split("-")[0].split("+")[0]
    return tuple(int(each) for each in numbers.split("."))


def _mirror() -> str:
    """The Debian archive that this machine uses."""
    wanted = ("Created-By: Packages", "Origin: Debian", "Component: main")
    found = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).split()
    if not found:
        raise EngineError("Compose 2.24 or newer is needed, and this machine has no Debian archive")
    return found[0]


def _run(*words: object, folder: Path = ROOT) -> str:
    done = subprocess.run(
        list(map(str, words)), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EngineError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-500:]}")
    return done.stdout
