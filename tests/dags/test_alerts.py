"""Alerts: once for a cause, once when it is over, and again for whoever did not take them."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from sqlalchemy import text

from local.postgres import temporary
from ml_connector.alerts.causes import PendingAlert
from ml_connector.alerts.texts import WHAT_TO_DO, message
from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.errors import NeedsReauth, SettingsError, Tampered, Unavailable
from ml_connector.model import RunContext
from ml_connector.quickbooks.tokens import TokenPair
from ml_connector.settings import home, load_alerts
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from ml_connector.vault import vault_from
from sandbox.ports import free_port

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
    from ml_connector_airflow.alerts.delivery import end_alert, raise_alert

    for _ in range(3):
        raise_alert(database, cause="needs_reauth:one", message="connect again")
    for _ in range(3):
        end_alert(database, cause="needs_reauth:one")
    raise_alert(database, cause="needs_reauth:one", message="connect again")
    assert [state for state, _ in webhook.taken] == ["raised", "ended", "raised"]


def test_an_alert_that_was_not_taken_is_sent_the_next_time(database, webhook):
    from ml_connector_airflow.alerts.delivery import raise_alert

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
    from ml_connector_airflow.tasks.tokens import warn_before_end

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


EVERYBODY = """
alerts:
  to:
    - {slack: alerts_slack}
    - {smtp: alerts_mail, to: [ops@example.com, boss@example.com]}
    - {webhook: alerts_webhook}
  no_success_for_hours: 26
syncs:
  main: {audience_id: a, new_contact_status: pending, fields: {FNAME: GivenName}}
"""


class Slack(Webhook):
    """Slack's incoming webhook: a token in the path, JSON with a text, the answer ``ok``."""

    def __init__(self) -> None:
        super().__init__()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                right = self.path == "/services/T0/B0/word"
                if right and outer.status == 200:
                    outer.taken.append(said["text"])
                self.send_response(outer.status if right else 404)
                self.end_headers()
                self.wfile.write(b"ok" if right and outer.status == 200 else b"no_service")

            def log_message(self, *_: object) -> None:
                pass

        self.server.RequestHandlerClass = Handler


class Mailbox(Message):
    """What a mail server took."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = []

    def handle_message(self, message) -> None:
        self.taken.append(message)


@pytest.fixture
def everybody(webhook, tmp_path, monkeypatch, url):
    slack, mailbox = Slack(), Mailbox()
    mail_port = free_port()
    server = Controller(mailbox, hostname="127.0.0.1", port=mail_port)
    server.start()
    (tmp_path / "syncs.yaml").write_text(EVERYBODY)
    connections = {
        "SLACK": {
            "conn_type": "slackwebhook",
            "host": f"http://127.0.0.1:{slack.server.server_port}/services",
            "password": "T0/B0/word",
        },
        "MAIL": {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": mail_port,
            "extra": {
                "from_email": "airflow@example.com",
                "disable_ssl": True,
                "disable_tls": True,
                "retry_limit": 1,
            },
        },
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_ALERTS_{name}", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_ML_CONNECTOR_DB", url)
    with Database(url).begin() as connection:
        connection.execute(text("TRUNCATE ml_connector.alerts"))
    yield SimpleNamespace(slack=slack, mail=mailbox, webhook=webhook)
    server.stop()
    slack.server.shutdown()
    slack.server.server_close()


def test_slack_mail_and_webhook_are_each_told_once_with_cause_fix_runbook_and_run(
    database, everybody
):
    from ml_connector_airflow.alerts.delivery import raise_alert

    for _ in range(3):
        raise_alert(
            database, cause="guard_waiting:main", message="30 archives", link="http://airflow/run"
        )
    (told,) = everybody.slack.taken
    for part in (
        "guard_waiting:main",
        "30 archives",
        "Approve or reject",
        "docs/runbook/guard_waiting.md",
        "http://airflow/run",
    ):
        assert part in told
    (mail,) = everybody.mail.taken
    assert mail["Subject"] == "ml-connector: guard_waiting:main"
    assert mail["To"] == "ops@example.com, boss@example.com"
    assert everybody.webhook.taken == [("raised", "guard_waiting:main")]


def test_one_recipient_that_fails_holds_up_no_other_and_is_told_at_the_next_occasion(
    database, everybody
):
    from ml_connector_airflow.alerts.delivery import deliver_alerts, raise_alert

    everybody.slack.status = 500
    raise_alert(database, cause="needs_reauth:three", message="connect again")
    assert everybody.slack.taken == []
    assert [len(everybody.mail.taken), len(everybody.webhook.taken)] == [1, 1]
    everybody.slack.status = 200
    deliver_alerts(database)
    deliver_alerts(database)
    told = [len(each.taken) for each in (everybody.slack, everybody.mail, everybody.webhook)]
    assert told == [1, 1, 1]


def test_a_recipient_who_never_heard_of_it_does_not_hear_that_it_is_over(database, everybody):
    from ml_connector_airflow.alerts.delivery import end_alert, raise_alert

    everybody.slack.status = 500
    raise_alert(database, cause="needs_reauth:four", message="connect again")
    everybody.slack.status = 200
    end_alert(database, cause="needs_reauth:four")
    assert everybody.slack.taken == []
    assert [state for state, _ in everybody.webhook.taken] == ["raised", "ended"]


def test_a_sync_that_is_silent_for_longer_than_it_may_be_is_told_even_if_it_never_ran(
    database, everybody
):
    from ml_connector_airflow.tasks.watches import watch_syncs

    now = datetime.now(UTC)
    assert watch_syncs(database, now=now) == 0
    assert watch_syncs(database, now=now + timedelta(hours=27)) == 1
    with database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.plans (sync, run_id, kind, state, finished_at)
                    VALUES ('main', 'r', 'sync', 'finished', :at)"""),
            {"at": now + timedelta(hours=28)},
        )
    assert watch_syncs(database, now=now + timedelta(hours=29)) == 0
    expected = [("raised", "no_success:main"), ("ended", "no_success:main")]
    assert everybody.webhook.taken == expected


