"""Timeline entries: turn a stored row into readable text. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ml_connector.console import words
from ml_connector.console.difference import Field, compare
from ml_connector.console.queries.timeline import TimelineRow
from ml_connector.display import counted
from ml_connector.rules.notes_block import changed_fields, given_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One entry of the timeline. ``where`` is the system or actor behind it.

    ``links`` are (label, path in the console). ``facts`` are (name, value).
    """

    at: datetime
    kind: str
    where: str
    title: str
    why: str = ""
    state: str = ""
    tone: str = "none"
    error: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    fields: tuple[Field, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    shown_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """What the page shows. ``own``: its customer. ``names``: merge fields as Mailchimp shows them."""

    own: str | None
    names: Mapping[str, str]


def entry_of(happening: TimelineRow, reader: Reader) -> TimelineEntry:
    """Return the entry of a row."""
    return _MAKERS[happening.kind](happening, reader)


def _told(happening: TimelineRow, _reader: Reader) -> TimelineEntry:
    row = happening.row
    merged = row["deleted_id"]
    title = words.webhook(row["kind"])
    return TimelineEntry(
        at=happening.at,
        kind="told",
        where="QuickBooks",
        title=f"{title}, {merged} into {row['entity_id']}" if merged else title,
        why=words.inbox_reason(row["reason"]),
        state=words.INBOX.get(row["state"], row["state"]),
        tone=words.tone(row["state"]),
        links=(("webhook event", f"/webhooks/{row['id']}"),),
    )


def _decided(happening: TimelineRow, reader: Reader) -> TimelineEntry:
    row = happening.row
    state = row["state"]
    if row["plan_kind"] == "preview" and state != "applied":
        state = "preview"
    status = words.STATUS.get(row["status"], "") if row["status"] else ""
    return TimelineEntry(
        at=happening.at,
        kind="decided",
        where="Sync",
        title=f"Decided: {words.KIND.get(row['kind'], row['kind']).lower()}",
        why=words.reason(row["reason"]),
        state=words.CHANGE_STATE.get(state, state),
        tone=words.tone(state),
        error=row["error"] or "",
        facts=tuple(
            fact
            for fact in (("status", status), *_other(row["customer_id"], reader.own))
            if fact[1]
        ),
        links=((f"plan {row['plan_id']}", f"/plans/{row['plan_id']}"),),
    )


def _called(happening: TimelineRow, reader: Reader) -> TimelineEntry:
    row = happening.row
    system = words.SYSTEM.get(row["system"], row["system"])
    tries = counted(row["attempts"], "try", "tries") if row["attempts"] else ""
    return TimelineEntry(
        at=happening.at,
        kind="called",
        where=system,
        title=words.action(row["action"]),
        why=words.reason(row["reason"]),
        state=words.OUTCOME.get(row["outcome"], row["outcome"]),
        tone=words.tone(row["outcome"]),
        error=words.inbox_reason(row["error"]),
        facts=tuple(
            (name, value)
            for name, value in (
                ("", tries),
                ("by", row["actor"]),
                *_other(row["customer_id"], reader.own),
            )
            if value
        ),
        fields=tuple(compare(happening.before, happening.after, reader.names)),
        links=((f"audit {row['id']}", f"/audit/{row['id']}"),),
    )


def _did(happening: TimelineRow, reader: Reader) -> TimelineEntry:
    row, detail = happening.row, happening.after or {}
    fields = changed_fields(detail, reader.names, values=True) if detail.get("fields") else ""
    reason = given_reason(detail)
    said = reason or fields or detail.get("email", "")
    return TimelineEntry(
        at=happening.at,
        kind="did",
        where="Member",
        title=words.EVENT.get(row["kind"], words.sentence(words.label(row["kind"]))),
        why=f"“{said}”" if reason else said,
        tone=words.tone(row["kind"]),
        facts=(
            ("", "reported by a webhook" if row["source"] == "webhook" else "seen in the audience"),
        ),
        shown_at=row["written_to_quickbooks_at"],
    )


def _other(customer_id: str | None, own: str | None) -> list[tuple[str, str]]:
    return [("customer", customer_id)] if customer_id and customer_id != own else []


_MAKERS: dict[str, Callable[[TimelineRow, Reader], TimelineEntry]] = {
    "told": _told,
    "decided": _decided,
    "called": _called,
    "did": _did,
}
