"""``make test-containers``: docker-compose.yaml on a real engine, from nothing to nothing.

Installs what is missing where it may, builds the images, and runs the tests of this folder. Exit code
3 if this machine cannot; the last line says why. Nothing is left but ``.state/containers``.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local import needs
from tests.containers.engine import KEPT, PROGRAMS, EngineError, isolated, provide_compose


def main() -> int:
    if reason := lacking():
        say(f"SKIPPED: {reason}")
        return needs.MISSING
    before = traces()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ml-connector-engine-") as folder:
        room = Path(folder)
        python = (sys.executable, "-m")
        code = isolated([*python, "tests.containers.images"], room=room, own_network=False)
        if not code:
            tests = (
                "pytest",
                "tests/containers",
                "-x",
                "--tb=short",
                "--timeout",
                "1800",
                "--durations=0",
            )
            code = isolated([*python, *tests, *sys.argv[1:]], room=room, own_network=True)
    for group in traces() - before:
        if group.startswith("/sys/fs/cgroup/"):  # an engine leaves its empty ones
            for each in sorted(Path(group).glob("**/"), reverse=True):
                each.rmdir()
    left = traces() - before
    say(f"{time.monotonic() - began:.0f} s, left behind: {', '.join(sorted(left)) or 'nothing'}")
    return code or bool(left)


def lacking() -> str:
    """Return why this machine cannot run containers, after installing what it may; else nothing."""
    if os.geteuid():
        return "an engine needs root"
    KEPT.mkdir(parents=True, exist_ok=True)
    code, lines = needs.provide(root=True, execute=needs.execute, programs=PROGRAMS)
    if code:
        return " ".join(lines)
    with tempfile.TemporaryDirectory(prefix="ml-connector-engine-") as room:
        if isolated(["true"], room=Path(room), own_network=True):
            return "this machine makes no namespaces"
    try:
        provide_compose()
    except EngineError as error:
        return str(error)
    return ""


def traces() -> set[str]:
    """What an engine leaves on a machine if it is not careful."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    found = {f"network {line.split()[1]}" for line in links.splitlines()}
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found |= {f"mount {line.split()[1]}" for line in mounts}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if Path(words[0]).name in {"dockerd", "containerd", "containerd-shim-runc-v2"}:
            found.add(f"process {process.name} {words[0]}")
    groups = Path("/sys/fs/cgroup")
    found |= {str(group) for group in (*groups.glob("docker"), *groups.glob("*/docker"))}
    return found


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