def _context(error):
    instance = SimpleNamespace(dag_id="sync_customers__main", task_id="push", log_url="http://run")
    return {"ti": instance, "exception": error}


def test_a_task_that_failed_for_good_is_told_without_what_others_say_in_errors(database, everybody):
    from ml_connector_airflow.alerts.callbacks import run_succeeded, task_failed

    task_failed(_context(ValueError("ada@example.com")))
    task_failed(_context(Unavailable("mailchimp: 503")))
    (told,) = everybody.slack.taken
    assert "task push failed: ValueError" in told
    assert "example.com" not in told
    run_succeeded(database, "sync_customers__main")
    assert [state for state, _ in everybody.webhook.taken] == ["raised", "ended"]


def test_a_grant_that_is_over_is_not_told_a_second_time_as_a_failed_task(everybody):
    from ml_connector_airflow.alerts.callbacks import task_failed

    task_failed(_context(NeedsReauth("connect again")))
    assert everybody.webhook.taken == []


def test_every_task_of_every_dag_tells_when_it_failed(bag):
    for dag in bag.dags.values():
        for task in dag.tasks:
            assert task.has_on_failure_callback, f"{dag.dag_id}.{task.task_id}: use default_args"


def test_every_kind_of_alert_has_its_page_in_the_runbook():
    pages = sorted((Path(__file__).resolve().parents[2] / "docs/runbook").glob("[a-z]*.md"))
    assert {page.stem for page in pages} == set(WHAT_TO_DO)
    for page in pages:
        sections = [line[3:] for line in page.read_text().splitlines() if line.startswith("## ")]
        assert sections == ["Means", "Look at", "Do", "Over when"], page.name


@pytest.mark.parametrize(
    ("runbook", "link"),
    [
        ("docs/runbook/{kind}.md", "docs/runbook/no_success.md"),
        ("https://wiki.example.com/runbook", "https://wiki.example.com/runbook#no_success"),
    ],
)
def test_an_alert_links_to_its_page_or_to_its_section_of_one_page(runbook, link):
    alert = PendingAlert(
        cause="no_success:main", message="silent", link="", raised_at=NOW, state="raised"
    )
    assert f"Runbook: {link}" in message(alert, runbook=runbook)


