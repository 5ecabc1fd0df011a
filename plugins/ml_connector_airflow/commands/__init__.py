"""Commands of ``ml-connector`` that need Airflow, registered by the entry point."""

import typer

from ml_connector_airflow.commands import cli, privacy


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(cli.migrate)
    app.command()(cli.init)
    app.command()(cli.check)
    app.command()(cli.dags)
    app.command()(cli.sync)
    app.command()(cli.preview)
    app.command()(cli.rehearse)
    app.command()(cli.drift)
    app.command()(cli.customers)
    app.command()(cli.replay)
    app.command()(cli.undo)
    app.command()(cli.process_webhooks)
    app.command()(cli.receiver)
    app.command()(cli.register_webhooks)
    trail = typer.Typer(invoke_without_command=True)
    trail.callback()(cli.audit)
    trail.command("show")(cli.audit_show)
    trail.command("verify")(cli.audit_verify)
    trail.command("seal")(cli.audit_seal)
    app.add_typer(trail, name="audit")
    connecting = typer.Typer(help="Connect an account.", no_args_is_help=True)
    connecting.command("quickbooks")(cli.connect_quickbooks)
    connecting.command("mailchimp")(cli.connect_mailchimp)
    connecting.callback()(cli.connect_group)
    app.add_typer(connecting, name="connect")
    privacy.register(app)
