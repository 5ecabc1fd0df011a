"""``python -m bench.imports``: how long Airflow takes to parse each DAG file, and to import ours.

Each is measured in processes of its own, in which Airflow is imported already; the median counts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.table import Row, head
from local.settings import REPOSITORY

DAGS = REPOSITORY / "dags"
PARSE_MOST, IMPORT_MOST = 0.3, 0.1  # seconds, to reach
TIMES = 5
PARSE = """
import time
from airflow.dag_processing.dagbag import BundleDagBag
began, used = time.perf_counter(), time.process_time()
bag = BundleDagBag(dag_folder="{file}", bundle_path="{folder}", bundle_name="dags-folder")
took = time.perf_counter() - began, time.process_time() - used
assert bag.dags and not bag.import_errors, bag.import_errors
print("took", *took)
"""
IMPORT = """
import time
{before}
began, used = time.perf_counter(), time.process_time()
{ours}
print("took", time.perf_counter() - began, time.process_time() - used)
"""
OF_AIRFLOW = """
import airflow.sdk, airflow.plugins_manager, airflow.providers_manager
import airflow.providers.http.hooks.http
"""
IMPORTS = {
    "provider, connection types and plugin": """
import ml_connector_airflow.provider
ml_connector_airflow.provider.get_provider_info()
import ml_connector_plugin
""",
    "the hooks of both connection types": """
import ml_connector_airflow.hooks.quickbooks, ml_connector_airflow.hooks.mailchimp
""",
}


def main() -> None:
    """Print the table."""
    lines = [*head(), *(row.line() for row in rows(argparse.Namespace()))]
    sys.stdout.write("\n".join(lines) + "\n")


def rows(_options: argparse.Namespace) -> Iterator[Row]:
    """Every DAG file; what Airflow imports of ours in each process, and for a connection's form."""
    for file in sorted(DAGS.glob("*.py")):
        code = PARSE.format(file=file, folder=DAGS)
        yield _row(f"DAG parse, {file.name}", code, PARSE_MOST)
    for name, ours in IMPORTS.items():
        code = IMPORT.format(before=OF_AIRFLOW, ours=ours)
        yield _row(f"import beyond Airflow's own: {name}", code, IMPORT_MOST)


def _row(work: str, code: str, most: float) -> Row:
    seconds, used = (statistics.median(each) for each in zip(*_measured(code), strict=True))
    return Row(
        work=work,
        measured=f"{seconds:.3f} s",
        to_reach=f"{most} s",
        reached=seconds <= most,
        cpu=round(used, 3),
    )


def _measured(code: str) -> Iterator[tuple[float, float]]:
    """Yield wall and processor seconds of each try."""
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{name: value for name, value in os.environ.items() if "AIRFLOW" not in name},
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "PYTHONPATH": os.pathsep.join(
                str(REPOSITORY / folder) for folder in ("include", "plugins", "")
            ),
        }
        for _ in range(TIMES):
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=environment,
                cwd=Path(home),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            (line,) = (one for one in done.stdout.splitlines() if one.startswith("took "))
            wall, used = map(float, line.split()[1:])
            yield wall, used


if __name__ == "__main__":
    main()
