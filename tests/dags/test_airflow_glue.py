"""Airflow finds our connection types, and runs none of our modules twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def test_both_connection_types_have_labelled_fields_of_their_own():
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    widgets = manager.connection_form_widgets
    behaviours = manager.field_behaviours
    for field in ("realm_id", "token_url", "webhook_verifier_token"):
        assert f"extra__quickbooks__{field}" in widgets
    for field in ("webhook_secret", "webhook_signing_secret"):
        assert widgets[f"extra__mailchimp__{field}"].is_sensitive
    assert behaviours["quickbooks"]["relabeling"]["login"] == "Client ID"
    assert "port" in behaviours["mailchimp"]["hidden_fields"]


@pytest.mark.parametrize("conn_type", ["quickbooks", "mailchimp"])
def test_airflow_finds_the_hook_of_a_connection_type(conn_type):
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    hook = ProvidersManagerTaskRuntime().hooks[conn_type]
    assert hook is not None
    assert hook.connection_id_attribute_name == f"{conn_type}_conn_id"


def test_a_hook_looks_its_connection_up_once_and_the_next_hook_again(monkeypatch):
    """A look-up is a request to Airflow's API server, and a connection may change between tasks."""
    from ml_connector_airflow.hooks.quickbooks import QuickBooksHook

    def connect(client_id: str) -> None:
        connection = {"conn_type": "quickbooks", "login": client_id, "password": "secret"}
        monkeypatch.setenv("AIRFLOW_CONN_QUICKBOOKS_ONCE", json.dumps(connection))

    connect("first")
    hook = QuickBooksHook("quickbooks_once")
    mark = hook.token_endpoint().mark("token")
    connect("second")
    assert hook.token_endpoint().mark("token") == mark
    assert QuickBooksHook("quickbooks_once").token_endpoint().mark("token") != mark


def test_only_a_task_with_a_slot_of_the_mailchimp_pool_reads_pages_in_parallel(monkeypatch):
    """Decision 0009: two connections are left to people, who use the console and the commands."""
    from ml_connector.scope import Scope
    from ml_connector.settings import Sync
    from ml_connector_airflow.hooks.mailchimp import MailchimpHook
    from ml_connector_airflow.tasks import sync as tasks
    from ml_connector_airflow.wiring import PAGES_AT_A_TIME, mailchimp_client

    monkeypatch.setenv("AIRFLOW_CONN_MAILCHIMP_DEFAULT", json.dumps({"conn_type": "mailchimp"}))
    monkeypatch.setattr(
        MailchimpHook, "get_client", lambda *_, pages_at_a_time, **__: pages_at_a_time
    )
    values = {"name": "west", "audience_id": "b2c3d4e5f6", "new_contact_status": "subscribed"}
    scope = Scope(
        sync=Sync.model_validate({**values, "fields": {"FNAME": "GivenName"}}),
        database=None,
        vault=None,
    )
    assert mailchimp_client(scope) == 1
    assert tasks._slot_client(scope) == PAGES_AT_A_TIME


def test_the_console_reads_a_syncs_company_in_its_connection(monkeypatch):
    from ml_connector.settings import Sync
    from ml_connector_airflow.mounts.console import AirflowServices

    connection = {"conn_type": "quickbooks", "extra": {"realm_id": "9341450000000002"}}
    monkeypatch.setenv("AIRFLOW_CONN_QUICKBOOKS_WEST", json.dumps(connection))
    values = {"name": "west", "audience_id": "b2c3d4e5f6", "new_contact_status": "subscribed"}
    pasted = {"conn_type": "quickbooks", "extra": {"realm_id": " 9341 4500 0000\u00a00002 "}}
    monkeypatch.setenv("AIRFLOW_CONN_QUICKBOOKS_PASTED", json.dumps(pasted))
    for conn_id, realm in (
        ("quickbooks_west", "9341450000000002"),
        ("quickbooks_pasted", "9341450000000002"),
        ("quickbooks_gone", ""),
    ):
        sync = Sync.model_validate({**values, "quickbooks_conn_id": conn_id, "fields": {}})
        assert AirflowServices().realm(sync) == realm


def test_a_missing_mailchimp_connection_takes_no_link_to_quickbooks_away(monkeypatch):
    from ml_connector.console.links import Apps
    from ml_connector.settings import Sync
    from ml_connector_airflow.mounts.console import AirflowServices

    monkeypatch.setenv("AIRFLOW_CONN_QUICKBOOKS_LINKED", json.dumps({"conn_type": "quickbooks"}))
    values = {"name": "west", "audience_id": "b2c3d4e5f6", "new_contact_status": "subscribed"}
    connections = {"quickbooks_conn_id": "quickbooks_linked", "mailchimp_conn_id": "gone"}
    sync = Sync.model_validate({**values, **connections, "fields": {}})
    assert AirflowServices().apps(sync) == Apps(quickbooks="https://app.qbo.intuit.com")


