"""Components as forks of one process: what each is given, and what is said when one ends."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from local import forks
from local.errors import LocalError
from local.processes import Processes

pytestmark = pytest.mark.skipif(
    not forks.AVAILABLE, reason="macOS: components are started, not forked"
)
REPOSITORY = Path(__file__).resolve().parents[2]

# Notes each import, and what a child finds.
MODULE = """
import os, sys, threading, time
with open("imports", "a") as note:
    note.write("imported\\n")

def shows():
    print(sys.argv, os.getcwd(), os.getsid(0) == os.getpid(), sys.stdin.read(), flush=True)

def fails():
    raise SystemExit(3)

def sleeps():
    print("here", flush=True)
    time.sleep(600)

def refuses():
    raise ValueError("the key is wrong")

def begins_a_thread():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""


@pytest.fixture
def processes(tmp_path):
    (tmp_path / "warm_module.py").write_text(MODULE)
    started = Processes(tmp_path / "logs", steady=0.0)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    started.start_fork_server(environment=environment, folder=tmp_path)
    yield started
    started.stop()


@pytest.fixture
def server(processes):
    return processes._forks


def text_of(log: Path) -> str:
    while not log.exists() or not log.read_text():
        time.sleep(0.01)
    return log.read_text()


def forked(server, entry: str, tmp_path: Path, **more):
    return server.start(entry, ["a", "b"], log=tmp_path / "log", folder=tmp_path, **more)


def test_a_fork_has_its_own_arguments_folder_session_log_and_input(server, tmp_path):
    child = forked(server, "warm_module:shows", tmp_path, given="the seed")
    assert child.wait() == 0
    assert text_of(tmp_path / "log") == f"['a', 'b'] {tmp_path} True the seed\n"


def test_what_is_preloaded_is_imported_once_for_all_forks(server, tmp_path):
    server.preload("warm_module")
    for _ in range(3):
        assert forked(server, "warm_module:shows", tmp_path).wait() == 0
    assert (tmp_path / "imports").read_text() == "imported\n"


def test_the_end_of_a_fork_is_reported_with_its_exit_code_or_signal(server, tmp_path):
    assert forked(server, "warm_module:fails", tmp_path).wait() == 3
    child = forked(server, "warm_module:sleeps", tmp_path)
    assert child.poll() is None
    with pytest.raises(TimeoutError, match="still runs"):
        child.wait(0.01)
    child.kill()
    assert child.wait() == -9
    assert child.returncode == -9


def test_a_fork_that_stopped_is_named_with_its_exception_and_can_be_started_again(
    processes, tmp_path
):
    for restart, entry in ((True, "sleeps"), (False, "refuses")):
        component = processes.start(
            entry, [entry], environment={}, folder=tmp_path, restart=restart,
            entry=f"warm_module:{entry}",
        )  # fmt: skip
        text_of(component.log)
        if restart:
            os.kill(component.process.pid, signal.SIGKILL)
            component.process.wait()
            assert list(processes.revive()) == [
                "sleeps stopped by itself (signal SIGKILL); started again"
            ]
    component.process.wait()
    with pytest.raises(LocalError, match=r"refuses .*\(exit code 1\): ValueError: the key is wr"):
        processes.check()


def test_stop_ends_every_fork_and_then_the_fork_server(processes, server, tmp_path):
    component = processes.start(
        "part", ["part"], environment={}, folder=tmp_path, entry="warm_module:sleeps"
    )
    text_of(component.log)
    assert set(processes.sessions) == {server.process.pid, component.process.pid}
    processes.stop()
    assert not psutil.pid_exists(component.process.pid)
    assert server.process.poll() is not None


def test_a_preload_that_fails_is_named_with_its_exception(server, tmp_path):
    server.preload("warm_module:refuses")
    with pytest.raises(LocalError, match="the fork server stopped: ValueError: the key is wrong"):
        forked(server, "warm_module:shows", tmp_path)


def test_a_thread_in_the_fork_server_is_refused_since_no_fork_would_have_it(server, tmp_path):
    server.preload("warm_module:begins_a_thread")
    with pytest.raises(LocalError, match="RuntimeError: threads before a fork"):
        forked(server, "warm_module:shows", tmp_path)


def test_the_fork_server_ends_with_its_client_once_no_fork_is_left(server, tmp_path):
    child = forked(server, "warm_module:sleeps", tmp_path)
    server.process.stdin.close()
    child.kill()
    assert server.process.wait(60) == 0


def test_components_have_interpreters_of_their_own_without_a_fork_server(tmp_path):
    processes = Processes(tmp_path)
    command = [sys.executable, "-c", "print('here')"]
    component = processes.start(
        "part", command, environment={}, folder=tmp_path, entry="warm_module:sleeps"
    )
    component.process.wait()
    assert text_of(component.log) == "here\n"
