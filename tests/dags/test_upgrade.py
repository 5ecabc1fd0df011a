"""What 0.1.0 left in Airflow's database goes on under today's code.

``samples/0.1.0`` holds its DAG files and what a real run of it had stored: serialized DAGs, and in
``in_flight.json`` triggers (decrypted), waiting tasks, an open question and XComs.
"""

import ast
import asyncio
import importlib
import inspect
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TaskSuccessEvent
from sqlalchemy import make_url, text

from local.postgres import temporary
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade

SAMPLES = Path(__file__).parent / "samples" / "0.1.0"
STORED = json.loads((SAMPLES / "in_flight.json").read_text())
SERIALIZED = {file.stem: json.loads(file.read_text()) for file in SAMPLES.glob("serialized/*")}
XCOMS: dict[str, dict[str, list[Any]]] = STORED["xcoms"]


def dotted(name: str, separator: str = ".") -> Any:
    """What a stored name stands for."""
    module, _, attribute = name.rpartition(separator)
    return getattr(importlib.import_module(module), attribute)


NEW = {"undo_run"}
"""DAGs that 0.1.0 did not have."""


def test_the_samples_are_of_every_dag_and_of_both_waiting_tasks(bag):
    assert bag.dags.keys() - NEW == SERIALIZED.keys()
    waiting = {(each["dag_id"], each["task_id"]) for each in STORED["task_instances"]}
    assert waiting == {("process_webhooks", "wait"), ("sync_customers__main", "approval")}


UNSHOWN = {"preview"}
"""Parameters of 0.1.0 that no form shows today; a run's configuration may still have them."""

MERGED = {"fetch_members": "plan"}
"""Tasks of 0.1.0 whose work another task does today, each with that one, which came right after it."""


def graph(dag: Any) -> dict[str, set[str]]:
    """The tasks and what comes after each; a merged task leads to where its heir is."""
    return {
        task.task_id: task.downstream_task_ids for task in dag.tasks if task.task_id not in MERGED
    }


def test_a_merged_task_led_to_its_heir_alone_and_handed_it_nothing(bag):
    stored = DagSerialization.from_dict(SERIALIZED["sync_customers__main"])
    for merged, heir in MERGED.items():
        task = stored.get_task(merged)
        assert (task.downstream_task_ids, task.upstream_task_ids) == ({heir}, set())
        assert bag.dags["sync_customers__main"].has_task(heir)
        assert all(source(each) != merged for each in mapped(bag.dags["sync_customers__main"]))


def mapped(dag: Any) -> list[Any]:
    return [task for task in dag.tasks if hasattr(task, "op_kwargs_expand_input")]


@pytest.mark.parametrize("dag_id", SERIALIZED)
def test_a_stored_dag_loads_with_the_tasks_of_today(dag_id, bag):
    stored = DagSerialization.from_dict(SERIALIZED[dag_id])
    today = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[dag_id]))
    assert graph(stored) == graph(today), "a run in flight must find its tasks, in their order"
    assert set(stored.params) - UNSHOWN <= set(today.params)


def classes() -> Iterator[str]:
    """Every class that the stored DAGs name by its path."""
    for stored in SERIALIZED.values():
        for task in (each["__var"] for each in stored["dag"]["tasks"]):
            yield f"{task['_task_module']}.{task['task_type']}"
            if "start_trigger_args" in task:
                yield task["start_trigger_args"]["trigger_cls"]
        yield stored["dag"]["timetable"]["__type"]
    yield from (each["classpath"] for each in STORED["triggers"])


@pytest.mark.parametrize("path", sorted(set(classes())))
def test_a_class_that_is_stored_by_its_path_is_there(path):
    assert isinstance(dotted(path), type)


@pytest.fixture(scope="module")
def due_event():
    """The address of a database with a webhook event that is due."""
    with temporary() as postgres:
        url = postgres.create_database("upgraded")
        upgrade(url)
        database = Database(url)
        with database.begin() as connection:
            connection.execute(
                text("""INSERT INTO ml_connector.webhook_inbox
                            (system, source, kind, dedupe_key, payload, state)
                        VALUES ('quickbooks', 'r', 'k', 'd', '', 'pending')""")
            )
        database.close()
        yield url


@pytest.mark.parametrize("stored", STORED["triggers"], ids=lambda stored: stored["classpath"])
def test_a_stored_trigger_is_made_again_and_fires(stored, due_event, monkeypatch):
    address = make_url(due_event).set(drivername="postgres")
    monkeypatch.setenv(
        "AIRFLOW_CONN_ML_CONNECTOR_DB", address.render_as_string(hide_password=False)
    )
    row = Trigger(classpath=stored["classpath"], kwargs={})
    row.encrypted_kwargs = json.dumps(stored["kwargs"])
    made = TriggerRunner().get_trigger_by_classpath(row.classpath)(**row.kwargs)

    async def first_event() -> object:
        async for event in made.run():
            return event
        return None

    assert isinstance(asyncio.run(asyncio.wait_for(first_event(), 30)), TaskSuccessEvent)


