"""Where secrets come from: the environment, a file that it names, or what the program around has.

Airflow adds its secrets backends (``ml_connector_airflow/key_places.py``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ml_connector.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret and where it was found: ``place`` is for messages, ``text`` for none."""

    text: str = field(repr=False)
    place: str


FURTHER: list[Callable[[str], Secret | None]] = []
"""Further places to look in, in their order, by the variable's name."""


def find_secret(environ: Mapping[str, str], name: str) -> Secret | None:
    """Return the secret in the variable ``name``, or in the file that ``<name>_FILE`` names.

    Raises ``SettingsError`` if both are set, or if the file cannot be read.
    """
    file = environ.get(f"{name}_FILE")
    if not file:
        return Secret(environ[name], name) if environ.get(name) else None
    if environ.get(name):
        raise SettingsError(f"{name} and {name}_FILE are both set; keep one of them")
    try:
        text = Path(file).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name}_FILE: {file} cannot be read: {error.strerror}") from None
    return Secret(text, file)


def find_further(name: str) -> Secret | None:
    """Return the secret from the first further place that has it."""
    return next((found for each in FURTHER if (found := each(name))), None)
