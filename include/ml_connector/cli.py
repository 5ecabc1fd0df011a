"""Command line: ``ml-connector``.

Commands that need Airflow's connections or the sandbox load through entry points
(``ml_connector.commands``), because this package knows neither. Exit codes: 0 done, 1 failed, 2
wrong usage or settings, 3 waiting for approval.
"""

import os
import shlex
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated

import typer

from ml_connector.errors import ConnectorError, SettingsError, values_withheld

DONE, FAILED, WRONG_SETTINGS, WAITING = 0, 1, 2, 3

app = typer.Typer(
    name="ml-connector",
    help="Sync QuickBooks Online customers with a Mailchimp audience.",
    no_args_is_help=True,
    add_completion=False,
    # Plain text: rich's help imports a Markdown and a syntax library, half of a command's start.
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    """Print the version of the installed package, and exit."""
    if wanted:
        typer.echo(f"ml-connector {version('ml-connector')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Sync QuickBooks Online customers with a Mailchimp audience."""


def main() -> None:
    """Run a command. Every known failure ends in one plain sentence."""
    _use_local_state(_home() / "env")
    for command in sorted(entry_points(group="ml_connector.commands"), key=lambda e: e.name):
        command.load()(app)
    try:
        with values_withheld():
            app(standalone_mode=True)
    except SettingsError as error:
        _fail(error, WRONG_SETTINGS)
    except ConnectorError as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(FAILED)


def _home() -> Path:
    """Return what ``settings.home`` does, whose module takes a fifth of a second to import."""
    return Path(os.environ.get("ML_CONNECTOR_HOME") or ".state")


def _fail(error: ConnectorError, code: int) -> None:
    typer.echo(f"ml-connector: {error}", err=True)
    sys.exit(code)


def _use_local_state(file: Path) -> None:
    """Load the variables that ``make run`` left for the shell. Existing variables take precedence.

    A database in the environment means that this machine's local setup does not apply.
    """
    if "AIRFLOW_HOME" in os.environ or "AIRFLOW_CONN_ML_CONNECTOR_DB" in os.environ:
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        name, _, value = line.partition("=")
        os.environ.setdefault(name, "".join(shlex.split(value)))
