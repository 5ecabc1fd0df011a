"""Plans: one per run. The run's tasks add their results to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


def open_plan(connection: Connection, *, sync: str, run_id: str, kind: str | None = None) -> int:
    """Return the id of the run's plan; the run's first task creates it.

    ``kind`` is ``sync`` unless a task sets another one (``preview``).
    """
    # Every task of a run asks. An insert that finds the plan there would use up a number each time.
    return int(
        connection.execute(
            text("""WITH known AS (
                        UPDATE ml_connector.plans SET kind = coalesce(CAST(:kind AS text), kind)
                        WHERE sync = :sync AND run_id = :run_id RETURNING id),
                    made AS (
                        INSERT INTO ml_connector.plans (sync, run_id, kind)
                        SELECT :sync, :run_id, coalesce(CAST(:kind AS text), 'sync')
                        WHERE NOT EXISTS (SELECT FROM known)
                        ON CONFLICT (sync, run_id) DO UPDATE
                        SET kind = coalesce(CAST(:kind AS text), plans.kind) RETURNING id)
                    SELECT id FROM known UNION ALL SELECT id FROM made"""),
            {"sync": sync, "run_id": run_id, "kind": kind},
        ).scalar_one()
    )


def created_at(connection: Connection, *, plan_id: int) -> datetime:
    """Return when the run's first task created its plan."""
    found: datetime = connection.execute(
        text("SELECT created_at FROM ml_connector.plans WHERE id = :plan_id"), {"plan_id": plan_id}
    ).scalar_one()
    return found


def state_of(connection: Connection, *, plan_id: int) -> str:
    """Return a plan's state."""
    found: str = connection.execute(
        text("SELECT state FROM ml_connector.plans WHERE id = :plan_id"), {"plan_id": plan_id}
    ).scalar_one()
    return found


def has_finished(connection: Connection, *, sync: str) -> bool:
    """Return whether a daily run of the sync has ever finished."""
    found: bool = connection.execute(
        text("""SELECT EXISTS (SELECT FROM ml_connector.plans
                WHERE sync = :sync AND kind = 'sync' AND state = 'finished')"""),
        {"sync": sync},
    ).scalar_one()
    return found


