"""Watches: each fault is told once, and once when it is over."""

import json
import shutil
from collections import Counter, namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from ml_connector.settings import load_sync
from ml_connector.store import pacing
from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.registration import EVENTS, SOURCES, ManualSecrets, Registration
from ml_connector.webhooks.secrets import WebhookSecrets
from tests import forks
from tests.integration.company import AUDIENCE, REALM
from tests.integration.conftest import KEY
from tests.integration.test_register_webhooks import answering, hooks

SYNCS = f"""
webhooks: {{repair: false}}
syncs:
  main: {{audience_id: {AUDIENCE}, new_contact_status: pending, fields: {{FNAME: GivenName}}}}
"""


class Kept:
    """A sync's webhook secrets in memory."""

    def __init__(self) -> None:
        self.secrets = WebhookSecrets()

    def load(self) -> WebhookSecrets:
        return self.secrets

    def save(self, secrets: WebhookSecrets) -> None:
        self.secrets = secrets

    def delete(self) -> None:
        self.secrets = WebhookSecrets()


@pytest.fixture
def watches(company, connected_environment, tmp_path, monkeypatch):
    """The watches, with connections to the mock servers."""
    from ml_connector_airflow.tasks import account_watches

    (tmp_path / "syncs.yaml").write_text(SYNCS)
    for name, value in connected_environment.items():
        if name.startswith(("AIRFLOW_CONN_", "ML_CONNECTOR_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(tmp_path / "syncs.yaml"))
    monkeypatch.setenv("ML_CONNECTOR_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("ML_CONNECTOR_INDEX_KEY", KEY)
    return account_watches


@pytest.fixture
def kept(watches, monkeypatch):
    from ml_connector_airflow import webhook_registration

    kept = Kept()
    monkeypatch.setattr(webhook_registration, "WebhookVariable", lambda *_: kept)
    return kept


def alerts(company) -> dict[str, tuple[bool, str]]:
    """Return whether each alert holds, and its text."""
    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT cause, ended_at IS NULL, message FROM ml_connector.alerts")
        )
        return {cause: (holds, message) for cause, holds, message in rows}


def execute(company, statement: str, **values) -> None:
    with company.database.begin() as connection:
        connection.execute(text(statement), values)


def test_a_webhook_that_does_not_work_is_told_for_each_fault_and_over_once_it_does(
    company, watches, kept
):
    sync, client = load_sync("main"), company.mailchimp_client(Counter())

    def watch() -> tuple[bool, str] | None:
        for _ in range(2):
            watches.watch_webhook(company.database, sync)
        return alerts(company).get("webhook_broken:main")

    def off(*names: str) -> None:
        wanted = dict.fromkeys(names, False)
        client.update_webhook(hooks(company)[0]["id"], {"events": wanted})

    assert watch() is None
    with answering() as url:
        registration = Registration(
            company.scope(), client, base=url, keeper=kept, by_hand=ManualSecrets()
        )
        registration.ensure()
        assert watch() is None
        faults = {
            "has no webhook": lambda: client.delete_webhook(hooks(company)[0]["id"]),
            "lacks events": lambda: off("cleaned"),
            "it has no events": lambda: off(*hooks(company)[0]["events"]),
            "refuses all it delivers": lambda: kept.save(WebhookSecrets(secret="another")),
            "secret or signature": lambda: kept.save(WebhookSecrets(secret=kept.secrets.secret)),
        }
        for said, inject in faults.items():
            inject()
            holds, message = watch()
            assert (holds, said in message, kept.secrets.secret in message) == (True, True, False)
            registration.ensure()
            assert watch()[0] is False
        registration.remove()
        assert watch()[0] is False


def test_a_webhook_registered_by_hand_is_watched_from_when_it_was_seen_until_its_removal(
    company, watches, kept, connected_environment, monkeypatch
):
    connection = json.loads(connected_environment["AIRFLOW_CONN_MAILCHIMP_DEFAULT"])
    extra = {"webhook_secret": "known", "webhook_signing_secret": "key"}
    connection["extra"] = {**connection.get("extra", {}), **extra}
    monkeypatch.setenv("AIRFLOW_CONN_MAILCHIMP_DEFAULT", json.dumps(connection))
    company.mailchimp_control("PUT", "settings", {"webhook_signing": False})
    sync, client = load_sync("main"), company.mailchimp_client(Counter())

    def watch() -> tuple[bool, str] | None:
        watches.watch_webhook(company.database, sync)
        return alerts(company).get("webhook_broken:main")

    assert watch() is None  # the secret may be that of another audience
    with answering() as url:
        address = f"{url}{PREFIX}/mailchimp/main?secret=known"
        hook = client.create_webhook({"url": address, "events": EVENTS, "sources": SOURCES})
        holds, message = watch()
        assert (holds, "not signed although" in message) == (True, True)
        client.delete_webhook(hook["id"])
        holds, message = watch()
        assert (holds, "has no webhook" in message) == (True, True)
        by_hand = ManualSecrets(secrets=["known"])
        registration = Registration(company.scope(), client, base=url, keeper=kept, by_hand=by_hand)
        registration.remove()
        assert watch()[0] is False


def test_an_alert_ends_with_the_sync_or_the_connection_that_it_is_about(company, watches, kept):
    gone = (
        "webhook_broken:gone", "webhooks_silent:gone/mailchimp", "monthly_reads:gone at 70%",
        "contact_limit:gone",
    )  # fmt: skip
    for cause in gone:
        watches.hold_alert(company.database, cause=cause, message="it holds")
    watches.watch_accounts(company.database, now=datetime.now(UTC))
    assert {cause: alerts(company)[cause][0] for cause in gone} == dict.fromkeys(gone, False)


@pytest.mark.endurance
def test_a_webhook_is_repaired_by_the_task_if_the_settings_allow_it(company, connected_environment):
    """The token DAG with Airflow's own task runner: secrets are read and written through it."""
    settings = Path(connected_environment["ML_CONNECTOR_SYNCS"])
    settings.write_text(settings.read_text() + "\nwebhooks: {repair: true}\n")
    quickbooks = json.loads(connected_environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    quickbooks["extra"]["token_url"] = f"{company.quickbooks}/oauth2/v1/tokens/bearer"
    token = json.dumps({"refresh_token": "sandbox-refresh-token"})
    environment = {
        **connected_environment,
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": token,
    }
    with answering() as url:
        forks.run(["ml-connector", "register-webhooks", "--url", url], env=environment)
        client = company.mailchimp_client(Counter())
        (hook,) = hooks(company)
        client.delete_webhook(hook["id"])
        forks.run(["airflow", "dags", "reserialize"], env=environment)
        done = forks.run(["airflow", "dags", "test", "refresh_quickbooks_tokens"], env=environment)
        assert "webhook_repaired" in done.stdout + done.stderr
        (anew,) = hooks(company)
        stored = forks.run(
            ["airflow", "variables", "get", "mailchimp_webhook__mailchimp_default__main"],
            env=environment,
        )
    secret = json.loads(stored.stdout.strip().splitlines()[-1])["secret"]
    assert secret in anew["url"]
    assert "webhook_broken:main" not in alerts(company)


def test_silence_is_told_if_runs_found_what_no_webhook_announced(company, watches, kept):
    sync, now = load_sync("main"), datetime.now(UTC)
    kept.save(WebhookSecrets(secret="known"))
    for name in ("amy", "ben"):
        company.customer(name, f"{name}@birds-sanctuary.com")
    company.sync()
    execute(company, "UPDATE ml_connector.plans SET created_at = created_at - interval '3 days'")
    execute(
        company, "UPDATE ml_connector.customers SET last_updated = last_updated - interval '4 days'"
    )

    def watch() -> dict[str, bool]:
        for _ in range(2):
            watches.watch_silence(company.database, sync, now=now)
        return {cause: holds for cause, (holds, _) in alerts(company).items()}

    assert watch() == {}
    for name in ("amy", "ben"):
        company.person(f"{name}@birds-sanctuary.com", "unsubscribe")
        company.customer(f"new {name}", f"new.{name}@birds-sanctuary.com")
    company.sync()
    assert watch() == {}  # a webhook may still come
    execute(
        company,
        "UPDATE ml_connector.member_events SET happened_at = happened_at - interval '3 hours'",
    )
    execute(
        company,
        """UPDATE ml_connector.customers SET last_updated = last_updated - interval '3 hours'
           WHERE last_updated > clock_timestamp() - interval '1 day'""",
    )
    silent = {"webhooks_silent:main/mailchimp", "webhooks_silent:main/quickbooks"}
    assert watch() == dict.fromkeys(silent, True)
    now += timedelta(days=3)  # what was missed is old, and still nothing arrives
    assert watch() == dict.fromkeys(silent, True)
    now -= timedelta(days=3)

    def deliver(system: str, source: str, sync: str | None) -> None:
        execute(
            company,
            """INSERT INTO ml_connector.webhook_inbox
                   (system, source, sync, kind, dedupe_key, payload, state)
               VALUES (:system, :source, :sync, 'k', :source, '', 'done')""",
            system=system,
            source=source,
            sync=sync,
        )

    deliver("mailchimp", "a", "main")
    deliver("quickbooks", "another company", None)
    assert watch() == {
        "webhooks_silent:main/mailchimp": False,
        "webhooks_silent:main/quickbooks": True,
    }
    deliver("quickbooks", REALM, None)
    assert watch() == dict.fromkeys(silent, False)


def test_metered_reads_are_told_at_70_and_90_percent_over_all_connections_of_an_app(
    company, watches, connected_environment, monkeypatch
):
    now = datetime(2026, 11, 20, tzinfo=UTC)
    same = connected_environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"]
    monkeypatch.setenv("AIRFLOW_CONN_QB_TWO", same)
    monkeypatch.setenv("AIRFLOW_CONN_QB_OTHER", same.replace("sandbox-client", "another-app"))
    named = ("quickbooks_default", "qb_two", "qb_other")
    syncs = [
        load_sync("main").model_copy(update={"quickbooks_conn_id": conn_id}) for conn_id in named
    ]

    def read(conn_id: str, number: int, call: str = "quickbooks.query") -> None:
        with company.database.begin() as connection:
            pacing.count_calls(connection, account=conn_id, calls={call: number}, day=now.date())

    def watch(at: datetime = now) -> dict[str, bool]:
        for _ in range(2):
            watches.watch_reads(company.database, syncs, now=at, limit=500_000)
        return {cause: holds for cause, (holds, _) in alerts(company).items()}

    read("quickbooks_default", 200_000)
    read("quickbooks_default", 900_000, call="quickbooks.batch")
    read("qb_other", 340_000)
    assert watch() == {}
    read("qb_two", 160_000)
    assert watch() == {"monthly_reads:qb_two at 70%": True}
    read("qb_two", 90_000)
    both = {"monthly_reads:qb_two at 70%", "monthly_reads:qb_two at 90%"}
    assert watch() == dict.fromkeys(both, True)
    assert "450,000 metered reads" in alerts(company)["monthly_reads:qb_two at 90%"][1]
    assert watch(now + timedelta(days=15)) == dict.fromkeys(both, False)


def test_contacts_near_the_plans_limit_and_full_storage_are_told(company, watches, monkeypatch):
    for number in range(9):
        status = ("subscribed", "transactional", "unsubscribed")[min(number, 2)]
        company.seed(f"m{number}@birds-sanctuary.com", status=status)
    syncs = [load_sync("main")]
    cause = "contact_limit:mailchimp_default"
    assert watches.watch_contacts(company.database, syncs, limit=11) == 0
    assert watches.watch_contacts(company.database, syncs, limit=10) == 1
    assert alerts(company)[cause] == (
        True,
        "mailchimp_default: 9 contacts in Mailchimp, the plan includes 10",
    )
    watches.watch_contacts(company.database, syncs, limit=0)
    assert alerts(company)[cause][0] is False

    usage = namedtuple("usage", "total used free")
    full, roomy = usage(10**11, 10**11 - 10**6, 10**6), usage(10**11, 10**9, 99 * 10**9)
    watches.home().mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(watches, "GB", 10**6)
    for disk, limit in ((full, 1), (roomy, 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, disk=disk: disk)
        watches.watch_storage(company.database, max_gb=limit)
        found = {name: holds for name, (holds, _) in alerts(company).items() if "storage" in name}
        assert found == dict.fromkeys(("storage_full:disk", "storage_full:database"), disk is full)