@pytest.mark.parametrize(
    "recipient",
    ["{slack: a, webhook: b}", "{smtp: a}", "{slack: a, to: [x@example.com]}", "{}"],
)
def test_a_recipient_that_is_not_one_connection_is_refused(tmp_path, recipient):
    settings = tmp_path / "syncs.yaml"
    settings.write_text(f"alerts: {{to: [{recipient}]}}\n" + SYNCS.split("\n", 2)[2])
    with pytest.raises(SettingsError, match=r"alerts\.to"):
        load_alerts(settings)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The home with the keys of the module's database."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def in_a_task(database, monkeypatch, keys):
    """The context of a running task, with the database's keys."""
    from airflow.sdk.execution_time.context import set_current_context

    for name in ("ENCRYPTION_KEYS", "INDEX_KEY"):
        monkeypatch.delenv(f"ML_CONNECTOR_{name}", raising=False)
    monkeypatch.setenv("ML_CONNECTOR_HOME", str(keys))
    monkeypatch.setattr("ml_connector.secret_source.FURTHER", [])  # this Airflow has no database
    instance = SimpleNamespace(
        dag_id="d", run_id="r1", task_id="t", try_number=1, map_index=-1, log_url="http://run"
    )
    with set_current_context({"ti": instance}):
        yield


def execute(database, *statements):
    with database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def tamper(database, statement):
    """As somebody who owns the server: triggers do not fire."""
    execute(database, "SET LOCAL session_replication_role = replica", statement)


def links(database):
    with database.begin() as connection:
        rows = connection.execute(text("SELECT cause, link FROM ml_connector.alerts"))
        return {row.cause: row.link for row in rows}


def plan_a_thousand_archives(database):
    execute(
        database,
        "TRUNCATE ml_connector.plans, ml_connector.changes CASCADE",
        """WITH p AS (INSERT INTO ml_connector.plans (sync, run_id, kind)
                      VALUES ('main', 'r1', 'sync') RETURNING id)
           INSERT INTO ml_connector.changes (plan_id, sync, email_key, customer_id, kind, reason)
           SELECT id, 'main', decode(lpad(to_hex(n), 64, '0'), 'hex'), n::text, 'archive', 'inactive'
           FROM p, generate_series(1, 1000) AS n""",
    )


def test_a_plan_that_waits_for_a_person_is_told_once_with_its_run_and_once_it_was_answered(
    database, everybody, in_a_task
):
    from ml_connector_airflow.tasks.sync import hold_large_plan, reject_plan

    plan_a_thousand_archives(database)
    for _ in range(2):
        held = hold_large_plan("main")
    assert held.limits[0].startswith("1,000 contacts would be archived")
    assert everybody.webhook.taken == [("raised", "guard_waiting:main")]
    assert links(database) == {"guard_waiting:main": "http://run"}
    reject_plan("main", person="boss")
    assert everybody.webhook.taken[1:] == [("ended", "guard_waiting:main")]
    assert [len(everybody.slack.taken), len(everybody.mail.taken)] == [2, 2]


def test_a_plan_that_nobody_answered_pushes_nothing_and_is_over_without_a_person(
    database, everybody, in_a_task
):
    """The task goes on with what Airflow's scheduler hands it once the time is over."""
    from airflow.models.hitl import HITLDetail

    from ml_connector_airflow.operators.plan_approval import PlanApproval
    from ml_connector_airflow.tasks.sync import hold_large_plan

    plan_a_thousand_archives(database)
    approval = PlanApproval(task_id="approval", sync="main")
    asked = HITLDetail(options=approval.options, defaults=approval.defaults, multiple=False)
    asked.chosen_options, asked.params_input, asked.responded_at = asked.defaults, {}, NOW
    hold_large_plan("main")
    assert approval.execute_complete({}, asked.as_resume_event_payload(timedout=True)) == []
    with database.begin() as connection:
        choice = connection.execute(
            text("""SELECT outcome, actor FROM ml_connector.audit
                    WHERE action = 'large_plan' ORDER BY id DESC LIMIT 1""")
        ).one()
        states = connection.execute(text("SELECT DISTINCT state FROM ml_connector.changes"))
        assert states.scalars().all() == ["superseded"]
    assert (choice.outcome, choice.actor or "") == ("unanswered", "")
    assert everybody.webhook.taken[-1] == ("ended", "guard_waiting:main")


