"""What every DAG of this project keeps to; the messages say the fix."""

import ast
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pendulum
import pytest

DAGS = Path(__file__).resolve().parents[2] / "dags"
SYSTEMS = {"fetch_customers": "quickbooks_api", "plan": "mailchimp_api"}
WRITERS = ("plan", "push", "archive")


def test_every_dag_file_loads(bag):
    assert bag.import_errors == {}


def test_there_is_one_daily_dag_for_every_configured_sync(bag):
    assert "sync_customers__main" in bag.dags


def test_every_task_retries_by_our_policy(bag):
    from ml_connector_airflow.retries import POLICY

    for dag in bag.dags.values():
        for task in dag.tasks:
            assert task.retries >= 1, f"{dag.dag_id}.{task.task_id}: set retries in default_args"
            assert task.retry_policy == POLICY, (
                f"{dag.dag_id}.{task.task_id}: set retry_policy=POLICY in default_args"
            )


def test_every_task_has_a_timeout_and_only_a_wait_for_events_a_long_one(bag):
    for dag in bag.dags.values():
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}: set execution_timeout, or take DEFAULT_ARGS"
            assert task.execution_timeout is not None, where
            waits = (dag.dag_id, task.task_id) == ("process_webhooks", "wait")
            assert waits or task.execution_timeout <= timedelta(hours=12), where


def test_a57b_a_task_that_works_for_more_than_12_hours_is_ended_and_retried(bag):
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from ml_connector_airflow.retries import POLICY

    push = bag.dags["sync_customers__main"].get_task("push")
    assert push.execution_timeout == timedelta(hours=12)
    ended = POLICY.evaluate(AirflowTaskTimeout("12 hours"), try_number=1, max_tries=push.retries)
    assert ended.action.name != "FAIL"


def test_every_task_says_in_one_line_what_it_does(bag):
    for dag in bag.dags.values():
        for task in dag.tasks:
            doc = (getattr(task, "python_callable", type(task)).__doc__ or "").strip()
            assert doc, f"{dag.dag_id}.{task.task_id}: give the function a docstring"


def sections(page: str) -> dict[str, str]:
    """The text of each section of a DAG's page, by heading."""
    _, *parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))


def test_every_dag_says_what_it_does_what_it_takes_and_what_to_do_when_it_fails(bag):
    for dag in bag.dags.values():
        told = sections(dag.doc_md or "")
        where = f"{dag.dag_id}: plugins/ml_connector_airflow/dag_docs has its page"
        assert list(told) == ["What it does", "Parameters", "When it fails"], where
        assert all(told.values()), where
        assert dag.description, f"{dag.dag_id}: set description"
        assert dag.dag_display_name != dag.dag_id, f"{dag.dag_id}: set dag_display_name"


def test_every_page_of_a_dag_names_its_tasks_its_params_and_its_runbook(bag):
    pages = {file.stem for file in (DAGS.parent / "docs/runbook").glob("[a-z]*.md")}
    for dag in bag.dags.values():
        told = {heading: _named(text) for heading, text in sections(dag.doc_md).items()}
        assert {task.task_id for task in dag.tasks} <= told["What it does"], dag.dag_id
        assert set(dag.params) == told["Parameters"], dag.dag_id
        (runbook,) = re.findall(r"^Runbook pages?: (.+)\.$", dag.doc_md, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", runbook)) <= pages, dag.dag_id


def _named(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", text))


def test_every_param_has_a_title_and_a_sentence_in_the_trigger_form(bag):
    for dag in bag.dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            where = f"{dag.dag_id}.{name}: see forms.py"
            assert re.fullmatch(r"[A-Z][\w ]+", param.schema.get("title", "")), where
            assert re.fullmatch(r"[A-Z].+\.", param.description or ""), where


def test_airflow_shows_pages_names_and_titles_after_it_stored_the_dag(bag):
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in bag.dags.values():
        shown = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert shown.doc_md == dag.doc_md
        assert shown.dag_display_name == dag.dag_display_name
        for name in dag.params:
            title = dag.params.get_param(name).schema["title"]
            assert shown.params.get_param(name).schema["title"] == title


def test_tasks_that_talk_to_a_system_take_a_slot_of_its_pool(bag):
    dag = bag.dags["sync_customers__main"]
    for name, pool in {**SYSTEMS, **dict.fromkeys(WRITERS, "mailchimp_api")}.items():
        assert dag.get_task(name).pool == pool, f"{name}: set pool={pool!r}"


def test_slots_times_threads_stay_at_or_below_eight_connections():
    from local.airflow import POOLS
    from ml_connector.sync import push
    from ml_connector.webhooks import handlers

    daily, webhooks = POOLS["mailchimp_api"][0], POOLS["webhooks"][0]
    assert daily * push.THREADS + webhooks * handlers.THREADS <= 8


def test_the_daily_dag_goes_from_reading_to_reporting(bag):
    dag = bag.dags["sync_customers__main"]
    order = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert order == {
        "fetch_customers": ["plan"],
        "plan": ["approval"],
        "approval": ["push"],
        "push": ["archive"],
        "archive": ["fetch_activity"],
        "fetch_activity": ["write_activity"],
        "write_activity": ["report"],
        "report": [],
    }


def test_a_days_run_covers_the_day_before_it(bag):
    from airflow.serialization.encoders import coerce_to_core_timetable

    dag = bag.dags["sync_customers__main"]
    timetable = coerce_to_core_timetable(dag.timetable)
    interval = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2026, 7, 2, 12))
    assert interval.end - interval.start == timedelta(days=1)
    assert interval.end.in_timezone("America/Los_Angeles").hour == 4


