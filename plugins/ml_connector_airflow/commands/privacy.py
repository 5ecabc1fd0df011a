"""`ml-connector forget` and `rotate-keys`."""

import sys
from typing import Annotated

import typer

from ml_connector.cli import DONE, FAILED
from ml_connector.errors import SettingsError
from ml_connector_airflow.commands.server import as_server


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(forget)
    app.command()(rotate_keys)


def forget(
    address: Annotated[
        str,
        typer.Argument(
            help="The e-mail address. - reads it from standard input. Without it you are asked."
        ),
    ] = "",
    *,
    delete_contact: Annotated[
        bool,
        typer.Option(
            "--delete-contact", help="Delete the contact permanently, instead of archiving it."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Erase a person: at Mailchimp, on the QuickBooks customer, and in all that is stored here."""
    if address == "-" and not yes:
        raise SettingsError("an address on standard input leaves no way to ask: add --yes")
    from ml_connector.rules.addresses import typed_address

    if address == "-":
        address = sys.stdin.readline().strip()
    elif not address:
        address = typer.prompt("E-mail address")
    typed_address(address)  # raises before the seconds that Airflow takes to start
    as_server()
    from ml_connector_airflow.tasks import privacy as privacy_tasks

    for line in privacy_tasks.preview_erasure(address, delete_contact=delete_contact):
        typer.echo(line)
    if not yes and not typer.confirm("Erase this person? It cannot be undone"):
        typer.echo("Nothing was done.")
        sys.exit(DONE)
    typer.echo("Erasing. If this fails or is stopped, run the same command again: it goes on.")
    done = privacy_tasks.forget(address, delete_contact=delete_contact)
    for line in privacy_tasks.erasure_report(done):
        typer.echo(line)
    sys.exit(FAILED if done.left else DONE)


def rotate_keys(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only count the values under each key.")
    ] = False,
) -> None:
    """Re-encrypt everything under the first key of the list, while syncs go on."""
    as_server()
    from ml_connector_airflow.tasks import privacy as privacy_tasks

    for line in privacy_tasks.rotate(check=check):
        typer.echo(line)
