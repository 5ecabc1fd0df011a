"""What a forked task or DAG file would import again is imported before the fork."""

import os
import subprocess
import sys
from pathlib import Path

DAGS = Path(__file__).resolve().parents[2] / "dags"

# What an executor's worker and the DAG processor have imported when they fork; then what they do.
SCRIPT = """
import sys
import airflow.executors.local_executor, airflow.sdk.execution_time.task_runner
import airflow.dag_processing.processor, airflow.dag_processing.dagbag
import airflow.serialization.serialized_objects
if sys.argv[2] == "preloaded":
    import ml_connector_airflow.preloaded
before = set(sys.modules)
bag = airflow.dag_processing.dagbag.BundleDagBag(
    dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="dags-folder"
)
assert bag.dags and not bag.import_errors, bag.import_errors
print("NEW", *sorted(set(sys.modules) - before))
"""


def imported(way: str, home: Path) -> set[str]:
    """The modules that parsing the DAG files imports."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(DAGS), way],
        env=os.environ | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("NEW")[2].split())


def test_parsing_imports_nothing_that_is_preloaded(tmp_path):
    assert {name for name in imported("preloaded", tmp_path) if "airflow" in name} == set()
    assert len(imported("as it is", tmp_path)) > 100
