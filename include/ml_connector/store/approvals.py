"""Approval of large plans: measure a plan, store its state, detect changes since it was shown."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of a plan: pending changes by kind. ``audience`` counts unarchived members.

    ``already`` counts archives by webhooks since the last daily run. Those needed no approval.
    """

    creates: int
    updates: int
    archives: int
    audience: int
    already: int

    @property
    def changes(self) -> int:
        """Return the number of changes of any kind."""
        return self.creates + self.updates + self.archives


def size_of(connection: Connection, *, sync: str, plan_id: int) -> Size:
    """Return the size of a plan."""
    row = connection.execute(
        text("""SELECT coalesce(sum(changes) FILTER (WHERE kind = 'create'), 0)::int AS creates,
                       coalesce(sum(changes) FILTER (WHERE kind IN ('update', 'restore')), 0)::int
                           AS updates,
                       coalesce(sum(changes) FILTER (WHERE kind = 'archive'), 0)::int AS archives,
                       (SELECT count(*) FROM ml_connector.contacts
                        WHERE sync = :sync
                          AND status NOT IN ('archived', 'forgotten', 'absent', 'moved')) AS audience,
                       (SELECT count(*) FROM ml_connector.changes a
                        JOIN ml_connector.plans p ON p.id = a.plan_id
                        WHERE p.sync = :sync AND p.kind = 'webhooks'
                          AND a.kind = 'archive' AND a.state = 'applied'
                          AND p.id > coalesce((SELECT max(id) FROM ml_connector.plans
                                               WHERE sync = :sync AND kind = 'sync'
                                                 AND state = 'finished' AND id < :plan_id), 0)
                       ) AS already
                FROM ml_connector.change_counts
                WHERE plan_id = :plan_id AND state IN ('pending', 'preview')"""),
        {"sync": sync, "plan_id": plan_id},
    ).one()
    return Size(**row._mapping)  # noqa: SLF001 -- SQLAlchemy's public accessor


def creates_by_status(connection: Connection, *, plan_id: int) -> dict[str, int]:
    """Return the plan's pending creations by the status they would get."""
    rows = connection.execute(
        text("""SELECT status, count(*) FROM ml_connector.all_changes
                WHERE plan_id = :plan_id AND kind = 'create' AND state IN ('pending', 'preview')
                GROUP BY status ORDER BY status"""),
        {"plan_id": plan_id},
    ).all()
    return {str(status): number for status, number in rows}


def matched_by_status(connection: Connection, *, sync: str) -> dict[str, int]:
    """Return the audience's members who are customers of the sync, by the status they have."""
    rows = connection.execute(
        text("""SELECT k.status, count(*) FROM ml_connector.contacts k
                WHERE k.sync = :sync AND k.status NOT IN ('forgotten', 'absent', 'moved')
                  AND EXISTS (SELECT 1 FROM ml_connector.customers c
                              WHERE c.sync = :sync AND c.email_key = k.email_key
                                AND c.active AND NOT c.gone)
                GROUP BY k.status ORDER BY k.status"""),
        {"sync": sync},
    ).all()
    return {str(status): number for status, number in rows}


def samples(connection: Connection, *, plan_id: int, each: int) -> list[tuple[str, str, list[str]]]:
    """Return (kind, reason, up to ``each`` customer ids) of a plan's pending changes."""
    rows = connection.execute(
        text("""SELECT kind, reason, (array_agg(customer_id ORDER BY id))[1 : CAST(:each AS int)] AS customers
                FROM ml_connector.all_changes WHERE plan_id = :plan_id AND state = 'pending'
                GROUP BY kind, reason ORDER BY count(*) DESC, kind, reason"""),
        {"plan_id": plan_id, "each": each},
    ).all()
    return [(row.kind, row.reason, [id_ for id_ in row.customers if id_]) for row in rows]


def fingerprint(connection: Connection, *, plan_id: int) -> str:
    """Return a fingerprint of the plan's pending changes and of the data they depend on.

    It changes when a change is dropped or added, or when another run takes one over. It also
    changes when the customer or contact of a change has different data, or a contact that its
    customers come from has another status.
    """
    found: str = connection.execute(
        text("""SELECT count(*) || ':' || coalesce(md5(string_agg(
                    concat_ws('/', c.id, c.kind, c.decided_hash, p.fields_hash, p.email_key,
                              p.active, p.gone, p.dirty, k.status, k.owner, former.states),
                    ',' ORDER BY c.id)), '')
                FROM ml_connector.all_changes c
                LEFT JOIN ml_connector.customers p
                  ON p.sync = c.sync AND p.customer_id = c.customer_id
                LEFT JOIN ml_connector.contacts k
                  ON k.sync = c.sync AND k.email_key = c.email_key
                LEFT JOIN LATERAL (
                    SELECT string_agg(concat_ws('/', m.customer_id, m.opted_out, f.status,
                                                f.previous_status, f.archived_by, f.complained),
                                      ';' ORDER BY m.customer_id) AS states
                    FROM ml_connector.customers m LEFT JOIN ml_connector.contacts f
                      ON f.sync = m.sync AND f.email_key = m.contact_key
                    WHERE c.reason IN ('address_changed', 'address_returned')
                      AND m.sync = c.sync AND m.email_key = c.email_key) former ON true
                WHERE c.plan_id = :plan_id AND c.state = 'pending'"""),
        {"plan_id": plan_id},
    ).scalar_one()
    return found


def set_state(
    connection: Connection, *, plan_id: int, state: str, fingerprint: str | None = None
) -> None:
    """Store a plan's state (``waiting``, ``approved``, ``rejected``) and the fingerprint shown."""
    connection.execute(
        text("""UPDATE ml_connector.plans
                SET state = :state, counts = counts || jsonb_strip_nulls(
                        jsonb_build_object('standing', CAST(:state AS text),
                                           'fingerprint', CAST(:fingerprint AS text)))
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "state": state, "fingerprint": fingerprint},
    )


def approval_of(connection: Connection, *, plan_id: int) -> tuple[str, str | None]:
    """Return a plan's approval state and the fingerprint that was shown.

    An approval or rejection persists even if a task of the run fails afterwards.
    """
    row = connection.execute(
        text("""SELECT coalesce(counts ->> 'standing', state) AS state,
                       counts ->> 'fingerprint' AS fingerprint
                FROM ml_connector.plans WHERE id = :plan_id"""),
        {"plan_id": plan_id},
    ).one()
    return row.state, row.fingerprint
