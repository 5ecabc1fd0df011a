"""One machine for all tests of this folder: it stays up, and they take their turns."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.e2e.airflow import Airflow
from tests.e2e.machine import Machine


@pytest.fixture(scope="package")
def airflow():
    """A machine that stays up, after its first sync."""
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-e2e-"))
    machine = Machine(folder / "state")
    with machine.start() as process:
        output = []
        for line in process.stdout:
            output.append(line)
            if "Ctrl-C stops it" in line:
                break
        assert "Ctrl-C stops it" in output[-1], "".join(output)
        yield Airflow(machine)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)
