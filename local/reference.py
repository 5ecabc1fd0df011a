"""Write the reference pages that follow from code: ``python -m local.reference``, by `make reference`.

- ``docs/reference/commands.md``: every command with its options, from the command line itself.
- ``docs/images``: the drawings (``local/drawings.py``).
- The table of settings in ``docs/reference/configuration.md``, from the settings' models and their texts.

A test compares the pages with what this module would write.
"""

import json
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_origin

import typer
from pydantic import BaseModel

from local.drawings import write_drawings
from ml_connector.settings import Sync
from ml_connector.settings_schema import DESCRIPTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
COMMANDS = DOCS / "reference" / "commands.md"
SETTINGS = DOCS / "reference" / "configuration.md"
REQUIRED = object()
"""In place of the default of a setting that has none."""

_PREFACE = """# Commands

`.venv/bin/ml-connector`, in the folder of a checkout; `ml-connector`, where the package is installed. `ml-connector --version` prints its version.

It uses Airflow's connections. In a checkout keep `make run` up in another terminal: it runs the database. If `AIRFLOW_HOME` or `AIRFLOW_CONN_ML_CONNECTOR_DB` is set, the command uses that Airflow instead. It changes no Airflow of another version.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage or settings |
| 3 | `sync` and `undo`: the plan is a sync's first, or larger than `guard` allows, and nothing was written. Run it with `--approve`, or approve it in Airflow |

This page is generated from the command line: `make reference`.
"""
_TABLE = re.compile(r"^\| key \| default \| consequence \|\n(?:\|.*\n)+", re.MULTILINE)
_KINDS = {"str": "TEXT", "list[str]": "TEXT", "path": "FILE"} | dict.fromkeys(
    ("int", "list[int]", "int range"), "N"
)


def command_line() -> Any:
    """Return the command line with every registered command, as the console script has it."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(lambda: None)
    for registered in sorted(entry_points(group="ml_connector.commands"), key=lambda e: e.name):
        registered.load()(app)
    return typer.main.get_command(app)


def commands_page() -> str:
    """Return the page of commands."""
    root = command_line()
    context = root.make_context("ml-connector", [], resilient_parsing=True)
    sections = (part for command in root.commands.values() for part in _sections(command, context))
    return "\n".join([_PREFACE, *sections])


def _sections(command: Any, parent: Any) -> Iterator[str]:
    context = type(parent)(command, parent=parent, info_name=command.name)
    options = [each for each in command.get_params(context) if each.name != "help"]
    needed = [each.name.upper() for each in options if each.required]
    if not getattr(command, "no_args_is_help", False):  # a group alone does nothing
        title = " ".join((context.command_path, *needed))
        yield f"## `{title}`\n\n{_one_line(command.help)}\n"
    if options:
        table = [_row(*option.get_help_record(context)) for option in options]
        yield "\n".join(["| option | meaning |", "|---|---|", *table]) + "\n"
    for sub in getattr(command, "commands", {}).values():
        yield from _sections(sub, context)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _row(option: str, meaning: str) -> str:
    """Return a row of the table from what ``--help`` shows: ``--port <int>``, ``... [default: 1]``."""
    shown = re.sub(r"<([^>]+)>", lambda kind: _KINDS[kind[1]], option)
    text = re.sub(r"\s*\[default: ([^;\]]+)[^\]]*\]", r" Default: `\1`.", meaning)
    text = re.sub(r"\s*\[required\]", " Required.", text)
    return f"| `{shown.replace(' / ', '` / `')}` | {text} |"


def settings_keys(model: type[BaseModel] = Sync, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a model with its default, dotted where it is nested."""
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and not get_origin(kind) and issubclass(kind, BaseModel):
            yield from settings_keys(kind, f"{prefix}{key}.")
            continue
        default = REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
        yield prefix + (field.alias or key), default


def settings_table() -> str:
    """Return the table of a sync's settings."""
    defaults = dict(settings_keys())
    rows = (
        f"| `{key}` | {_default(defaults[key])} | {text} |" for key, text in DESCRIPTIONS.items()
    )
    return "\n".join(["| key | default | consequence |", "|---|---|---|", *rows]) + "\n"


def _default(value: Any) -> str:
    if value is REQUIRED:
        return "required"
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def settings_page(page: str) -> str:
    """Return the page of settings with its table as the code has it."""
    return _TABLE.sub(lambda _: settings_table(), page, count=1)


def main() -> None:
    """Write all of them."""
    write_drawings()
    COMMANDS.write_text(commands_page(), encoding="utf-8")
    SETTINGS.write_text(settings_page(SETTINGS.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