def fail(connection: Connection, *, plan_id: int, error: str, stopped: str | None = None) -> None:
    """Store the message of a failed step. The run may still be retried.

    ``stopped`` is the step, if nothing further can succeed before a person acts.
    """
    connection.execute(
        text("""UPDATE ml_connector.plans SET state = 'failed', error = :error,
                    counts = CASE WHEN CAST(:stopped AS text) IS NULL THEN counts
                        ELSE jsonb_set(counts, '{stopped}', coalesce(counts -> 'stopped', '{}')
                                       || jsonb_build_object(CAST(:stopped AS text), true)) END
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "error": error, "stopped": stopped},
    )


def resume(connection: Connection, *, plan_id: int, step: str) -> None:
    """Record that a step succeeded: if it had stopped the run, other steps may go on."""
    connection.execute(
        text("""UPDATE ml_connector.plans SET counts = counts #- ARRAY['stopped', :step]
                WHERE id = :plan_id AND counts -> 'stopped' ? :step"""),
        {"plan_id": plan_id, "step": step},
    )


def stopped_by(connection: Connection, *, plan_id: int) -> str | None:
    """Return the step that stopped the run until a person acts; None if none did."""
    found: str | None = connection.execute(
        text("""SELECT min(step) FROM ml_connector.plans,
                       jsonb_object_keys(coalesce(counts -> 'stopped', '{}')) AS step
                WHERE id = :plan_id"""),
        {"plan_id": plan_id},
    ).scalar_one()
    return found


def plan_kind(connection: Connection, *, plan_id: int) -> str:
    """Return a plan's kind: ``sync``, ``preview``, ``webhooks``, ``replay``, ``undo`` ..."""
    found: str = connection.execute(
        text("SELECT kind FROM ml_connector.plans WHERE id = :plan_id"), {"plan_id": plan_id}
    ).scalar_one()
    return found


def last_error(connection: Connection, *, plan_id: int) -> str | None:
    """Return the message of the step that failed last."""
    found: str | None = connection.execute(
        text("SELECT error FROM ml_connector.plans WHERE id = :plan_id"), {"plan_id": plan_id}
    ).scalar_one()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProgress:
    """The progress of a run. ``settled`` of ``changes`` changes have an outcome.

    ``read``: as ``note_read`` stored it, by kind of record.
    """

    plan_id: int
    state: str
    error: str | None
    calls: int
    changes: int
    settled: int
    read: Mapping[str, tuple[int, int | None]]


def progress_of(connection: Connection, *, sync: str, run_id: str) -> PlanProgress | None:
    """Return the progress of a run, None before its first task has started."""
    row = connection.execute(
        text("""SELECT p.id, p.state, p.error,
                       (SELECT coalesce(sum(n::bigint), 0) FROM jsonb_each_text(p.calls) e(k, n)),
                       coalesce(sum(c.changes), 0)::int,
                       coalesce(sum(c.changes) FILTER (WHERE c.state <> 'pending'), 0)::int,
                       p.counts -> 'read'
                FROM ml_connector.plans p LEFT JOIN ml_connector.change_counts c ON c.plan_id = p.id
                WHERE p.sync = :sync AND p.run_id = :run_id GROUP BY p.id"""),
        {"sync": sync, "run_id": run_id},
    ).one_or_none()
    if row is None:
        return None
    return PlanProgress(
        plan_id=row[0],
        state=row[1],
        error=row[2],
        calls=int(row[3]),
        changes=row[4],
        settled=row[5],
        read={kind: (number, total) for kind, (number, total) in (row[6] or {}).items()},
    )


def note_read(
    connection: Connection, *, plan_id: int, kind: str, number: int, total: int | None
) -> None:
    """Store how many records of a kind (``customers``, ``members``) a run has read so far.

    ``total``: how many there are; None if unknown.
    """
    connection.execute(
        text("""UPDATE ml_connector.plans
                SET counts = jsonb_set(counts, '{read}', coalesce(counts -> 'read', '{}')
                    || jsonb_build_object(CAST(:kind AS text),
                                          jsonb_build_array(CAST(:number AS int), CAST(:total AS int))))
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "kind": kind, "number": number, "total": total},
    )


def add_calls(connection: Connection, *, plan_id: int, calls: Mapping[str, int]) -> None:
    """Add API calls, by name, to those of the plan."""
    for name, number in calls.items():
        connection.execute(
            text("""UPDATE ml_connector.plans SET calls = jsonb_set(calls, ARRAY[:name],
                        to_jsonb(coalesce((calls ->> :name)::bigint, 0) + :number))
                    WHERE id = :plan_id"""),
            {"plan_id": plan_id, "name": name, "number": number},
        )


def calls_of(connection: Connection, *, plan_id: int) -> dict[str, int]:
    """Return the plan's API calls by name."""
    found = connection.execute(
        text("SELECT calls FROM ml_connector.plans WHERE id = :plan_id"), {"plan_id": plan_id}
    ).scalar_one()
    return {str(name): int(number) for name, number in sorted(found.items())}


def note_forecast(
    connection: Connection, *, plan_id: int, forecast: Mapping[str, object], why: str = ""
) -> None:
    """Store what a plan would do, and why it waits for approval, if it does."""
    told = {"forecast": forecast, **({"why": why} if why else {})}
    connection.execute(
        text("""UPDATE ml_connector.plans SET counts = counts || CAST(:told AS jsonb)
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "told": json.dumps(told)},
    )


def forecast_of(connection: Connection, *, plan_id: int) -> dict[str, Any] | None:
    """Return what ``note_forecast`` stored, if anything."""
    found: dict[str, Any] | None = connection.execute(
        text("SELECT counts -> 'forecast' FROM ml_connector.plans WHERE id = :plan_id"),
        {"plan_id": plan_id},
    ).scalar_one()
    return found


def note_rehearsed(connection: Connection, *, plan_id: int, **told: object) -> None:
    """Store what a preview found out and keeps nowhere else (``left_out``, ``not_ready``)."""
    connection.execute(
        text("""UPDATE ml_connector.plans
                SET counts = jsonb_set(counts, '{rehearsed}', coalesce(counts -> 'rehearsed', '{}')
                                                              || CAST(:told AS jsonb))
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "told": json.dumps(told)},
    )


def rehearsed(connection: Connection, *, plan_id: int) -> dict[str, Any]:
    """Return what ``note_rehearsed`` stored."""
    found = connection.execute(
        text("SELECT counts -> 'rehearsed' FROM ml_connector.plans WHERE id = :plan_id"),
        {"plan_id": plan_id},
    ).scalar_one()
    return dict(found or {})


def note_part(connection: Connection, *, plan_id: int) -> None:
    """Store that a plan is about single customers only."""
    connection.execute(
        text("""UPDATE ml_connector.plans SET counts = counts || '{"part": true}'
                WHERE id = :plan_id"""),
        {"plan_id": plan_id},
    )


def is_part(connection: Connection, *, plan_id: int) -> bool:
    """Return whether a plan is about single customers only."""
    found = connection.execute(
        text("SELECT coalesce(counts ? 'part', false) FROM ml_connector.plans WHERE id = :plan_id"),
        {"plan_id": plan_id},
    )
    return bool(found.scalar_one())


def finish(
    connection: Connection, *, plan_id: int, state: str, counts: Mapping[str, object]
) -> None:
    """Close the plan with its summary. A failed one keeps its approval: its steps may go on."""
    connection.execute(
        text("""UPDATE ml_connector.plans
                SET state = :state, error = NULL, finished_at = clock_timestamp(),
                    counts = CASE WHEN :state = 'failed' THEN counts
                                  ELSE jsonb_strip_nulls(jsonb_build_object(
                                      'why', counts -> 'why', 'forecast', counts -> 'forecast'))
                             END || CAST(:counts AS jsonb)
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "state": state, "counts": json.dumps(counts)},
    )
