"""Plans: one a run. What the run's tasks did adds up here."""

import json
from collections.abc import Mapping

from sqlalchemy import Connection, text


def open_plan(connection: Connection, *, sync: str, run_id: str, kind: str = "sync") -> int:
    """Return the id of the run's plan, made if this is its first task."""
    return int(
        connection.execute(
            text("""INSERT INTO ml_connector.plans (sync, run_id, kind)
                    VALUES (:sync, :run_id, :kind)
                    ON CONFLICT (sync, run_id) DO UPDATE SET kind = excluded.kind RETURNING id"""),
            {"sync": sync, "run_id": run_id, "kind": kind},
        ).scalar_one()
    )


def add_calls(connection: Connection, *, plan_id: int, calls: Mapping[str, int]) -> None:
    """Add API calls to the plan's, by name."""
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


def finish(
    connection: Connection, *, plan_id: int, state: str, counts: Mapping[str, object]
) -> None:
    """Close the plan with its summary."""
    connection.execute(
        text("""UPDATE ml_connector.plans
                SET state = :state, counts = CAST(:counts AS jsonb), finished_at = clock_timestamp()
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "state": state, "counts": json.dumps(counts)},
    )
