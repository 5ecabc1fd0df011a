"""Load the connector's DAGs into a file of the user's own DAG folder.

The wheel has the checkout's ``dags/`` as ``ml_connector_airflow/dags/``. Airflow looks for DAGs in its
DAG folder only, so a file that calls ``load_dags`` goes there; ``ml-connector dags`` prints it.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context


def dags_folder() -> Path:
    """Return the folder of the DAG files: the installed package's, or the checkout's ``dags/``."""
    package = Path(__file__).resolve().parent
    installed = package / "dags"
    return installed if installed.is_dir() else package.parents[1] / "dags"


def load_dags() -> dict[str, DAG]:
    """Return every DAG by id, or in a task only those of its own file.

    Raises what a DAG file raises: Airflow shows it as an import error of the user's file.
    """
    parsed_for = (get_parsing_context().dag_id or "").partition("__")[0]
    files = {file.stem: file for file in sorted(dags_folder().glob("*.py"))}
    chosen = [files[parsed_for]] if parsed_for in files else files.values()
    return {dag_id: dag for file in chosen for dag_id, dag in _dags_of(file).items()}


def _dags_of(file: Path) -> dict[str, DAG]:
    # Executed, not imported: a process that parses twice must get new DAGs, not those of before.
    spec = spec_from_file_location(f"ml_connector_airflow_dags_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {found.dag_id: found for found in vars(module).values() if isinstance(found, DAG)}
