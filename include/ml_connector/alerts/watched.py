"""Read what the watches compare: changes that no webhook announced, the size of the database."""

from datetime import datetime

from sqlalchemy import Connection, text

# Only what people and Mailchimp itself do. Other programs change members by the API, which our
# webhook does not announce.
_ANNOUNCED = ("unsubscribed", "cleaned", "complained", "address_changed")

# A webhook comes within minutes; its retries within 75.
_LATE = "interval '2 hours'"

_LIVE = """EXISTS (SELECT FROM ml_connector.plans f WHERE f.sync = :sync AND f.kind = 'sync'
                   AND f.state = 'finished' AND f.created_at < :since)"""


def delivered(
    connection: Connection, *, system: str, sync: str, realm: str = "", since: datetime
) -> bool:
    """Return whether any webhook of a system arrived for a sync.

    QuickBooks' events belong to a company: ``realm``, or any if it is empty.
    """
    return bool(
        connection.execute(
            text("""SELECT EXISTS (SELECT FROM ml_connector.webhook_inbox
                                   WHERE system = :system AND received_at >= :since
                                     AND coalesce(sync, :sync) = :sync
                                     AND :realm IN ('', source))"""),
            {"system": system, "sync": sync, "realm": realm, "since": since},
        ).scalar_one()
    )


def unannounced_members(connection: Connection, *, sync: str, since: datetime) -> int:
    """Return how many opt-outs, bounces and new addresses only a run found, hours later."""
    return int(
        connection.execute(
            text(f"""SELECT count(*) FROM ml_connector.member_events
                     WHERE sync = :sync AND source = 'poll' AND happened_at >= :since
                       AND kind = ANY(:kinds) AND seen_at - happened_at >= {_LATE}
                       AND {_LIVE}"""),  # noqa: S608 -- constants
            {"sync": sync, "since": since, "kinds": list(_ANNOUNCED)},
        ).scalar_one()
    )


def unannounced_customers(connection: Connection, *, sync: str, since: datetime) -> int:
    """Return how many customers a run wrote that changed in QuickBooks hours before it."""
    return int(
        connection.execute(
            text(f"""SELECT count(DISTINCT u.customer_id)
                     FROM ml_connector.plans p
                     JOIN ml_connector.all_changes c ON c.plan_id = p.id
                     JOIN ml_connector.customers u
                       ON u.sync = p.sync AND u.customer_id = c.customer_id
                     WHERE p.sync = :sync AND p.kind = 'sync' AND p.created_at >= :since
                       AND c.kind IN ('create', 'update') AND u.last_updated >= :since
                       AND p.created_at - u.last_updated >= {_LATE}
                       AND {_LIVE}"""),  # noqa: S608 -- constants
            {"sync": sync, "since": since},
        ).scalar_one()
    )


def database_bytes(connection: Connection) -> int:
    """Return the size of the connector's database."""
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
