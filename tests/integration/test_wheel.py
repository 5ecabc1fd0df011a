"""The wheel that a user installs: two packages with the DAGs and the plugin, and nothing else."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PLACES = {
    "include/ml_connector/": "ml_connector/",
    "include/config/syncs.schema.json": "ml_connector/config/syncs.schema.json",
    "plugins/ml_connector_airflow/": "ml_connector_airflow/",
    "dags/": "ml_connector_airflow/dags/",
}
"""Folders and files of the checkout, each with its place in the wheel."""
DAG_IDS = {
    "process_webhooks",
    "refresh_quickbooks_tokens",
    "replay_audit",
    "sync_customers__main",
    "undo_run",
    "verify_audit",
}
PARSED = """
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(dag_folder={folder!r}, bundle_path={folder!r}, bundle_name="dags-folder")
print(sorted(bag.dags), bag.import_errors)
"""
"""What Airflow's DAG processor does with a DAG folder."""
# With -I -S: no other folder than this one and the standard library's.
AS_INSTALLED = "import sys; sys.path.insert(0, {folder!r}); sys.argv[0] = 'ml-connector'; {code}"


def tracked() -> list[str]:
    """Files that git knows and that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [file for file in listed if (ROOT / file).is_file()]


def build(kind: str, source: Path, to: Path) -> Path:
    """Build a wheel or an sdist by the locked setuptools; return the file."""
    to.mkdir(exist_ok=True)
    code = f"from setuptools.build_meta import build_{kind} as build; print(build({str(to)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return to / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """Built from a copy: a build leaves folders that a later one would pack."""
    folder = tmp_path_factory.mktemp("sdist")
    for file in tracked():
        place = folder / "source" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, place)
    return build("sdist", folder / "source", folder)


@pytest.fixture(scope="module")
def wheel(sdist) -> Path:
    """Built from the sdist, as an installer without the wheel does."""
    folder = sdist.parent / "unpacked"
    shutil.unpack_archive(sdist, folder)
    return build("wheel", folder / sdist.name.removesuffix(".tar.gz"), sdist.parent)


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A user's site-packages: the wheel beside the locked requirements, without this checkout."""
    folder = tmp_path_factory.mktemp("site")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("__editable__", "ml_connector")) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(
    site: Path, code: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c"),
            AS_INSTALLED.format(folder=str(site), code=code),
            *arguments,
        ],
        cwd=site,
        env={"PATH": "/usr/bin:/bin", "HOME": str(site), "COLUMNS": "100"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_holds_two_packages_file_for_file_and_nothing_else(wheel):
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    metadata = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    wanted = {
        place + file.removeprefix(source)
        for file in tracked()
        for source, place in PLACES.items()
        if file.startswith(source)
    }
    assert {name for name in names if not name.startswith(metadata)} == wanted


def test_its_metadata_is_what_an_index_shows(wheel):
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told = Metadata.from_email(archive.read(name), validate=True)  # raises what is not valid
        assert f"{name.removesuffix('METADATA')}licenses/LICENSE" in archive.namelist()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (told.license_expression, told.license_files) == ("Apache-2.0", ["LICENSE"])
    assert (told.author, told.description_content_type) == (
        "ml-connector contributors",
        "text/markdown",
    )
    assert str(told.version) == project["version"]
    assert told.description.strip() == (ROOT / "README.md").read_text().strip()
    assert "Framework :: Apache Airflow :: Provider" in told.classifiers
    assert "airflow-provider" in told.keywords


def test_it_says_its_version(site):
    said = run(site, "from ml_connector.cli import main; main()", "--version")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert said.stdout == f"ml-connector {version}\n", said.stderr


def test_a_build_leaves_nothing_behind(wheel):
    """A later one would pack it as well."""
    source = wheel.parent / "source"
    left = {str(file.relative_to(source)) for file in source.rglob("*") if file.is_file()}
    assert left == set(tracked())


def test_its_commands_are_listed_without_the_sandbox(site):
    listed = run(site, "from ml_connector.cli import main; main()", "--help")
    assert listed.returncode == 0, listed.stderr
    commands = {line.split()[0] for line in listed.stdout.splitlines() if line.startswith("  ")}
    assert {"check", "dags", "migrate", "sync"} <= commands
    assert "sandbox" not in commands


@pytest.fixture
def dag_folder(site, tmp_path) -> Path:
    """A user's DAG folder with the file that ``ml-connector dags`` prints."""
    printed = run(site, "from ml_connector.cli import main; main()", "dags")
    assert printed.returncode == 0, printed.stderr
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "ml_connector_dags.py").write_text(printed.stdout)
    return folder


