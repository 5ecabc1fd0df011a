"""Try planted bugs: run pytest on each in a fork, two side by side, each in a copy of its own.

The forks start with the libraries imported. Imports are most of what a short run of pytest costs.
Our own packages are imported by each fork, from its copy.
"""

import importlib
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.plants import Plant, apply

LIBRARIES = (
    "alembic.command", "babel.dates", "cryptography.hazmat.primitives.ciphers.aead",
    "email_validator", "hypothesis.strategies", "jinja2", "msgspec", "pandas", "psycopg",
    "pydantic", "pytest", "requests", "sqlalchemy.dialects.postgresql", "starlette.applications",
    "structlog", "tenacity", "typer", "uvicorn", "xdist.plugin",
)  # fmt: skip
OURS = ("bench", "local", "ml_connector", "ml_connector_airflow", "sandbox", "tests")


@dataclass(frozen=True)
class Verdict:
    """What a run of tests says of a planted bug. ``by``: the first test that failed, or None."""

    plant: Plant
    by: str | None
    seconds: float
    note: str = ""


class _Attempt:
    """A fork that runs tests on a plant. ``output``: what pytest prints."""

    def __init__(self, plant: Plant, copy: Path, tests: Sequence[str]) -> None:
        self.plant, self.copy, self.tests = plant, copy, tests
        self.began = time.monotonic()
        self.output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by ended()
        apply(copy, plant)
        self.pid = os.fork()
        if not self.pid:
            _become_pytest(copy, tests, self.output.fileno())

    def ended(self, status: int) -> Verdict:
        """Take the bug out again; return the verdict."""
        apply(self.copy, self.plant, "--reverse")
        with self.output:
            self.output.seek(0)
            said = self.output.read().decode(errors="replace")
        code = os.waitstatus_to_exitcode(status)
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
        if code not in (0, 1) or bool(code) != bool(failed):
            raise RuntimeError(
                f"{self.plant.name}: pytest {shlex.join(self.tests)} ended with {code}\n{said}"
            )
        sequence = re.search(r"sequence (\d+) of", said)
        note = f"sequence {sequence[1]}" if sequence else ""
        by = failed[1] if failed else None
        return Verdict(self.plant, by, time.monotonic() - self.began, note)


def verdicts(
    chosen: Iterable[Plant], copies: Sequence[Path], tests: Sequence[str] = ()
) -> Iterator[Verdict]:
    """Yield the verdict on each plant as it comes: of its own tests, or of ``tests``."""
    _preload()
    todo, free, running = list(chosen)[::-1], list(copies), dict[int, _Attempt]()
    try:
        while todo or running:
            while todo and free:
                plant = todo.pop()
                attempt = _Attempt(plant, free.pop(), tests or plant.tests)
                running[attempt.pid] = attempt
            pid, status = os.wait()
            attempt = running.pop(pid)
            free.append(attempt.copy)
            yield attempt.ended(status)
    finally:
        for pid, attempt in running.items():
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            apply(attempt.copy, attempt.plant, "--reverse")


def _preload() -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in LIBRARIES:
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError(f"threads before a fork: {threading.enumerate()}")


def _become_pytest(copy: Path, tests: Sequence[str], output: int) -> None:
    """Run pytest in this fork, with our packages of the copy, and exit."""
    code = 3
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(copy)
        paths = [str(copy / "include"), str(copy / "plugins"), str(copy)]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        root = str(Path(__file__).resolve().parents[2])
        sys.path[:] = [*paths, *(path for path in sys.path if not _within(path, root))]
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        # The same examples each time: a plant is not caught by chance.
        options = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        code = int(importlib.import_module("pytest").main([*options, *tests]))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _within(path: str, root: str) -> bool:
    """Return whether an entry of ``sys.path`` is the checkout's own, and not its environment's."""
    return path in ("", root, f"{root}/include", f"{root}/plugins")