def test_an_answer_to_an_earlier_state_of_the_plan_is_no_answer(
    database, everybody, in_a_task, monkeypatch
):
    """A browser tab may show the plan as it was before the run decided anew."""
    from airflow.providers.standard.operators.hitl import HITLOperator

    from ml_connector_airflow.operators.plan_approval import PlanApproval
    from ml_connector_airflow.tasks.sync import hold_large_plan

    plan_a_thousand_archives(database)
    approval, asked = PlanApproval(task_id="approval", sync="main"), []
    monkeypatch.setattr(HITLOperator, "execute", lambda *_: asked.append("") or [])

    def answered(shown: str) -> list[int]:
        event = {
            "chosen_options": ["Approve"],
            "params_input": {"shown": shown},
            "responded_at": NOW,
            "responded_by_user": {"id": "1", "name": "Ann"},
        }
        return approval.execute_complete({}, event)

    def stored(what: str) -> str:
        with database.begin() as connection:
            return connection.execute(
                text(f"SELECT counts ->> '{what}' FROM ml_connector.plans ORDER BY id DESC LIMIT 1")
            ).scalar_one()

    hold_large_plan("main")
    assert answered("1:of-before") == []
    assert (len(asked), stored("standing")) == (1, "waiting")
    answered(stored("fingerprint"))
    assert (len(asked), stored("standing")) == (1, "approved")


def test_events_that_were_given_up_are_told_once_by_the_watch_and_once_none_is_left(
    database, everybody, in_a_task
):
    from ml_connector_airflow.tasks.watches import watch

    execute(
        database,
        """INSERT INTO ml_connector.webhook_inbox
               (system, source, kind, dedupe_key, payload, state, received_at)
           SELECT 'quickbooks', 'r', 'k', n::text, '', 'dead', clock_timestamp()
           FROM generate_series(1, 3) AS n""",
    )
    for _ in range(2):
        assert watch() == {"silent_syncs": 0, "dead_letters": 3}
    assert everybody.webhook.taken == [("raised", "dead_letters:inbox")]
    assert "3 webhook events" in everybody.slack.taken[0]
    assert links(database) == {"dead_letters:inbox": "http://run"}
    execute(database, "DELETE FROM ml_connector.webhook_inbox")
    for _ in range(2):
        watch()
    assert everybody.webhook.taken[1:] == [("ended", "dead_letters:inbox")]


def test_the_watch_tells_whoever_did_not_take_an_alert(database, everybody):
    from ml_connector_airflow.alerts.delivery import raise_alert
    from ml_connector_airflow.tasks.watches import watch

    everybody.slack.status = 500
    raise_alert(database, cause="needs_reauth:five", message="connect again")
    everybody.slack.status = 200
    for _ in range(2):
        watch()
    assert [len(everybody.slack.taken), len(everybody.webhook.taken)] == [1, 1]


def test_a_row_that_somebody_edited_is_told_once_by_the_daily_look_and_once_it_is_fixed(
    database, everybody, in_a_task
):
    from ml_connector_airflow.alerts.callbacks import task_failed
    from ml_connector_airflow.tasks.audit import seal, verify_daily

    with database.begin() as connection:
        entry = Entry(
            sync="main", action="create", reason="new_customer", outcome="applied", cause="change:1"
        )
        trail.append(
            connection, [entry], run=RunContext(run_id="r1"), vault=vault_from(os.environ, home())
        )
    list(seal())
    sound = verify_daily()["sound"]
    tamper(database, "UPDATE ml_connector.audit SET outcome = 'failed' WHERE cause = 'change:1'")
    for _ in range(2):
        with pytest.raises(Tampered, match="1 faults") as broken:
            verify_daily()
        task_failed(_context(broken.value))
    assert everybody.webhook.taken == [("raised", "audit_broken:audit")]
    assert links(database) == {"audit_broken:audit": "http://run"}
    tamper(database, "UPDATE ml_connector.audit SET outcome = 'applied' WHERE cause = 'change:1'")
    for _ in range(2):
        assert verify_daily()["sound"] == sound
    assert everybody.webhook.taken[1:] == [("ended", "audit_broken:audit")]


def test_an_alert_of_a_command_has_no_run(database, everybody):
    from ml_connector_airflow.alerts.delivery import raise_alert

    raise_alert(database, cause="audit_broken:audit", message="1 faults")
    assert links(database) == {"audit_broken:audit": ""}
