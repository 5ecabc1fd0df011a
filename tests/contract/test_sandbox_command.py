"""``ml-connector sandbox`` and the helper that runs it as a process."""

import signal
import subprocess
import sys

import pytest
import requests

from sandbox.ports import PORTS, free_port
from sandbox.running import SandboxNotStartedError, bind, running_as_process
from tests.started import program


def command(*options):
    return [sys.executable, "-m", "sandbox", *options]


def test_both_apis_run_in_one_process_that_stops_when_told():
    with running_as_process(company="12") as sandbox:
        listed = requests.get(f"{sandbox.quickbooks_url}/_sandbox/customers", timeout=10).json()
        health = requests.get(f"{sandbox.mailchimp_url}/_sandbox/health", timeout=10)
    assert (listed["total"], health.status_code) == (12, 200)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{sandbox.quickbooks_url}/_sandbox/health", timeout=10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_a_signal_ends_it_cleanly(number):
    options = ("--quickbooks-port", "0", "--mailchimp-port", "0", "--company", "empty")
    with program(command(*options), stdout=subprocess.PIPE, text=True) as process:
        lines = sorted(process.stdout.readline().split(" at ")[0] for _ in range(2))
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
    assert lines == ["Mailchimp sandbox ready", "QuickBooks sandbox ready"]


def test_a_taken_port_is_one_clear_line_and_exit_1():
    with bind("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            command("--quickbooks-port", port, "--mailchimp-port", "0"),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; try --quickbooks-port"
    )


def test_an_unknown_company_is_wrong_usage():
    ended = subprocess.run(
        command("--company", "huge"), capture_output=True, timeout=30, check=False
    )
    assert ended.returncode == 2


def test_a_process_that_cannot_start_is_told_at_once():
    with (
        bind("127.0.0.1", 0) as taken,
        pytest.raises(SandboxNotStartedError, match="exit code 1"),
        running_as_process(quickbooks_port=taken.getsockname()[1]),
    ):
        pass


def test_free_ports_are_given_once_and_from_below_those_of_outgoing_connections():
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == 500
    assert set(given) <= set(PORTS)
