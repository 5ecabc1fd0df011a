"""The Dockerfile, without an engine: what it copies is there, is enough, and fits the lock."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOME = "/opt/ml-connector"
COPIED = {
    source: target
    for line in re.findall(r"^COPY (.+)$", TEXT, re.MULTILINE)
    for *sources, target in [[word for word in line.split() if not word.startswith("--")]]
    for source in sources
}


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What lies in the image at ``/opt/ml-connector``: the files that git knows, as COPY puts them."""
    folder = tmp_path_factory.mktemp("image")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for source, target in COPIED.items():
        place = folder / target.removeprefix(HOME).strip("/")
        for file in tracked:
            if file == source or file.startswith(f"{source}/"):
                to = place / (file.removeprefix(f"{source}/") if file != source else source)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, to)
    return folder


def test_what_is_copied_is_there_and_passes_the_ignore_file():
    """The file ignores everything but what it names; Docker takes its last line that fits."""
    for source in COPIED:
        assert (ROOT / source).exists(), source
        fits = [line for line in IGNORED if line and fnmatch(source, line.lstrip("!").strip("/"))]
        assert fits[-1].startswith("!"), source


def test_the_base_has_a_python_and_an_airflow_that_the_project_takes():
    version = re.search(r"^ARG AIRFLOW_VERSION=(\S+)$", TEXT, re.MULTILINE)[1]
    base = re.search(r"^FROM (\S+)$", TEXT, re.MULTILINE)[1]
    assert f"apache-airflow=={version} " in (ROOT / "requirements.txt").read_text()
    python = re.fullmatch(r"apache/airflow:\$\{AIRFLOW_VERSION\}-python3\.(\d+)", base)[1]
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])[1]
    assert int(python) >= int(least)


def test_what_is_installed_is_the_lock_with_its_hashes():
    (line,) = re.findall(r"^RUN (.+)$", TEXT, re.MULTILINE)
    installs = [step.strip() for step in line.split("&&") if "pip install" in step]
    assert "--require-hashes --no-deps -r requirements.txt" in installs[0]
    assert installs[1].endswith("--no-deps -e .")
    assert len(installs) == 2
    assert COPIED["requirements.txt"].rstrip("/") == HOME


def test_the_folders_that_its_environment_names_are_in_it(image):
    named = re.findall(rf"={HOME}/(\S+)", TEXT)
    assert len(named) == 3
    for path in named:
        assert (image / path).exists(), path


def test_the_folders_that_other_files_name_are_in_it(image):
    """Compose, the chart's values and the scripts name files by where they lie in the image."""
    for file in ("docker-compose.yaml", "deploy/kubernetes/values.yaml"):
        for path in re.findall(rf"{HOME}/([\w./-]+\w)", (ROOT / file).read_text()):
            assert (image / path).exists(), f"{file} names {path}"


def test_nothing_in_it_needs_what_was_left_out(image):
    left_out = {"local", "tests", "bench"}
    for file in image.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert {name.partition(".")[0] for name in names}.isdisjoint(left_out), file


def in_image(image: Path, *words: str, paths: tuple[str, ...] = ()) -> str:
    """What a program prints that finds nothing but the image and the locked requirements."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=image,
        env={
            "PYTHONPATH": ":".join(str(image / folder) for folder in paths),
            "PATH": "/usr/bin:/bin",
            "HOME": str(image),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_commands_and_entry_points_start_from_it_alone(image):
    points = PROJECT["project"]["entry-points"]
    named = [point for group in points.values() for point in group.values()]
    named += PROJECT["project"]["scripts"].values()
    modules = sorted({point.partition(":")[0] for point in named})
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    print(importlib.import_module(name).__file__)\n"
    )
    files = in_image(image, "-c", code, paths=("include", "plugins")).split()
    assert len(files) == len(modules)
    assert all(Path(file).is_relative_to(image) for file in files)


def test_the_sandbox_starts_from_it_with_the_options_of_compose(image):
    """Compose runs the folder, since what is installed has no mock servers."""
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["sandbox"]
    python, *words = service["entrypoint"]
    assert (python, service["working_dir"]) == ("python", HOME)
    options = [word for word in service["command"].split() if word.startswith("--")]
    shown = in_image(image, *words, "--help")
    assert options
    assert all(option in shown for option in options)
    where = "import sandbox.serve; print(sandbox.__file__)"
    assert Path(in_image(image, "-c", where).strip()).is_relative_to(image)
