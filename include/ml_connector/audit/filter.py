"""Audit filter, shared by the console and the command line."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

_EQUAL = (
    "system",
    "action",
    "outcome",
    "reason",
    "customer_id",
    "run_id",
    "cause",
    "email_key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter for audit rows. Empty means any; ``since`` is inclusive, ``until`` exclusive."""

    system: str = ""
    action: str = ""
    outcome: str = ""
    reason: str = ""
    customer_id: str = ""
    run_id: str = ""
    cause: str = ""
    email_key: bytes | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def any(self) -> bool:
        """Return whether the filter excludes any row."""
        return any(getattr(self, field.name) for field in fields(self))


def conditions(wanted: Filter, *, sync: str | None = None) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions of a WHERE clause, at least one, and their parameters."""
    values: dict[str, Any] = {name: getattr(wanted, name) for name in _EQUAL}
    values = {name: value for name, value in values.items() if value}
    if sync is not None:
        values["sync"] = sync
    where = [f"{name} = :{name}" for name in values] or ["true"]
    if wanted.since:
        where.append("at >= :since")
        values["since"] = wanted.since
    if wanted.until:
        where.append("at < :until")
        values["until"] = wanted.until
    return where, values
