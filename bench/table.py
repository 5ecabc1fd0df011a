"""The table that ``make bench`` prints: what was measured next to the figure to reach."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

COLUMNS = (
    *("work", "latency", "measured", "to reach", "reached", "QuickBooks calls"),
    *("Mailchimp calls", "CPU s", "Postgres CPU s", "peak MB", "times our first load"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line; what does not apply stays empty.

    ``latency``: milliseconds that each response of the mock servers is delayed. ``cpu`` is
    that of the program measured, ``postgres_cpu`` that of the database. ``ratio``: how
    many times as long as our first load of as many customers at the same latency, in the same call.
    """

    work: str
    measured: str
    latency: int | None = None
    to_reach: str = ""
    reached: bool | None = None
    quickbooks: int | None = None
    mailchimp: int | None = None
    cpu: float | None = None
    postgres_cpu: float | None = None
    peak_mb: int | None = None
    ratio: float | None = None

    def cells(self) -> Iterator[str]:
        """Yield the texts of the columns."""
        yield self.work
        yield "" if self.latency is None else f"{self.latency} ms"
        yield self.measured
        yield self.to_reach
        yield "" if self.reached is None else "yes" if self.reached else "no"
        for count in (self.quickbooks, self.mailchimp):
            yield _text(count)
        for seconds in (self.cpu, self.postgres_cpu):
            yield "" if seconds is None else f"{seconds:.1f}"
        yield _text(self.peak_mb)
        yield "" if self.ratio is None else f"{self.ratio:.1f}"

    def line(self) -> str:
        """Return the row in Markdown."""
        return f"| {' | '.join(self.cells())} |"


def head() -> list[str]:
    """Return the first two lines."""
    return [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]


def calls_by_system(calls: dict[str, int]) -> dict[str, int]:
    """Return ``quickbooks`` and ``mailchimp`` with the calls that a run counted by kind."""
    return {
        system: sum(n for name, n in calls.items() if name.startswith(f"{system}."))
        for system in ("quickbooks", "mailchimp")
    }


def missed(rows: Iterable[Row]) -> list[str]:
    """Return the works that did not reach their figure."""
    return [row.work for row in rows if row.reached is False]


def _text(value: Any) -> str:
    return "" if value is None else f"{value}"
