"""`ml-connector register-webhooks` and `receiver`, as a person types them, against the mock server."""

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from sandbox.ports import free_port
from tests import forks
from tests.integration.receiving import TOKEN, cloud_event
from tests.started import ended_with_the_block, wait_until_ready

VARIABLE = "mailchimp_webhook__mailchimp_default__main"


@pytest.fixture
def environment(connected_environment):
    return connected_environment


def airflow(environment: dict[str, str], *words: str) -> str:
    return forks.run(["airflow", *words], env=environment).stdout


def stored(environment: dict[str, str]) -> dict[str, str]:
    return json.loads(airflow(environment, "variables", "get", VARIABLE).strip().splitlines()[-1])


@contextmanager
def receiver(environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    command = ["ml-connector", "receiver", "--port", str(port)]
    log = Path(environment["ML_CONNECTOR_SYNCS"]).with_name("receiver.log")
    with (
        forks.start(command, env=environment, log=log) as process,
        ended_with_the_block(process),
    ):
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, f"{url}/health", log=log)
        yield url


def register(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return forks.run(["ml-connector", "register-webhooks", *options], env=environment)


def hooks(company) -> list[dict]:
    return company.mailchimp_client(Counter()).webhooks()


def deliveries(company) -> dict[str, int]:
    return company.mailchimp_control("POST", "webhooks/flush", {"seconds": 30})


def test_registering_repairing_and_receiving_from_end_to_end(environment, company):
    company.seed("ada@example.com")
    company.mailchimp_control("PUT", "settings", {"webhook_retry_seconds": [0.2] * 100})
    with receiver(environment) as url:
        first = register(environment, "--url", url)
        assert first.returncode == 0, first.stderr
        assert f"main: created {url}/ml-connector/webhooks/mailchimp/main?secret=... (signed)" in (
            first.stdout
        )
        assert f"endpoint URL    {url}/ml-connector/webhooks/quickbooks" in first.stdout
        assert "field Webhook verifier token (it is set already)" in first.stdout
        (hook,) = hooks(company)
        assert all(hook["events"].values())
        assert hook["sources"] == {"user": True, "admin": True, "api": False}
        secrets = stored(environment)
        assert secrets["secret"] in hook["url"]

        # The receiver runs already, and learns of its keys when the first delivery needs them.
        company.person("ada@example.com", "unsubscribe")
        assert deliveries(company)["delivered"] == 1

        again = register(environment, "--url", url)
        assert "is as it should be" in again.stdout
        assert hooks(company) == [hook]

        client = company.mailchimp_client(Counter())
        client.update_webhook(hook["id"], {"events": {"cleaned": False}})
        assert "repaired events of" in register(environment, "--url", url).stdout
        assert hooks(company)[0]["events"]["cleaned"] is True

        # The signing secret is lost: a new webhook, and the old one's deliveries still taken.
        kept = {name: value for name, value in secrets.items() if name != "signing_secret"}
        airflow(environment, "variables", "set", VARIABLE, json.dumps(kept))
        renewed = register(environment, "--url", url)
        assert "created" in renewed.stdout
        assert "removed 1 of ours" in renewed.stdout
        (new,) = hooks(company)
        assert new["id"] != hook["id"]
        after = stored(environment)
        assert after["secret"] != secrets["secret"] == after["former_secret"]
        # The receiver reads keys every 3 s. Until then it refuses, and Mailchimp tries again.
        company.seed("eve@example.com")
        company.person("eve@example.com", "unsubscribe")
        assert deliveries(company)["delivered"] == 2

        listed = register(environment, "--list").stdout
        assert new["id"] in listed
        assert "signed; events: subscribe" in listed

        answer = requests.post(
            f"{url}/ml-connector/webhooks/quickbooks", **signed([cloud_event(1)]), timeout=10
        )
        assert answer.status_code == 200

        removed = register(environment, "--url", url, "--remove")
        assert "removed 1 of ours" in removed.stdout
        assert hooks(company) == []
        everything = "".join(
            one.stdout + one.stderr for one in (first, again, renewed, removed)
        ) + str(listed)
        for secret in {*secrets.values(), *after.values()}:
            assert secret not in everything
    rows = inbox(company)
    assert sorted((system, kind, state) for system, kind, state in rows) == [
        ("mailchimp", "unsubscribe", "pending"),
        ("mailchimp", "unsubscribe", "pending"),
        ("quickbooks", "customer.updated", "pending"),
    ]
    assert audited(company) == [
        "create_webhook",
        "update_webhook",
        "create_webhook",
        "delete_webhook",
        "delete_webhook",
    ]


def checked(environment) -> str:
    """What `ml-connector check` says of the webhooks."""
    done = forks.run(["ml-connector", "check"], env=environment)
    (line,) = [line for line in done.stdout.splitlines() if ": webhooks: " in line]
    return line


@contextmanager
def answering() -> Iterator[str]:
    """Somebody who answers 200 to whatever is asked, as Mailchimp wants it of a new webhook."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_check_tells_of_a_webhook_whose_deliveries_would_be_refused(environment, company):
    with answering() as url:
        address = f"{url}/ml-connector/webhooks/mailchimp/main?secret=planted"
        wanted = {"url": address, "events": {}, "sources": {}}
        company.mailchimp_client(Counter()).create_webhook(wanted)
    said = checked(environment)
    assert said.startswith("FAILED main: webhooks: Mailchimp's webhook ")
    assert "has a secret that is not known here" in said
    assert "planted" not in said

    known = json.loads(environment["AIRFLOW_CONN_MAILCHIMP_DEFAULT"])
    known["extra"] = {"webhook_secret": "other, planted"}
    said = checked(environment | {"AIRFLOW_CONN_MAILCHIMP_DEFAULT": json.dumps(known)})
    assert said == (
        "ok     main: webhooks: QuickBooks' verifier token is set; 1 registered at Mailchimp"
    )
    books = json.loads(environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    del books["extra"]["webhook_verifier_token"]
    known = {
        "AIRFLOW_CONN_MAILCHIMP_DEFAULT": json.dumps(known),
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(books),
    }
    said = checked(environment | known)
    assert said.startswith("warn   main: webhooks: the connection quickbooks_default has no")


def test_somebody_elses_webhook_is_left_alone(environment, company):
    client = company.mailchimp_client(Counter())
    with receiver(environment) as url:
        other = f"{url}/ml-connector/webhooks/mailchimp/other?secret=x"
        client.create_webhook({"url": other, "events": {}, "sources": {}})
        register(environment, "--url", url)
        register(environment, "--url", url, "--remove")
    assert [hook["url"] for hook in hooks(company)] == [other]


@pytest.mark.parametrize("url", ["", "airflow.example.com", "http://airflow.example.com"])
def test_an_address_that_cannot_be_right_is_one_plain_sentence(environment, url):
    answer = register(environment, "--url", url)
    assert answer.returncode == 2
    assert "webhooks need https" in answer.stderr
    assert "Traceback" not in answer.stderr


def signed(document: object) -> dict:
    from ml_connector.quickbooks import webhooks as quickbooks

    body = json.dumps(document).encode()
    return {
        "data": body,
        "headers": {"intuit-signature": quickbooks.signature(body, TOKEN).decode()},
    }


def inbox(company) -> list[tuple[str, str, str]]:
    from sqlalchemy import text

    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT system, kind, state FROM ml_connector.webhook_inbox")
        )
        return [tuple(row) for row in rows]


def audited(company) -> list[str]:
    from sqlalchemy import text

    with company.database.begin() as connection:
        return list(
            connection.execute(text("SELECT action FROM ml_connector.audit ORDER BY id")).scalars()
        )


def test_a_receiver_at_a_public_address_passes_a_consents_redirect_on_to_airflow(environment):
    airflow_url = {"AIRFLOW__API__BASE_URL": "http://127.0.0.1:8080"}
    public = {"ML_CONNECTOR_PUBLIC_URL": "https://tunnel.example.com"}
    back = "/ml-connector/console/main/setup/connected/mailchimp?code=c0de&state=s"
    with receiver({**environment, **airflow_url, **public}) as url:
        answer = requests.get(f"{url}{back}", allow_redirects=False, timeout=30)
        assert answer.headers["location"] == f"http://127.0.0.1:8080{back}"
        assert requests.get(f"{url}/api/v2/connections", timeout=30).status_code == 404
