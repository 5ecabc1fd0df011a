"""docker-compose.yaml at work: its own commands and environment, as processes (compose.py)."""

import http.client
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from tests.e2e.compose import missing_programs
from tests.e2e.distributed import distributed
from tests.e2e.sender import customer_event, send

CUSTOMERS = 2000
QUICKBOOKS = "/ml-connector/webhooks/quickbooks"
MAILCHIMP = "/ml-connector/webhooks/mailchimp/main?secret=sandbox-webhook-secret"


@pytest.fixture(scope="module")
def machines():
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)} (Debian has both)")
    with distributed(CUSTOMERS) as running:
        yield running


def asked(machines, method: str, path: str, body: bytes = b"") -> int:
    """What the proxy answers; 0 if it hangs up."""
    connection = http.client.HTTPConnection(urlsplit(machines.stack.site).netloc, timeout=20)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        return 0
    finally:
        connection.close()


def test_a_signed_webhook_comes_through_the_proxy_into_the_inbox(machines):
    answer = send(f"{machines.stack.site}{QUICKBOOKS}", customer_event("1"))
    assert answer.status == 200
    with psycopg.connect(machines.stack.database_url()) as connection:
        rows = connection.execute("SELECT count(*) FROM ml_connector.webhook_inbox").fetchone()
    assert rows == (1,)


@pytest.mark.parametrize(
    ("expected", "method", "path"),
    [
        (200, "GET", MAILCHIMP),
        (401, "POST", QUICKBOOKS),
        (404, "GET", QUICKBOOKS),
        (404, "PUT", MAILCHIMP),
        (404, "GET", "/"),
        (404, "GET", "/health"),
        (404, "GET", "/api/v2/version"),
        (404, "GET", "/ml-connector/console/"),
        (404, "POST", f"{QUICKBOOKS}/more"),
        (404, "POST", "/ml-connector/webhooks/mailchimp/main/more"),
    ],
)
def test_the_proxy_passes_both_webhook_paths_and_nothing_else(machines, expected, method, path):
    assert asked(machines, method, path, b"not signed" if method == "POST" else b"") == expected


def test_the_proxy_refuses_a_body_over_one_megabyte(machines):
    assert asked(machines, "POST", QUICKBOOKS, b"x" * ((1 << 20) + 1)) in {413, 0}


def test_a_worker_lost_in_the_middle_of_the_push_costs_nothing_but_time(machines):
    """The other one takes over: the audience exactly right, one audit row for each contact.

    That Airflow notices sooner than by its default of 5 minutes is a limit of the helper's waiting.
    """
    seen = machines.kill_a_worker_in_the_push(after=2, wait_for_retry=False)
    assert seen.state == "success", seen
    assert seen.states["push [0]"] == ("success", 2), seen
    assert machines.differences() == []
    assert machines.doubled() == []


def test_a_dump_restored_into_a_new_database_is_whole(machines, tmp_path):
    """docs/how-to/back-up.md: the restored audit verifies with the same keys."""
    server = machines.stack.database_url().rpartition("/")[0]
    dump = str(tmp_path / "ml_connector.dump")
    for command in (
        ("pg_dump", "--format", "custom", "--file", dump, f"{server}/ml_connector"),
        ("createdb", "--maintenance-db", f"{server}/postgres", "restored"),
        ("pg_restore", "--clean", "--if-exists", "--dbname", f"{server}/restored", dump),
    ):
        done = machines.stack.exec("postgres", *command)
        assert done.returncode == 0, done.stderr
    address = f"{server}/restored".replace("postgresql:", "postgres:")
    done = machines.stack.exec(
        "api-server", "ml-connector", "audit", "verify", AIRFLOW_CONN_ML_CONNECTOR_DB=address
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_keys_are_in_no_log_and_no_environment(machines):
    folder = machines.stack.folder
    keys = [file.read_text() for file in (folder / "secrets").iterdir()]
    logs = [*(folder / "logs").rglob("*.log"), *(folder / "volumes" / "logs").rglob("*.log")]
    assert len(logs) > 10
    for log in logs:
        text = log.read_text("utf-8", "replace")
        assert not [key for key in [*keys, "sandbox-webhook-secret"] if key in text], log
    for one in machines.stack.containers:
        if one.component.process.poll() is None:
            environment = str(psutil.Process(one.component.process.pid).environ())
            assert not [key for key in keys if key in environment], one.name
