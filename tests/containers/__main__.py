"""``make test-containers``: docker-compose.yaml on a real engine, from nothing to nothing.

Installs what is missing where it may, builds the images, and runs the tests of this folder. Exit code
3 if this machine cannot; the last line says why. Nothing is left but ``.state/containers`` and the
packages that it installed, which it names.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local import needs
from tests.containers.engine import KEPT, PROGRAMS, EngineError, isolated, provide_compose


def main() -> int:
    if os.geteuid():
        say("SKIPPED: an engine needs root")
        return needs.MISSING
    before, packages_before = traces(), packages()
    reason = lacking()
    if new := packages() - packages_before:
        say(f"installed and not removed: {' '.join(sorted(new))}")
    if reason:
        say(f"SKIPPED: {reason}")
        return needs.MISSING
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
    KEPT.mkdir(parents=True, exist_ok=True)
    code, lines = needs.provide(
        root=True, execute=needs.execute_without_services, programs=PROGRAMS
    )
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


def packages() -> set[str]:
    """Return the installed packages of Debian; none on another system."""
    if not shutil.which("dpkg-query"):
        return set()
    asked = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in listed.splitlines() if line.startswith("ii")}


def traces() -> set[str]:
    """What an engine leaves on a machine if it is not careful."""
    found = {f"network {link.name}" for link in Path("/sys/class/net").iterdir()}
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