@pytest.mark.parametrize("waiting", STORED["task_instances"], ids=lambda each: each["task_id"])
def test_a_waiting_task_has_the_method_that_it_is_to_go_on_with(waiting, bag):
    task = bag.dags[waiting["dag_id"]].get_task(waiting["task_id"])
    resumed = getattr(task, waiting["next_method"])
    inspect.signature(resumed).bind({}, **waiting["next_kwargs"], event={})


def test_an_open_question_is_understood_when_it_is_answered():
    from ml_connector_airflow.operators import plan_approval

    (question,) = STORED["hitl_details"]
    assert question["options"] == [plan_approval.APPROVE, plan_approval.REJECT]
    assert question["defaults"] == [plan_approval.REJECT]
    assert f"({plan_approval.CONSOLE}/" in question["body"]


def source(mapped: Any) -> str:
    """The task whose XCom a mapped task of today is expanded by."""
    value = mapped.op_kwargs_expand_input.value
    if isinstance(value, dict):
        (value,) = value.values()
    return value.operator.task_id


@pytest.mark.parametrize(
    ("dag_id", "consumer", "producer"),
    [
        ("sync_customers__main", "push", "approval"),
        ("sync_customers__main", "write_activity", "fetch_activity"),
        ("replay_audit", "replay", "choose"),
    ],
)
def test_a_mapped_task_takes_what_0_1_0_handed_it(dag_id, consumer, producer, bag):
    mapped = bag.dags[dag_id].get_task(consumer)
    assert source(mapped) == producer
    takes = inspect.signature(mapped.python_callable)
    handed = [element for value in XCOMS[dag_id][producer] for element in value]
    assert handed, "the sample has an XCom that is not empty"
    for element in handed:
        bound = takes.bind(**element) if isinstance(element, dict) else takes.bind(element)
        kinds = inspect.get_annotations(mapped.python_callable)
        assert all(
            isinstance(value, getattr(kinds[name], "__origin__", kinds[name]))
            for name, value in bound.arguments.items()
        )


def test_the_token_report_takes_what_0_1_0_refreshed():
    from ml_connector_airflow.tasks import tokens

    stored = XCOMS["refresh_quickbooks_tokens"]
    assert stored["report"] == [stored["refresh"]]
    # Fewer than are configured: the report logs them and asks no database.
    assert tokens.report([]) == []
    # A run that was cleared: some results are 0.1.0's, some are today's.
    two = [*stored["refresh"], [{**stored["refresh"][0], "conn_id": "another"}]]
    assert [each["conn_id"] for each in tokens.report(two)] == ["quickbooks_default", "another"]
    inspect.signature(tokens.report).bind(stored["refresh"])


@pytest.fixture(scope="module")
def former_bag():
    """0.1.0's own DAG files under today's package, as a versioned bundle runs them."""
    folder = SAMPLES / "dags"
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        return BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")


def test_the_dag_files_of_0_1_0_load_and_say_that_they_end(former_bag):
    assert former_bag.import_errors == {}
    assert former_bag.dags.keys() == SERIALIZED.keys()
    told = {Path(file).name: texts for file, texts in former_bag.captured_warnings.items()}
    assert told.keys() == {file.name for file in (SAMPLES / "dags").glob("*.py")}
    for texts in told.values():
        assert all("DeprecationWarning: ml_connector_airflow." in each for each in texts)
        assert all("ends with 0.3" in each for each in texts)


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """The calls of a DAG file into modules of our package: module name and call."""
    tree = ast.parse(file.read_text())
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "ml_connector_airflow"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in ours:
                yield owner.id, node


@pytest.mark.filterwarnings("ignore:.*ends with 0.3:DeprecationWarning")
def test_every_call_of_those_files_is_one_that_todays_functions_take():
    import ml_connector_airflow

    found = [each for file in (SAMPLES / "dags").glob("*.py") for each in calls(file)]
    assert len(found) == 16
    for module, call in found:
        function = getattr(getattr(ml_connector_airflow, module), call.func.attr)
        given = {keyword.arg: None for keyword in call.keywords}
        inspect.signature(function).bind(*([None] * len(call.args)), **given)


@pytest.mark.parametrize(
    "name",
    [
        "ml_connector.cli:main",
        "ml_connector_airflow.commands:register",
        "ml_connector_airflow.provider:get_provider_info",
        "ml_connector_airflow.hooks.mailchimp:MailchimpHook",
        "ml_connector_airflow.hooks.quickbooks:QuickBooksHook",
        "ml_connector_airflow.lineage:to_openlineage",
    ],
)
def test_a_name_in_0_1_0s_metadata_is_still_there(name):
    """Entry points and what the provider describes: metadata of the former version may linger."""
    assert callable(dotted(name, ":"))


@pytest.mark.parametrize(
    "module", ["ml_connector_airflow.receiving", "ml_connector_airflow.console"]
)
def test_an_api_server_that_was_not_restarted_still_finds_its_applications(module):
    """0.1.0's plugin imports them at the first request."""
    with pytest.warns(DeprecationWarning, match="restart the API server"):
        importlib.reload(importlib.import_module(module))
    assert callable(dotted(f"{module}.mounted"))


def test_a_name_that_never_was_is_no_attribute_of_the_package():
    import ml_connector_airflow

    assert not hasattr(ml_connector_airflow, "nothing_of_the_kind")
