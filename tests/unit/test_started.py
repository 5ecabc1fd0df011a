"""A program that a test starts never outlives the test, and no test waits for it without a bound."""

import signal
import subprocess
import sys

import pytest

from tests.started import ended_with_the_block, program, wait_until_ready

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
NOWHERE = "http://127.0.0.1:1/health"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_a_program_that_never_answers_fails_the_test_and_is_ended():
    with (
        pytest.raises(pytest.fail.Exception, match="gave no answer"),
        program(python(SLEEPS)) as it,
    ):
        wait_until_ready(it, NOWHERE, within=0)
    assert it.returncode is not None


def test_a_program_that_ends_before_it_is_ready_is_told_with_what_it_said(tmp_path):
    log = tmp_path / "log"
    with (
        log.open("w") as said,
        pytest.raises(pytest.fail.Exception, match=r"ended with 3\nno key"),
        program(python("print('no key'); raise SystemExit(3)"), stdout=said) as it,
    ):
        wait_until_ready(it, NOWHERE, log=log)


def test_a_program_that_ignores_the_signal_is_killed_when_the_block_fails():
    def fails() -> None:
        with ended_with_the_block(it, ends_within=0):
            raise ZeroDivisionError

    with program(python(STUBBORN), stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout.readline() == "up\n"
        with pytest.raises(ZeroDivisionError):
            fails()
        assert it.returncode == -signal.SIGKILL