def test_tokens_are_renewed_every_50_minutes_for_every_quickbooks_connection(bag):
    dag = bag.dags["refresh_quickbooks_tokens"]
    assert dag.schedule == timedelta(minutes=50)
    assert dag.get_task("refresh").pool == "quickbooks_api"
    assert dag.get_task("refresh").op_kwargs_expand_input.value == {
        "conn_ids": [["quickbooks_default"]]
    }


def test_runs_of_one_dag_never_overlap_and_missed_days_are_not_caught_up(bag):
    for dag in bag.dags.values():
        assert (dag.max_active_runs, dag.catchup) == (1, False), f"{dag.dag_id}: use DAG_DEFAULTS"


def test_an_approval_that_the_scheduler_lost_is_asked_for_again_within_seconds(bag):
    approval = bag.dags["sync_customers__main"].get_task("approval")
    assert approval.retries > 0
    assert approval.retry_delay.total_seconds() <= 10


def test_the_trigger_form_ends_with_what_writes_unasked_and_has_no_preview_to_forget(bag):
    params = bag.dags["sync_customers__main"].params
    assert params.dump() == {"customer_ids": [], "full_sync": False, "approved": False}
    for dag_id in ("sync_customers__main", "undo_run"):
        *_, last = bag.dags[dag_id].params
        assert last == "approved"
        schema = bag.dags[dag_id].params.get_param(last).schema
        assert schema["section"] == "Without asking", "a section of its own, below the others"


def test_a_run_is_a_preview_by_its_configuration_alone(bag):
    from airflow.sdk.definitions.param import process_params

    from ml_connector_airflow.tasks.sync import is_preview

    dag = bag.dags["sync_customers__main"]
    task = dag.get_task("plan")
    for given, preview in (({"preview": True}, True), ({"preview": False}, False), ({}, False)):
        params = process_params(dag, task, given, suppress_exception=False)
        assert is_preview({"params": params}) is preview
        assert is_preview({"params": {}, "dag_run": SimpleNamespace(conf=given)}) is preview


def test_a_report_makes_the_audience_known_as_an_asset(bag):
    outlets = bag.dags["sync_customers__main"].get_task("report").outlets
    assert [asset.uri.rstrip("/") for asset in outlets] == ["mailchimp://a1b2c3d4e5"]


@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda file: file.name)
def test_dag_files_are_tables_of_contents(file):
    """No HTTP, no SQL, no try/except, and at most 80 lines."""
    tree = ast.parse(file.read_text())
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (
            node.names
            if isinstance(node, ast.Import)
            else [ast.alias(name=node.module or "", asname=None)]
        )
    }
    assert imported <= {"pendulum", "airflow", "ml_connector", "ml_connector_airflow", "datetime"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    lines = len(file.read_text().splitlines())
    assert lines <= 80, f"{file.name} has {lines} lines: move params to forms, texts to dag_docs"


def test_an_invalid_settings_file_shows_as_an_import_error_with_key_and_line(tmp_path, monkeypatch):
    from airflow.dag_processing.dagbag import BundleDagBag

    settings = tmp_path / "syncs.yaml"
    settings.write_text("syncs:\n  main:\n    audience_id: a\n    fields: {FNAME: GivenName}\n")
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(settings))
    bag = BundleDagBag(dag_folder=DAGS, bundle_path=DAGS, bundle_name="dags-folder")
    assert bag.import_errors
    for error in bag.import_errors.values():
        assert "line 2: syncs.main.new_contact_status" in error


def test_runs_under_way_go_before_those_that_wait_and_webhooks_before_all(bag):
    """Where workers are few; Airflow's own rule begins every company's run before one ends."""
    daily, webhooks = (bag.dags[name] for name in ("sync_customers__main", "process_webhooks"))
    for task in (*daily.tasks, *webhooks.tasks):
        assert task.weight_rule == "upstream", f"{task.task_id}: take weight_rule of DEFAULT_ARGS"
    most = sum(task.priority_weight for task in daily.tasks)  # of the last task, by that rule
    assert all(task.priority_weight > most for task in webhooks.tasks)


TASKS = DAGS.parent / "plugins" / "ml_connector_airflow" / "tasks"


def called_in_tasks(source: Path) -> set[tuple[str, str]]:
    """The functions of our task modules that a file calls, as (module, function)."""
    tree = ast.parse(source.read_text())
    modules = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "ml_connector_airflow.tasks"
        for alias in node.names
    }
    return {
        (modules[call.func.value.id], call.func.attr)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in modules
    }


def test_every_function_that_a_task_calls_withholds_the_values_of_an_unexpected_error():
    sources = [*DAGS.glob("*.py"), *(TASKS.parent / "operators").glob("*.py")]
    called = set[tuple[str, str]]().union(*map(called_in_tasks, sources))
    assert {("sync", "push_shard"), ("undo", "write"), ("audit", "verify_daily")} <= called
    for module, name in sorted(called):
        found = {
            node.name: {ast.unparse(each) for each in node.decorator_list}
            for node in ast.parse((TASKS / f"{module}.py").read_text()).body
            if isinstance(node, ast.FunctionDef)
        }
        assert "values_withheld()" in found[name], f"tasks/{module}.py: {name}"
