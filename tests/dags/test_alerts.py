"""Alerts: once for a cause, once when it is over, and again if the webhook did not take them."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from local.postgres import temporary
from ml_connector.quickbooks.tokens import TokenPair
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SYNCS = """
alerts: {webhook_conn_id: alerts_webhook}
syncs:
  main: {audience_id: a, new_contact_status: pending, fields: {FNAME: GivenName}}
"""


class Webhook:
    """A receiver of alerts that can refuse them."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.status == 200:
                    outer.taken.append((body["state"], body["cause"]))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def url():
    with temporary() as postgres:
        postgres.create_database("alerts")
        upgrade(postgres.url("alerts"))
        yield postgres.url("alerts")


@pytest.fixture
def database(url):
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def webhook(tmp_path, monkeypatch):
    webhook = Webhook()
    settings = tmp_path / "syncs.yaml"
    settings.write_text(SYNCS)
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(settings))
    address = f"http://127.0.0.1:{webhook.server.server_port}"
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_WEBHOOK", address)
    yield webhook
    webhook.server.shutdown()
    webhook.server.server_close()


def test_people_are_told_once_of_a_cause_and_once_of_its_end(database, webhook):
    from ml_connector_airflow.notifications import end_alert, raise_alert

    for _ in range(3):
        raise_alert(database, cause="needs_reauth:one", message="connect again")
    for _ in range(3):
        end_alert(database, cause="needs_reauth:one")
    raise_alert(database, cause="needs_reauth:one", message="connect again")
    assert [state for state, _ in webhook.taken] == ["raised", "ended", "raised"]


def test_an_alert_that_was_not_taken_is_sent_the_next_time(database, webhook):
    from ml_connector_airflow.notifications import raise_alert

    webhook.status = 503
    raise_alert(database, cause="needs_reauth:two", message="connect again")
    webhook.status = 200
    raise_alert(database, cause="needs_reauth:two", message="connect again")
    assert webhook.taken == [("raised", "needs_reauth:two")]


@pytest.mark.parametrize(
    ("rolling", "hard", "warned"),
    [(13, None, True), (15, None, False), (90, 13, True), (90, 400, False), (None, None, False)],
)
def test_a_refresh_token_that_ends_within_14_days_is_told(database, webhook, rolling, hard, warned):
    from ml_connector_airflow.token_steps import warn_before_end

    token = TokenPair(
        access_token="a",
        refresh_token="r",
        refresh_expires_at=None if rolling is None else NOW + timedelta(days=rolling),
        hard_expires_at=None if hard is None else NOW + timedelta(days=hard),
    )
    conn_id = f"qb_{rolling}_{hard}"
    warn_before_end(database, conn_id, token, now=NOW)
    expected = [("raised", f"refresh_token_ending:{conn_id}")] if warned else []
    assert webhook.taken == expected
