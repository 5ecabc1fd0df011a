"""Where the settings come from: a file, or what the program around this package has.

A managed service has no place for a file of its own, so Airflow adds a Variable and its DAG folder
(``ml_connector_airflow/settings_places.py``). The first source found is used, and no other.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_connector.errors import SettingsError

NAME = "syncs.yaml"
DEFAULT_FILE = Path(__file__).resolve().parents[1] / "config" / NAME
"""The checkout's settings; an installed package has none."""


@dataclass(frozen=True, slots=True)
class Source:
    """One source of the settings. ``text`` is None for a file, which is read when it is needed.

    Attributes:
        place: What messages call it: a path, or the name of a Variable.
    """

    place: str
    path: Path | None = None
    text: str | None = None

    def read(self) -> str:
        """Return the settings as YAML. Raises ``OSError`` or ``UnicodeDecodeError``."""
        return self.path.read_text("utf-8") if self.path else self.text or ""


FURTHER: list[Callable[[], Source | None]] = []
"""Sources that the host program adds, in their order, after the files."""


def file_source(path: Path) -> Source:
    """Return the source that a file is."""
    return Source(str(path), path)


def home_file(environ: Mapping[str, str]) -> Path:
    """Return the settings file of Airflow's home."""
    return Path(environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "config" / NAME


def find_source(environ: Mapping[str, str] | None = None) -> Source | None:
    """Return the source in use: ``ML_CONNECTOR_SYNCS``, Airflow's home, the checkout, further ones."""
    given = os.environ if environ is None else environ
    if named := given.get("ML_CONNECTOR_SYNCS"):
        return file_source(Path(named))
    for path in (home_file(given), DEFAULT_FILE):
        if path.is_file():
            return file_source(path)
    return next((found for each in FURTHER if (found := each())), None)


def require_source() -> Source:
    """Return the source in use. Raises ``SettingsError`` if there is none."""
    found = find_source()
    if found is None:
        raise SettingsError(
            f"there are no settings: write {home_file(os.environ)} (`ml-connector init`), set "
            "ML_CONNECTOR_SYNCS to a file, or add the Airflow Variable ml_connector_syncs"
        )
    return found
