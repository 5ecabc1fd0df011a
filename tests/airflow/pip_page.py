"""Type the commands of docs/how-to/install/pip.md as a reader does: ``python -m tests.airflow.pip_page``.

A fresh environment and an empty cache. The wheel of this checkout takes the place of the index, the
version's lock that of Airflow's constraints, and a temporary Postgres that of the page's database.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from local.postgres import temporary
from tests.airflow.__main__ import HERE, ROOT, build
from tests.airflow.inside import DAG_IDS

PAGE = ROOT / "docs/how-to/install/pip.md"
FENCE = re.compile(r"^```(console|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSTRAINTS = re.compile(r"https://\S+/constraints-(3\.[\d.]+)/constraints-3\.\d+\.txt")
DATABASE = "postgresql://ml_connector:PASSWORD@postgres.example.internal:5432/ml_connector"
INSTALL = "pip install dist/ml_connector-*.whl"
FREEZE = "pip list --format freeze --disable-pip-version-check > {}"
SETTINGS = (
    'mkdir -p "$AIRFLOW_HOME/config"\ncat > "$AIRFLOW_HOME/config/syncs.yaml" <<\'EOF\'\n{}EOF'
)
CHECKED = {
    "settings": "ok",
    "Fernet key": "ok",
    "pools": "ok",
    "main: database": "ok",
    "main: QuickBooks": "FAILED",
    "main: Mailchimp": "FAILED",
}
"""What `ml-connector check` says before an account is connected."""
OURS = ("AIRFLOW", "ML_CONNECTOR", "PYTHON", "VIRTUAL_ENV", "PIP_CACHE", "PIP_FIND", "UV_")


def typed(page: str, database: str) -> str:
    """Return what a reader types, as a script: the page's commands and its settings file."""
    (version,) = set(CONSTRAINTS.findall(page))
    page = CONSTRAINTS.sub(str(HERE / f"{version}.txt"), page)
    assert page.count(DATABASE) == 1
    page = page.replace(DATABASE, database)
    script = ["set -eu"]
    for language, body in FENCE.findall(page):
        if language == "yaml":
            script.append(SETTINGS.format(body))
        else:
            script += [line.removeprefix("$ ") for line in body.splitlines()]
    assert script[-1].startswith("ml-connector check")
    at = script.index(INSTALL)
    script[at : at + 1] = [FREEZE.format("before"), INSTALL, FREEZE.format("after")]
    return "\n".join(script) + "\n"


def environment(folder: Path) -> dict[str, str]:
    """Return this process's environment without anything that is ours or cached."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    python = Path(sys.executable).resolve().parent
    return kept | {
        "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin",
        "PIP_CACHE_DIR": str(folder / "empty-cache"),
        "PIP_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made, temporary() as postgres:
        folder = Path(made)
        database = postgres.create_database("connector").replace("+psycopg", "")
        reader = folder / "reader"
        reader.mkdir()
        build(reader / "dist")
        done = subprocess.run(
            ["bash", "-c", typed(PAGE.read_text(encoding="utf-8"), database)],
            cwd=reader,
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        wrong = [*faults(reader, done.stdout)]
    if wrong:
        sys.stdout.writelines(f"{line}\n" for line in done.stdout.splitlines()[-40:])
        sys.stdout.writelines(f"{line}\n" for line in done.stderr.splitlines()[-10:])
    said = "; ".join(wrong) or "passed"
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {said} in {time.monotonic() - began:.0f} s\n")
    return 1 if wrong else 0


def faults(reader: Path, printed: str) -> Iterator[str]:
    """Yield what did not come out as the page says."""
    before, after = reader / "before", reader / "after"
    if not after.exists():
        yield "the package was not installed"
        return
    if changed := set(before.read_text().split()) - set(after.read_text().split()):
        yield f"pip changed {sorted(changed)}"
    yield from (f"no DAG {dag_id}" for dag_id in sorted(DAG_IDS) if dag_id not in printed)
    told = {
        name: ok
        for ok, name in re.findall(
            r"^(ok|warn|FAILED) +((?:main: )?[^:]+): ", printed, re.MULTILINE
        )
    }
    yield from (
        f"check: {name} is {told.get(name)}" for name, ok in CHECKED.items() if told.get(name) != ok
    )


if __name__ == "__main__":
    sys.exit(main())
