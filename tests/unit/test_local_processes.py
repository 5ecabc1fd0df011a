"""Whatever a run started ends with it, however it was started."""

import sys
import time

import psutil
import pytest

from local import lock
from local.errors import LocalError
from local.logs import last_words
from local.processes import Processes, end_sessions, stale_sessions
from local.sync import reason_in

# A parent whose child leaves the process group and outlives it, as Airflow's tasks do.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)


def alive(pid):
    """A zombie is dead, even where nobody collects it (a container without an init)."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def started(processes, script, tmp_path, *, restart=False):
    component = processes.start(
        "part", [sys.executable, "-c", script], environment={}, folder=tmp_path, restart=restart
    )
    while not component.log.read_text():
        time.sleep(0.01)
    return component


def test_stop_ends_a_child_that_outlives_its_parent_in_a_group_of_its_own(tmp_path):
    processes = Processes(tmp_path)
    component = started(processes, PARENT, tmp_path)
    child = int(component.log.read_text())
    component.process.kill()
    processes.stop()
    assert not alive(child)


def test_stop_kills_what_does_not_stop_when_asked(tmp_path):
    processes = Processes(tmp_path)
    component = started(processes, STUBBORN, tmp_path)
    processes.stop(grace=0.1)
    assert component.process.poll() == -9


def test_a_part_that_stopped_by_itself_is_named_with_its_last_words(tmp_path):
    processes = Processes(tmp_path)
    component = started(processes, "print('out of luck'); raise SystemExit(3)", tmp_path)
    component.process.wait()
    with pytest.raises(LocalError, match=r"part .* \(exit code 3\): out of luck") as e:
        processes.check()
    assert e.value.log == component.log


def test_a_part_that_ran_well_is_started_again_and_its_children_are_gone(tmp_path):
    processes = Processes(tmp_path, steady=0.0)
    component = started(processes, PARENT, tmp_path, restart=True)
    child = int(component.log.read_text())
    component.process.kill()
    component.process.wait()
    assert list(processes.revive()) == ["part stopped by itself (signal SIGKILL); started again"]
    assert not alive(child)
    assert list(processes.revive()) == []
    processes.check()
    processes.stop()


@pytest.mark.parametrize("restart", [True, False])
def test_a_part_that_stops_at_once_or_cannot_go_on_ends_the_run(tmp_path, restart):
    processes = Processes(tmp_path)
    component = started(processes, "print('out of luck')", tmp_path, restart=restart)
    component.process.wait()
    with pytest.raises(LocalError, match="out of luck"):
        list(processes.revive())


def test_what_a_killed_run_left_is_found_again_and_ended(tmp_path):
    processes = Processes(tmp_path)
    component = started(processes, PARENT, tmp_path)
    lock.remember_sessions(tmp_path, processes.sessions)
    component.process.kill()
    component.process.wait()
    stale = stale_sessions(lock.remembered_sessions(tmp_path))
    assert stale == [component.process.pid]
    assert end_sessions(stale) == []
    assert stale_sessions(lock.remembered_sessions(tmp_path)) == []


def test_a_process_id_that_was_given_to_someone_else_is_not_ours():
    mine = psutil.Process()
    assert stale_sessions({mine.pid: mine.create_time() - 1000}) == []


def test_last_words_of_a_log_skip_empty_lines(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\ntwo\n\n")
    assert last_words(log) == "two"
    assert last_words(tmp_path / "none") == "its log cannot be read"


def test_the_reason_of_a_failed_task_is_its_last_exception(tmp_path):
    log = tmp_path / "attempt=1.log"
    log.write_text(
        '{"event":"start"}\n'
        '{"event":"Task failed with exception","error_detail":'
        '[{"exc_type":"AuthError","exc_value":"the key is wrong\\nsecond line"}]}\n'
        '{"event":"end"}\n'
    )
    assert reason_in(log) == "AuthError: the key is wrong"
