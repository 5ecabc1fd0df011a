"""A value that a merge field cannot take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a value is left out, in words that do not quote it."""

    reason: str
