"""Programs that a test starts: wait for readiness with a bound, and end them whatever happens."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests

READY_WITHIN = 120.0
"""Seconds in which a program must answer: imports alone take half a minute on busy cores."""
ENDS_WITHIN = 20.0
"""Seconds after SIGTERM until a program is killed."""


class Process(Protocol):
    """What ``subprocess.Popen`` and ``tests.forks.Forked`` have in common."""

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@contextmanager
def program(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Run a program for as long as the block lasts. ``options`` are those of ``Popen``."""
    with (
        subprocess.Popen([str(word) for word in command], **options) as process,
        ended_with_the_block(process),
    ):
        yield process


@contextmanager
def ended_with_the_block(process: Process, *, ends_within: float = ENDS_WITHIN) -> Iterator[None]:
    """End a process with the block, also if the block fails."""
    try:
        yield
    finally:
        end(process, ends_within=ends_within)


def end(process: Process, *, ends_within: float = ENDS_WITHIN) -> None:
    """Terminate a process, and kill it if it goes on."""
    process.terminate()
    try:
        process.wait(ends_within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(ENDS_WITHIN)


def wait_until_ready(
    process: Process, url: str, *, log: Path | None = None, within: float = READY_WITHIN
) -> None:
    """Return once ``url`` answers 2xx; fail if the process ends first, or takes too long."""
    deadline = time.monotonic() + within
    while not _answers(url):
        code, late = process.poll(), time.monotonic() > deadline
        if code is not None or late:
            why = f"gave no answer in {within:.0f} s" if code is None else f"ended with {code}"
            said = log.read_text(errors="replace")[-5_000:] if log and log.exists() else ""
            pytest.fail(f"the program behind {url} {why}\n{said}".rstrip())
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
