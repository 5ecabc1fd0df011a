"""Report, and where possible install, the programs that tests use: ``python -m local.needs``.

Every program comes from Debian's archive. As root, with apt-get, the missing ones are installed;
otherwise the command that installs them is printed. No service is started by an installation. Tests
that need a missing program are skipped and say so. Exit codes: 0 all there, 3 something is missing.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

THERE, MISSING = 0, 3
POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian's packages ask this program whether they may start their service; 101 means no."""
NO_SERVICES = (
    b"#!/bin/sh\n# ml-connector installs packages of its tests: start no service\nexit 101\n"
)
LAST_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program by any of its names, what runs without it, and the package that has it."""

    names: tuple[str, ...]
    package: str
    purpose: str


PROGRAMS = (
    Program(
        names=("redis-server",),
        package="redis-server",
        purpose="docker-compose.yaml at work (tests/e2e/test_compose.py)",
    ),
    Program(
        names=("caddy",),
        package="caddy",
        purpose="docker-compose.yaml at work (tests/e2e/test_compose.py)",
    ),
    Program(
        names=("chromium", "chromium-browser", "google-chrome"),
        package="chromium",
        purpose="the console in a browser (tests/e2e/live, tests/integration)",
    ),
    Program(
        names=("node",),
        package="nodejs",
        purpose="Prism, which checks calls against Mailchimp's contract (tests/contract), and axe-core (tests/axe)",
    ),
    Program(
        names=("npm",),
        package="npm",
        purpose="the installation of Prism and axe-core (tests/contract, tests/axe)",
    ),
)

Find = Callable[[str], str | None]
Execute = Callable[[Sequence[str]], tuple[int, str]]


def missing(find: Find = shutil.which, programs: Sequence[Program] = PROGRAMS) -> list[Program]:
    """Return the programs that this machine lacks."""
    return [program for program in programs if not any(map(find, program.names))]


def commands(lacking: Sequence[Program]) -> list[list[str]]:
    """Return the commands that install the programs on Debian and Ubuntu."""
    packages = dict.fromkeys(program.package for program in lacking)
    return [
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", *packages],
    ]


def provide(
    *,
    root: bool,
    find: Find = shutil.which,
    execute: Execute,
    programs: Sequence[Program] = PROGRAMS,
) -> tuple[int, list[str]]:
    """Install what is missing; return the exit code and the lines that say what happened.

    Args:
        root: Whether this user may install packages.
        find: Looks up a program by its name.
        execute: Runs a command and returns its exit code and output.
        programs: What the tests at hand need.
    """
    lacking = missing(find, programs)
    if not lacking:
        return THERE, ["All programs of the tests are installed."]
    lines = [f"missing: {program.names[0]}, for {program.purpose}" for program in lacking]
    if root and find("apt-get"):
        for command in commands(lacking):
            code, output = execute(command)
            if code:
                lines += [f"failed: {shlex.join(command)}", *output.splitlines()[-LAST_LINES:]]
                break
        lacking = missing(find, programs)
        if not lacking:
            return THERE, [*lines, "installed"]
    prefix = "" if root else "sudo "
    hints = " && ".join(prefix + shlex.join(command) for command in commands(lacking))
    names = ", ".join(program.names[0] for program in lacking)
    return MISSING, [*lines, f"Tests that need {names} are SKIPPED. Install: {hints}"]


@contextmanager
def services_kept_off(policy: Path = POLICY) -> Iterator[None]:
    """Forbid packages to start their services, then put the machine's own policy back."""
    aside = policy.with_name(f"{policy.name}.before-ml-connector")
    if policy.exists() and policy.read_bytes() != NO_SERVICES:  # ours: an earlier one was killed
        policy.replace(aside)
    try:
        policy.write_bytes(NO_SERVICES)
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)
        if aside.exists():
            aside.replace(policy)


def execute_without_services(command: Sequence[str]) -> tuple[int, str]:
    """Run a command as ``execute`` does; what it installs starts no service."""
    with services_kept_off():
        return execute(command)


def execute(command: Sequence[str]) -> tuple[int, str]:
    """Run a command that asks nothing; return its exit code and output."""
    done = subprocess.run(  # noqa: S603 - fixed commands
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=Path("/"),
    )
    return done.returncode, done.stdout


def main() -> int:
    """Print what is missing and what was installed."""
    code, lines = provide(root=os.geteuid() == 0, execute=execute_without_services)
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
