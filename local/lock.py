"""One run at a time in a state folder, and the traces of a killed run."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from local.errors import LocalError
from local.secrets import write_private


@contextlib.contextmanager
def only_run(home: Path) -> Iterator[None]:
    """Hold the state folder for this process; the lock goes with the process, however it ends.

    Raises:
        LocalError: Another run holds it.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "run.lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LocalError(
                f"another `make run` with this state folder is still running "
                f"(process {lock.read().strip() or 'unknown'}): stop it first, or set "
                "ML_CONNECTOR_HOME to another folder"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def remember_sessions(home: Path, sessions: dict[int, float]) -> None:
    """Note what was started, for the run after a killed one."""
    write_private(home / "sessions.json", json.dumps(sessions))


def remembered_sessions(home: Path) -> dict[int, float]:
    """Return the sessions that the last run started and did not end."""
    try:
        noted = json.loads((home / "sessions.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {int(session): float(created) for session, created in noted.items()}
