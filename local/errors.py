"""The one error of the local start: a sentence for the person in front of the terminal."""

from pathlib import Path


class LocalError(Exception):
    """Something stops the local start, said in one plain sentence.

    Attributes:
        log: The log file with details, if there is one.
    """

    def __init__(self, reason: str, *, log: Path | None = None) -> None:
        super().__init__(reason)
        self.log = log
