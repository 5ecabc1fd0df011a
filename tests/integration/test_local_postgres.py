"""The embedded Postgres of a test ends with its users, however they end."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from local.postgres import EmbeddedPostgres
from tests.started import program

# A user that is killed: says where its server is, then sleeps.
TEMPORARY = """
import time
from local.postgres import temporary
with temporary() as server:
    print(server.pid, server.home, flush=True)
    time.sleep(600)
"""
SHARED = """
import sys, time
from pathlib import Path
from local.postgres import shared
with shared(Path(sys.argv[1])) as server:
    print(server.pid, server.home, flush=True)
    sys.stdin.read(1)
"""
TEST = """
def test_sleeps():
    import time
    from local.postgres import temporary
    with temporary() as server:
        with open({note!r}, "w") as note:
            note.write(f"{{server.pid}} {{server.home}}\\n")
        time.sleep(600)
"""


@contextmanager
def using(script: str, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", int, Path]]:
    """Start a user; yield it with the server's process id and folder."""
    command = [sys.executable, "-c", script, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with program(command, text=True, **pipes) as user:
        pid, home = user.stdout.readline().split()
        yield user, int(pid), Path(home)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(true, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_user_leaves_no_server_and_no_folder(number):
    with using(TEMPORARY) as (user, pid, home):
        assert alive(pid)
        user.send_signal(number)
        user.communicate(timeout=60)
    wait_until(lambda: not alive(pid))
    wait_until(lambda: not home.exists())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_pytest_leaves_no_server(number, tmp_path):
    note = tmp_path / "note"
    (tmp_path / "test_it.py").write_text(TEST.format(note=str(note)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with program(command, **quiet) as run:
        wait_until(lambda: note.exists() and note.read_text().endswith("\n"))
        pid, home = note.read_text().split()
        run.send_signal(number)
        run.wait(60)
    wait_until(lambda: not alive(int(pid)))
    wait_until(lambda: not Path(home).exists())


def test_a_shared_server_outlives_the_user_that_started_it_and_ends_with_the_last(tmp_path):
    folder = str(tmp_path / "server")
    with using(SHARED, folder) as (first, pid, home), using(SHARED, folder) as (second, same, _):
        assert same == pid
        first.kill()
        first.communicate(timeout=60)
        with_server = EmbeddedPostgres(home)
        with_server.attach()
        with_server.create_database("still_there")  # it answers
        second.kill()
        second.communicate(timeout=60)
    wait_until(lambda: not alive(pid))


def test_a_server_that_is_stopped_leaves_no_watchdog(tmp_path):
    before = set(psutil.Process().children())  # of the server that this worker's tests share
    with EmbeddedPostgres(tmp_path / "server", throwaway=True) as server:
        started = set(psutil.Process().children()) - before
        watching = [one for one in started if one.name() == "sh"]
        assert len(watching) == 1
        assert alive(server.pid)
    assert not [one for one in watching if one.is_running() and alive(one.pid)]
