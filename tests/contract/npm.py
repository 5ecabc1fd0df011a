"""Node packages of the tests, pinned in the `package-lock.json` of their folder.

npm installs them into the folder's `node_modules` when a test needs them first.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


class NodeMissingError(RuntimeError):
    """This machine has no Node or no npm."""


class NpmFailedError(RuntimeError):
    """npm could not install the packages; the message says why."""


def installed(name: str, folder: Path = HERE) -> Path:
    """Return a file below a folder's `node_modules`, installed first if need be.

    Test processes side by side take turns.

    Raises:
        NodeMissingError: there is no Node on this machine.
        NpmFailedError: npm failed.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NodeMissingError("Node and npm are needed, and this machine has none")
    modules = folder / "node_modules"
    with (folder / "package-lock.json").open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (modules / name).exists():
            command = [npm, "ci", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise NpmFailedError(f"npm ci failed: {done.stderr.strip()[-500:]}")
    return modules / name