@pytest.mark.parametrize(
    ("base_url", "under"),
    [
        ("", ""),
        ("http://localhost:8080", ""),
        ("https://finch.org/", ""),
        ("https://finch.org/airflow/", "/airflow"),
    ],
)
def test_the_link_of_an_approval_leads_to_the_page_under_airflows_own_path(
    monkeypatch, base_url, under
):
    from ml_connector_airflow.operators.plan_approval import plan_page

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    assert plan_page("main", 7) == f"{under}/ml-connector/console/main/plans/7"


def test_the_navigation_leads_to_the_console_under_airflows_own_path(monkeypatch):
    from ml_connector_airflow.plugin import views

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://finch.org/airflow")
    (view,) = views()
    assert view["href"] == "/airflow/ml-connector/console/"
    assert view["icon"] == "/airflow/ml-connector/console/static/icon.svg"
    assert view["icon_dark_mode"] == "/airflow/ml-connector/console/static/icon-dark.svg"


def test_a_difference_to_an_empty_value_says_empty():
    from ml_connector.sync.drift import ADDRESS, Drift
    from ml_connector_airflow.commands import drift

    amy = "amy@finch.org"
    rule = "address_changed_in_mailchimp"
    found = Drift(ADDRESS, "7", "Amy", amy, "Email", "", amy, None, "in Mailchimp", rule)
    assert f"Email is empty in QuickBooks, {amy} in Mailchimp" in drift._line(found)


def test_the_plugin_loader_does_not_run_our_package_under_bare_names():
    """Its folder is in plugins/.airflowignore; a second copy of a class would match no retry rule."""
    code = (
        "import sys; from airflow.plugins_manager import _get_plugins as load; load();"
        "print([n for n in ('wiring', 'steps', 'retries', 'commands') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip().splitlines()[-1] == "[]"


def test_the_ignore_file_names_the_package():
    lines = (PLUGINS / ".airflowignore").read_text().splitlines()
    assert "ml_connector_airflow/" in lines


@pytest.mark.parametrize(
    ("error", "action"),
    [
        ("CredentialsError", "FAIL"),
        ("NeedsReauth", "FAIL"),
        ("QuotaExhausted", "FAIL"),
        ("AudienceNotReady", "FAIL"),
        ("ConsentRaised", "FAIL"),
        ("IncompleteRead", "FAIL"),
        ("StorageError", "RETRY"),
        ("RateLimited", "RETRY"),
        ("Unavailable", "RETRY"),
        ("ResponseLost", "RETRY"),
    ],
)
def test_what_airflow_does_after_each_error(error, action):
    from ml_connector import errors
    from ml_connector_airflow.retries import POLICY

    decision = POLICY.evaluate(getattr(errors, error)("message"), try_number=1, max_tries=3)
    assert decision.action.name == action


def test_a_task_tries_again_if_the_secrets_backend_of_its_keys_refuses(monkeypatch):
    """Neither a defect of ours nor an error for good: access comes back without a change here."""
    from ml_connector.errors import StorageError
    from ml_connector_airflow.key_places import variable_key
    from ml_connector_airflow.retries import POLICY

    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "tests.refusing_secrets.RefusingSecrets")
    with pytest.raises(
        StorageError, match=r"ml_connector_secret_index_key .*\(AccessDenied"
    ) as told:
        variable_key("ML_CONNECTOR_INDEX_KEY")
    assert "123456789012" not in str(told.value)
    assert POLICY.evaluate(told.value, try_number=1, max_tries=3).action.name == "RETRY"


def test_a_deadlock_in_airflows_database_is_one_plain_sentence():
    from sqlalchemy.exc import OperationalError

    from ml_connector.errors import StorageError
    from ml_connector_airflow.commands.migrate import airflows_database

    deadlock = Exception("deadlock detected\nDETAIL:  Process 1 waits for ShareLock")
    with (
        pytest.raises(StorageError) as raised,
        airflows_database(),
    ):
        raise OperationalError("UPDATE dag_run SET state = %(state)s", {"state": "x"}, deadlock)
    assert str(raised.value) == "Airflow's database cannot be used: deadlock detected"


def test_the_question_about_a_plan_says_each_thing_once_and_names_nobody():
    from ml_connector.store.approvals import Size
    from ml_connector.sync.forecast import Forecast
    from ml_connector.sync.guard import HeldPlan
    from ml_connector_airflow.operators.plan_approval import _question

    size = Size(creates=0, updates=600, archives=416, already=0, audience=3980)
    held = HeldPlan(
        plan_id=12,
        forecast=Forecast(
            size=size, creates={}, matched={}, left_out=[], unfit=[], customers=4000, reads=3
        ),
        first="",
        limits=(
            "416 contacts would be archived, 398 are allowed",
            "600 contacts would be changed, 500 are allowed",
        ),
        samples=(("archive", "inactive", ("7", "9")),),
    )
    said = _question("main", held, "the next run plans anew")
    assert held.limits[0] not in said, "it is the question's subject"
    assert said.startswith("**600 contacts would be changed, 500 are allowed.**\n\nThe audience")
    assert "| the customer is inactive in QuickBooks | 7, 9 |" in said
    assert "[plan 12](/ml-connector/console/main/plans/12)" in said
    assert said.endswith(
        "**Approve** writes exactly this plan. **Reject** writes nothing: the next run plans anew."
    )
