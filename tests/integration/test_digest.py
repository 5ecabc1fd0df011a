"""The weekly digest: counts beside last week's, in every channel, once a week."""

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import text

from ml_connector.alerts.digest import monday_of
from sandbox.ports import free_port
from tests.dags.test_alerts import Mailbox, Slack, Webhook
from tests.integration.company import AUDIENCE
from tests.integration.conftest import KEY

SETTINGS = f"""
alerts:
  digest: weekly
  digest_names: NAMES
  to:
    - {{slack: alerts_slack}}
    - {{smtp: alerts_mail, to: [boss@example.com]}}
    - {{teams: alerts_teams}}
    - {{webhook: alerts_webhook}}
syncs:
  main: {{audience_id: {AUDIENCE}, new_contact_status: pending, fields: {{FNAME: GivenName}}}}
"""
NAMES = ("Amy", "Ben & <Sons>", "No Address")


class Posts(Webhook):
    """An HTTP receiver that keeps what it took."""

    def __init__(self) -> None:
        super().__init__()
        outer = self

        class Handler(self.server.RequestHandlerClass):
            def do_POST(self) -> None:  # noqa: N802 -- the library's name
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.status == 200:
                    outer.taken.append((self.path, body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server.RequestHandlerClass = Handler


@pytest.fixture
def channels(company, connected_environment, tmp_path, monkeypatch):
    slack, teams, webhook, mailbox = Slack(), Posts(), Posts(), Mailbox()
    port = free_port()
    mail = Controller(mailbox, hostname="127.0.0.1", port=port)
    mail.start()
    hosts = [f"http://127.0.0.1:{each.server.server_port}" for each in (slack, teams, webhook)]
    extra = {"from_email": "airflow@example.com", "disable_ssl": True, "disable_tls": True}
    connections = {
        "SLACK": {"conn_type": "slackwebhook", "host": f"{hosts[0]}/services",
                  "password": "T0/B0/word"},
        "MAIL": {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra},
        "TEAMS": {"conn_type": "http", "host": f"{hosts[1]}/workflows/1?sig=secret"},
        "WEBHOOK": {"conn_type": "http", "host": hosts[2]},
    }  # fmt: skip
    for name, value in connected_environment.items():
        if name.startswith(("AIRFLOW_CONN_", "ML_CONNECTOR_")):
            monkeypatch.setenv(name, value)
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_ALERTS_{name}", json.dumps(connection))
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(tmp_path / "digest.yaml"))
    monkeypatch.setenv("ML_CONNECTOR_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("ML_CONNECTOR_INDEX_KEY", KEY)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    yield SimpleNamespace(
        slack=slack, teams=teams, webhook=webhook, mail=mailbox,
        settings=tmp_path / "digest.yaml",
        taken=lambda: [len(each.taken) for each in (slack, mailbox, teams, webhook)],
    )  # fmt: skip
    mail.stop()
    for each in (slack, teams, webhook):
        each.server.shutdown()
        each.server.server_close()


def write_settings(channels, *, names: bool) -> None:
    channels.settings.write_text(SETTINGS.replace("NAMES", str(names).lower(), 1))


def text_of_card(message: dict) -> str:
    (attachment,) = message["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["type"] == "AdaptiveCard"
    return json.dumps(attachment["content"], ensure_ascii=False)


def test_a_digest_goes_to_every_channel_once_a_week_with_counts_links_and_no_names(
    company, channels
):
    from ml_connector_airflow.tasks.digest import send_digest

    for name, email in (("Amy", "amy@x.org"), ("Ben & <Sons>", "ben@x.org"), ("Cy", "cy@x.org")):
        company.customer(name, email)
    company.customer("No Address", "not an address")
    company.settings["new_contact_status"] = "pending"
    company.seed("no-customer@x.org")
    company.sync()
    company.person("amy@x.org", "unsubscribe")
    company.person("ben@x.org", "clean")
    company.person("cy@x.org", "confirm")
    company.person("no-customer@x.org", "unsubscribe")
    company.sync()
    with company.database.begin() as connection:  # approved and applied long after it was planned
        connection.execute(
            text("UPDATE ml_connector.plans SET created_at = created_at - interval '20 days'")
        )
    now = datetime.now(UTC) + timedelta(days=7)
    write_settings(channels, names=False)

    channels.teams.status = 503
    assert [send_digest(company.database, now=now) for _ in range(2)] == [3, 0]
    channels.teams.status = 200
    assert [send_digest(company.database, now=now) for _ in range(2)] == [1, 0]
    assert channels.taken() == [1, 1, 1, 1]

    (_, told) = channels.webhook.taken[0]
    figures = told["syncs"][0]["figures"]
    assert {name: (each["now"], each["before"]) for name, each in figures.items()} == {
        "new": (3, 0),
        "lost": (0, 0),
        "bounced": (1, 0),
        "opted_out": (1, 0),
        "field_problems": (0, None),
        "to_call": (1, None),
        "invalid_email": (1, None),
    }
    (mail,) = channels.mail.taken
    plain, html = (part.get_payload(decode=True).decode() for part in mail.get_payload())
    assert [part.get_content_type() for part in mail.get_payload()] == ["text/plain", "text/html"]
    assert mail["Subject"].startswith("ml-connector: week of ")
    assert "Bounced: 1 (last week 0)" in plain
    sunday = date.fromisoformat(told["week"]) + timedelta(days=6)
    week = f"since={told['week']}&until={sunday}"
    assert f"console/main/audit?action=create&outcome=applied&{week}" in plain
    assert "console/main/customers?status=cleaned&quickbooks=active" in plain
    assert 'name="viewport"' in html
    (path, card) = channels.teams.taken[0]
    assert path == "/workflows/1?sig=secret"
    everywhere = {
        "plain": plain,
        "html": html,
        "slack": channels.slack.taken[0],
        "teams": text_of_card(card),
        "webhook": json.dumps(told),
    }
    for channel, said in everywhere.items():
        assert "https://airflow.example.com/ml-connector/console/main" in said, channel
        assert [name for name in NAMES if name in said] == [], channel
        assert "@x.org" not in said, channel

    write_settings(channels, names=True)
    assert send_digest(company.database, now=now + timedelta(days=7)) == 4
    figures = channels.webhook.taken[1][1]["syncs"][0]["figures"]
    assert (figures["new"]["now"], figures["new"]["before"]) == (0, 3)
    assert (figures["to_call"]["now"], figures["to_call"]["before"]) == (1, 1)
    assert figures["to_call"]["names"] == ["Ben & <Sons>"]
    assert "Ben &amp; &lt;Sons&gt;" in channels.slack.taken[1]
    assert (
        "Ben &amp; &lt;Sons&gt;"
        in channels.mail.taken[1].get_payload()[1].get_payload(decode=True).decode()
    )


def test_a_digest_that_nobody_asked_for_is_not_sent(company, channels):
    from ml_connector_airflow.tasks.digest import send_digest

    channels.settings.write_text(SETTINGS.replace("digest: weekly", "digest: none").replace(
        "NAMES", "false", 1))  # fmt: skip
    assert send_digest(company.database, now=datetime.now(UTC)) == 0
    assert channels.taken() == [0, 0, 0, 0]


def test_an_alert_reaches_teams_as_a_card(company, channels):
    from ml_connector_airflow.alerts.delivery import raise_alert

    write_settings(channels, names=False)
    with company.database.begin() as connection:
        connection.execute(text("TRUNCATE ml_connector.alerts"))
    raise_alert(company.database, cause="guard_waiting:main", message="30 archives")
    ((_, card),) = channels.teams.taken
    assert "30 archives" in text_of_card(card)


@pytest.mark.parametrize(
    ("now", "monday"),
    [
        ("2026-11-30T06:59:00+00:00", "2026-11-16"),
        ("2026-11-30T07:00:00+00:00", "2026-11-23"),
        ("2026-12-06T22:00:00+00:00", "2026-11-23"),
    ],
)
def test_a_week_is_told_from_monday_eight_oclock_in_the_syncs_zone(now, monday):
    from zoneinfo import ZoneInfo

    found = monday_of(datetime.fromisoformat(now), ZoneInfo("Europe/Berlin"))
    assert found.isoformat() == monday
