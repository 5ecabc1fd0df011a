"""``python -m bench.imports``: how long Airflow takes to parse each DAG file, and to import ours.

Each is measured in forks of a process that has imported Airflow, and for DAG files what our plugin
lets the DAG processor import before it forks for each file. The median of the tries counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from bench.table import Row, head
from local.settings import REPOSITORY

DAGS = REPOSITORY / "dags"
PARSE_MOST, IMPORT_MOST = 0.3, 0.1  # seconds, to reach
TIMES = 5
FORKING = """
import json, multiprocessing, sys, time
import airflow.sdk, airflow.plugins_manager, airflow.providers_manager
import airflow.providers.http.hooks.http
from airflow.dag_processing.dagbag import BundleDagBag

def run(code, timed):
    began, used = time.perf_counter(), time.process_time()
    exec(code, {"BundleDagBag": BundleDagBag})
    timed.put((time.perf_counter() - began, time.process_time() - used))

context, measured = multiprocessing.get_context("fork"), {}
before, works, times = json.load(sys.stdin)
exec(before)
for name, code in works.items():
    for _ in range(times):
        timed = context.SimpleQueue()
        child = context.Process(target=run, args=(code, timed))
        child.start()
        child.join()
        assert child.exitcode == 0, name
        measured.setdefault(name, []).append(timed.get())
print("measured", json.dumps(measured))
"""
PARSE = """
bag = BundleDagBag(dag_folder="{file}", bundle_path="{folder}", bundle_name="dags-folder")
assert bag.dags and not bag.import_errors, bag.import_errors
"""
PRELOADED = "import ml_connector_airflow.preloaded"
IMPORTS = {
    "provider, its connection types and the plugin": """
import ml_connector_airflow.provider
ml_connector_airflow.provider.get_provider_info()
import ml_connector_airflow.plugin
""",
    "what a task or a DAG file needs, once in the process that forks them": PRELOADED,
    "the hooks of both connection types": """
import ml_connector_airflow.hooks.quickbooks, ml_connector_airflow.hooks.mailchimp
""",
}


def main() -> None:
    """Print the table."""
    lines = [*head(), *(row.line() for row in rows(argparse.Namespace()))]
    sys.stdout.write("\n".join(lines) + "\n")


def rows(_options: argparse.Namespace) -> Iterator[Row]:
    """Yield every DAG file; what Airflow imports of ours in each process, and for a connection's form."""
    parses = {
        f"DAG parse, {file.name}": PARSE.format(file=file, folder=DAGS)
        for file in sorted(DAGS.glob("*.py"))
    }
    imports = {f"import beyond Airflow's own: {name}": code for name, code in IMPORTS.items()}
    for works, before, most in ((parses, PRELOADED, PARSE_MOST), (imports, "", IMPORT_MOST)):
        for work, tries in _measured(works, before).items():
            seconds, used = (statistics.median(each) for each in zip(*tries, strict=True))
            goal = "once" not in work
            yield Row(
                work=work,
                measured=f"{seconds:.3f} s, {used:.3f} of the processor",
                to_reach=f"{most} s" if goal else "",
                reached=seconds <= most if goal else None,
            )


def _measured(works: dict[str, str], before: str) -> dict[str, list[tuple[float, float]]]:
    """Return wall and processor seconds of each try, by work."""
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
        done = subprocess.run(
            [sys.executable, "-c", FORKING],
            input=json.dumps([before, works, TIMES]),
            env=environment,
            cwd=home,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    (line,) = (one for one in done.stdout.splitlines() if one.startswith("measured "))
    measured: dict[str, list[tuple[float, float]]] = json.loads(line.partition(" ")[2])
    return measured


if __name__ == "__main__":
    main()
