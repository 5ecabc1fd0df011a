"""One line per step with the time it took, on a terminal and in a log file alike."""

import time

from rich.console import Console


class Progress:
    """Prints what happens, and how long it has been since the start."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Return seconds since the start."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print one step."""
        self.console.print(
            f"{self.elapsed:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True
        )