SETTINGS = {"ML_CONNECTOR_SYNCS": str(ROOT / "include/config/syncs.yaml")}


def parsed(site: Path, folder: Path, code: str = PARSED, **settings: str) -> str:
    found = run(
        site,
        code.format(folder=str(folder)),
        AIRFLOW_HOME=str(folder.parent / "airflow"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(folder),
        **settings or SETTINGS,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip().splitlines()[-1]


def test_one_file_in_the_users_dag_folder_makes_all_dags_appear(site, dag_folder):
    assert parsed(site, dag_folder) == f"{sorted(DAG_IDS)} {{}}"


def test_a_task_loads_the_dags_of_its_own_file_only(site, dag_folder):
    """Two hundred syncs take 2.5 s to build, and each webhook would wait for them."""
    of_a_task = "import os; os.environ['_AIRFLOW_PARSING_CONTEXT_DAG_ID'] = 'process_webhooks'"
    assert parsed(site, dag_folder, of_a_task + PARSED) == "['process_webhooks'] {}"


WEST = '{"syncs": {"west": {"audience_id": "a1", "new_contact_status": "pending", "fields": {}}}}'


def test_without_a_file_the_settings_are_an_airflow_variable(site, dag_folder):
    """As on a managed service; a variable of the environment is one of Airflow's backends."""
    found = parsed(site, dag_folder, AIRFLOW_VAR_ML_CONNECTOR_SYNCS=WEST)
    assert "'sync_customers__west'" in found
    assert found.endswith("{}")


def test_without_a_file_or_a_variable_the_settings_are_beside_the_dags(site, dag_folder):
    (dag_folder / "syncs.yaml").write_text(WEST)
    found = parsed(site, dag_folder, PATH="/usr/bin:/bin")
    assert "'sync_customers__west'" in found


def test_without_any_settings_the_dags_say_where_they_go(site, dag_folder):
    found = parsed(site, dag_folder, PATH="/usr/bin:/bin")
    assert "add the Airflow Variable ml_connector_syncs" in found


def test_airflow_finds_plugin_and_connection_types_by_the_packages_entry_points(site):
    code = (
        "from importlib.metadata import distribution;"
        "points = distribution('ml-connector').entry_points;"
        "print(*(f'{p.group}={p.value}' for p in points if 'airflow' in p.group), sep='\\n');"
        "[p.load() for p in points]"
    )
    found = run(site, code, AIRFLOW_HOME=str(site / "airflow"))
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) == {
        "airflow.plugins=ml_connector_airflow.plugin:MlConnectorPlugin",
        "apache_airflow_provider=ml_connector_airflow.provider:get_provider_info",
    }


def test_the_plugin_is_registered_once_where_its_folder_is_used_as_well(site):
    code = "from airflow.plugins_manager import _get_plugins; print(_get_plugins())"
    found = run(
        site,
        code,
        AIRFLOW_HOME=str(site / "airflow"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
    )
    assert found.returncode == 0, found.stderr
    assert "already registered" not in found.stdout + found.stderr
    assert found.stdout.count("MlConnectorPlugin") == 1


LOCKS = sorted((ROOT / "tests/airflow").glob("*.txt"))


@pytest.mark.endurance
@pytest.mark.parametrize(
    ("lock", "python"),
    zip(LOCKS, ["3.11", "3.12", "3.13"], strict=True),
    ids=lambda x: Path(x).stem,
)
def test_installing_it_changes_no_version_of_an_airflow_that_is_there(wheel, lock, python):
    """The lock's versions are constraints: whatever had to change would make this unsolvable."""
    done = subprocess.run(
        [
            *(Path(sysconfig.get_path("scripts")) / "uv", "pip", "compile", "--system-certs"),
            *("--python-version", python, "--no-header", "--no-annotate"),
            *("--constraints", lock, "-"),
        ],
        input=f"ml-connector[celery,metrics,slack,smtp] @ {wheel.as_uri()}",
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert f"apache-airflow=={lock.stem}" in done.stdout.splitlines()


def test_its_dependencies_have_no_upper_bound_but_airflows_next_major_version(wheel):
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        needs = re.findall(r"^Requires-Dist: (.+)$", archive.read(name).decode(), re.MULTILINE)
    assert [need for need in needs if re.search("<|==|~=", need.partition(";")[0])] == [
        "apache-airflow<4,>=3.1"
    ]
    core = [need for need in needs if "extra ==" not in need]
    assert not [
        need for need in core if re.match("pixeltable|psutil|statsd|.*(slack|celery)", need)
    ]


def imported_at_once(file: Path) -> set[str]:
    """Modules that a file imports when it is imported itself."""
    statements = ast.parse(file.read_text()).body
    found = {each.name for one in statements if isinstance(one, ast.Import) for each in one.names}
    return found | {str(one.module) for one in statements if isinstance(one, ast.ImportFrom)}


def test_every_package_that_it_imports_at_once_is_a_dependency_of_its_own():
    """What an extra brings may be imported within a function only."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {canonicalize_name(Requirement(need).name) for need in needs}
    sources = [file for file in tracked() if file.startswith(tuple(PLACES)) and file[-3:] == ".py"]
    ours = {"ml_connector", "ml_connector_airflow"}
    distributions = packages_distributions()
    undeclared = {}
    for file in sources:
        for module in imported_at_once(ROOT / file):
            top, _, rest = module.partition(".")
            if top in ours or top in sys.stdlib_module_names:
                continue
            names = {canonicalize_name(name) for name in distributions[top]}
            if top == "airflow":
                kind, _, provider = rest.partition(".")
                provider = provider.partition(".")[0] if kind == "providers" else ""
                names = {"apache-airflow" + (f"-providers-{provider}" if provider else "")}
            if not names & declared:
                undeclared[module] = file
    assert len(sources) > 200
    assert undeclared == {}


@pytest.mark.endurance
def test_it_installs_beside_the_locked_airflow_and_its_dags_appear(wheel, dag_folder, tmp_path):
    """A fresh environment: nothing of this one's."""
    uv, python = Path(sysconfig.get_path("scripts")) / "uv", tmp_path / "venv/bin/python"
    installing = [uv, "pip", "install", "--quiet", "--system-certs", "--python", python, wheel]
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"],
        [*installing, "--constraints", ROOT / "requirements.txt"],
    ):
        subprocess.run(list(map(str, command)), check=True, timeout=250)
    found = subprocess.run(
        [python, "-c", PARSED.format(folder=str(dag_folder))],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "ML_CONNECTOR_SYNCS": str(ROOT / "include/config/syncs.yaml"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip().splitlines()[-1] == f"{sorted(DAG_IDS)} {{}}"


def test_a_user_has_no_module_of_this_checkout(site):
    names = ("sandbox", "local", "bench", "tests")
    found = run(site, f"from importlib.util import find_spec; print(*map(find_spec, {names}))")
    assert found.stdout.split() == ["None"] * len(names), found.stderr


def test_the_checkout_has_the_sandbox_from_any_folder(tmp_path):
    """``local/install.py`` installs it beside the product; no PYTHONPATH is needed."""
    shown = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "ml-connector", "sandbox", "--help"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert shown.returncode == 0, shown.stderr
    assert "--quickbooks-port" in shown.stdout
