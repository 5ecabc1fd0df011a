"""The wheel that a user installs: our two packages, whole, and nothing of this checkout."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"ml_connector": "include", "ml_connector_airflow": "plugins"}
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built by the locked setuptools, from a copy: a build leaves folders that a later one would pack."""
    folder = tmp_path_factory.mktemp("wheel")
    for file in tracked():
        place = folder / "source" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, place)
    code = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder / "source",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    (built,) = folder.glob("*.whl")
    return built


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


def run(site: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c"),
            AS_INSTALLED.format(folder=str(site), code=code),
            *arguments,
        ],
        cwd=site,
        env={"PATH": "/usr/bin:/bin", "HOME": str(site), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_holds_our_two_packages_file_for_file_and_nothing_else(wheel):
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    metadata = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, metadata}
    wanted = {
        file.removeprefix(f"{folder}/")
        for file in tracked()
        for package, folder in PACKAGES.items()
        if file.startswith(f"{folder}/{package}/")
    }
    assert {name for name in names if not name.startswith(metadata)} == wanted


def test_its_commands_are_listed_without_the_sandbox(site):
    listed = run(site, "from ml_connector.cli import main; main()", "--help")
    assert listed.returncode == 0, listed.stderr
    commands = {line.split()[0] for line in listed.stdout.splitlines() if line.startswith("  ")}
    assert {"check", "migrate", "sync"} <= commands
    assert "sandbox" not in commands


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
