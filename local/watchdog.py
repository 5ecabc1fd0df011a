"""End a process once every process that needs it has ended, even by SIGKILL.

The users hold a named pipe open. A shell reads from it and learns from the end of the file that the
last of them is gone. An exec closes the descriptor, so that what a user starts does not count as one.
"""

import contextlib
import os
import subprocess
from pathlib import Path

# Arguments: the pipe, the signal, the process (negative: its group), the folder to remove or "".
SCRIPT = """
read -r nothing < "$1"
kill -s "$2" -- "$3" || exit 0
while kill -0 -- "$3"; do sleep 0.1; done
[ -z "$4" ] || rm -rf "$4"
"""


class Watchdog:
    """The watch over one process, kept in a named pipe that users of it share."""

    def __init__(self, pipe: Path) -> None:
        self._pipe = pipe
        self._held: int | None = None
        self._shell: subprocess.Popen[bytes] | None = None

    def start(self, target: int, *, signal: str, remove: Path | None = None) -> None:
        """Watch over a process, as its first user.

        Args:
            target: The process that ends with its users; negative for a process group.
            signal: The signal that ends it, like ``INT``.
            remove: A folder to remove after it has ended.
        """
        self._pipe.unlink(missing_ok=True)
        os.mkfifo(self._pipe, 0o600)
        self._shell = subprocess.Popen(  # noqa: S603 - our own script
            [
                *("/bin/sh", "-c", SCRIPT, "watchdog"),
                *(str(self._pipe), signal, str(target), str(remove or "")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to our group is the case that it watches for
            cwd="/",
        )
        self.hold()

    def hold(self) -> None:
        """Count as a user, until ``release`` or the end of this process."""
        if self._held is None:
            # For both directions: opening one end alone waits for the other.
            self._held = os.open(self._pipe, os.O_RDWR | os.O_CLOEXEC)

    def cancel(self) -> None:
        """Stop watching, before the process is ended in another way."""
        if self._shell:
            self._shell.kill()
            self._shell.wait()
            self._shell = None
        self.release()

    def release(self) -> None:
        """Count as a user no longer."""
        if self._held is not None:
            with contextlib.suppress(OSError):
                os.close(self._held)
            self._held = None
