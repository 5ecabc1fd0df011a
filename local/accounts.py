"""Whether a person has connected both accounts: read from Airflow's database."""

from pathlib import Path

import psycopg
import yaml

_HELD = """SELECT EXISTS (SELECT FROM variable WHERE key = %s),
                  EXISTS (SELECT FROM connection WHERE conn_id = %s AND password > '')"""


def missing(url: str, *, syncs_file: Path, sync: str) -> list[str]:
    """Return which systems of a sync have no token or key yet, by name."""
    chosen = yaml.safe_load(syncs_file.read_text("utf-8"))["syncs"][sync]
    quickbooks = chosen.get("quickbooks_conn_id", "quickbooks_default")
    mailchimp = chosen.get("mailchimp_conn_id", "mailchimp_default")
    with psycopg.connect(url) as connection:
        row = connection.execute(_HELD, [f"quickbooks_token__{quickbooks}", mailchimp]).fetchone()
    held = dict(zip(("QuickBooks", "Mailchimp"), row or (False, False), strict=True))
    return [system for system, there in held.items() if not there]
