"""A settings file with many syncs: a DAG for each, by its own clock, and quickly parsed."""

import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ZONES = ("Europe/Berlin", "America/Los_Angeles", "Asia/Tokyo", "UTC", "Australia/Sydney")


def test_every_sync_has_a_dag_by_its_own_clock_and_fifty_are_parsed_quickly(tmp_path, monkeypatch):
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.encoders import coerce_to_core_timetable

    lines = ["syncs:"]
    for number in range(50):
        lines += [
            f"  sync{number:02}:",
            f"    quickbooks_conn_id: quickbooks_{number % 7}",
            f"    audience_id: audience{number % 11}",
            f'    schedule: "{number} {number % 24} * * *"',
            f"    timezone: {ZONES[number % 5]}",
            "    new_contact_status: pending",
            "    fields: {FNAME: GivenName}",
        ]
    (tmp_path / "syncs.yaml").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(tmp_path / "syncs.yaml"))
    folder, began = ROOT / "dags", time.process_time()
    bag = BundleDagBag(
        dag_folder=folder / "sync_customers.py", bundle_path=folder, bundle_name="dags-folder"
    )
    took = time.process_time() - began
    assert not bag.import_errors
    found = {
        name: (coerce_to_core_timetable(dag.timetable).summary, dag.timezone.name)
        for name, dag in bag.dags.items()
    }
    assert found == {
        f"sync_customers__sync{n:02}": (f"{n} {n % 24} * * *", ZONES[n % 5]) for n in range(50)
    }
    # dag_processor.dag_file_processor_timeout is 50 s, core.dagbag_import_timeout 30 s.
    assert took < 10


def test_a_task_builds_the_dag_of_its_own_sync_only(tmp_path, monkeypatch):
    """Each task parses the file: with 200 syncs it would take every one of them seconds."""
    from airflow.sdk.definitions._internal.dag_parsing_context import (
        _airflow_parsing_context_manager,
    )

    from ml_connector_airflow.configured import syncs_to_load

    body = "{audience_id: a, new_contact_status: pending, fields: {FNAME: GivenName}}"
    file = tmp_path / "syncs.yaml"
    file.write_text(f"syncs:\n  north: {body}\n  south: {body}\n", encoding="utf-8")
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(file))
    assert [sync.name for sync in syncs_to_load()] == ["north", "south"]
    with _airflow_parsing_context_manager(dag_id="sync_customers__south", task_id="plan"):
        assert [sync.name for sync in syncs_to_load()] == ["south"]
        assert list(syncs_to_load()[0].beside) == ["north"], (
            "what follows from the whole file stays"
        )
    with _airflow_parsing_context_manager(dag_id="south", task_id="plan"):
        assert len(syncs_to_load()) == 2


def test_a_sync_may_have_pools_of_its_own(tmp_path, monkeypatch):
    """Limits are those of a company and of an account: syncs that share neither need not wait."""
    from airflow.dag_processing.dagbag import BundleDagBag

    body = "audience_id: a, new_contact_status: pending, fields: {FNAME: GivenName}"
    file = tmp_path / "syncs.yaml"
    own = "quickbooks_pool: quickbooks_own, mailchimp_pool: mailchimp_own"
    file.write_text(f"syncs:\n  own: {{{body}, {own}}}\n", encoding="utf-8")
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(file))
    folder = ROOT / "dags"
    bag = BundleDagBag(
        dag_folder=folder / "sync_customers.py", bundle_path=folder, bundle_name="dags-folder"
    )
    dag = bag.dags["sync_customers__own"]
    pools = {task.task_id: task.pool for task in dag.tasks}
    assert pools["fetch_customers"] == pools["write_activity"] == "quickbooks_own"
    assert {pools[name] for name in ("plan", "push", "archive")} == {"mailchimp_own"}
