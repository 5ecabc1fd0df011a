"""``ml-connector sandbox``: its options. What serves is loaded when it is to, and not by other commands."""

import importlib
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command; loaded by entry point."""
    app.command()(sandbox)


def sandbox(
    quickbooks_port: Annotated[int, typer.Option(help="Port of the QuickBooks API.")] = 9410,
    mailchimp_port: Annotated[int, typer.Option(help="Port of the Mailchimp API.")] = 9420,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    company: Annotated[
        str, typer.Option(help="QuickBooks customers: sample (29), empty, or a number to generate.")
    ] = "sample",
    state: Annotated[
        Path | None, typer.Option(help="File that keeps both systems' state between runs.")
    ] = None,
) -> None:
    """Run mock servers of the QuickBooks and Mailchimp APIs on this machine.

    Part of a checkout, not of an installed package.
    """
    importlib.import_module("sandbox.serve").serve(
        host=host,
        quickbooks_port=quickbooks_port,
        mailchimp_port=mailchimp_port,
        company=company,
        state=state,
    )
