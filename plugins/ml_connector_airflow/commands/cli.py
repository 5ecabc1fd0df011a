"""Commands that use Airflow's connections. Imports of weight wait until a command runs."""

import sys
from typing import Annotated, Any

import typer

from ml_connector.cli import DONE, FAILED, WAITING, WRONG_SETTINGS
from ml_connector_airflow.commands.server import as_server
from ml_connector_airflow.typed import parse_typed_head, parse_typed_time, require_rows

Sync = Annotated[str, typer.Option("--sync", help="A sync's name in syncs.yaml.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show Airflow's log, if this process runs the DAG.")
]

_PREVIEW = {"full_sync": False, "preview": True, "customer_ids": []}


def migrate() -> None:
    """Create or update the connector's tables. Airflow's own belong to `airflow db migrate`."""
    as_server(metadata=False)
    from ml_connector.store.migrate import upgrade
    from ml_connector_airflow.wiring import database_url

    upgrade(database_url())
    typer.echo("The connector's database is up to date.")


def check(
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Add what is missing.")] = False,
    sync_name: Annotated[str, typer.Option("--sync", help="Only this sync.")] = "",
) -> None:
    """Check settings, database, both accounts and the audience; name the fix of each failure.

    Also checks keys, pools, merge fields, custom fields, groups, marketing permissions and webhook
    keys. Warns of paused DAGs and of refused webhooks; a warning does not change the exit code.
    """
    as_server(connector=False)  # a database that is away is one of the lines
    from ml_connector_airflow.commands.check import run_checks

    exit_code = DONE
    for line in run_checks(sync_name, fix=fix):
        if line.failed:
            exit_code = max(exit_code, WRONG_SETTINGS if line.settings else FAILED)
        typer.echo(f"{line.result:6} {line.name}: {line.message}")
    sys.exit(exit_code)


DAG_FILE = """\
# The Airflow DAGs of ml-connector, as `ml-connector dags` printed them.
from ml_connector_airflow.dag_files import load_dags

globals().update(load_dags())
"""
"""What a user's DAG folder holds. Airflow parses a file only if it names both ``airflow`` and ``dag``."""


def dags() -> None:
    """Print the file that makes the DAGs appear in your DAG folder."""
    typer.echo(DAG_FILE, nl=False)


def sync(
    sync_name: Sync = "main",
    *,
    full_sync: Annotated[bool, typer.Option("--full-sync", help="Read everything.")] = False,
    customer_id: Annotated[
        list[str] | None, typer.Option("--customer-id", help="Only this customer (repeatable).")
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="Approve the plan, even a first or a large one.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Run the daily DAG once; exit 1 if it failed, 3 if the guard stopped it.

    A live scheduler that serves the DAG runs it. Without one, this process does.
    """
    _known(sync_name)
    conf = {
        "full_sync": full_sync,
        "preview": False,
        "customer_ids": customer_id or [],
        "approved": approve,
        "attended": approve,  # no user is there to be asked
    }
    _run(sync_name, conf, verbose=verbose)


def preview(sync_name: Sync = "main", *, verbose: Verbose = False) -> None:
    """Show what the next sync would change, without writing anything."""
    _known(sync_name)
    _run(sync_name, _PREVIEW, verbose=verbose)


def rehearse(sync_name: Sync = "main", *, verbose: Verbose = False) -> None:
    """Read both systems and show what a sync would do; it cannot write. Shows personal data."""
    _known(sync_name)
    as_server(log_level="INFO" if verbose else "CRITICAL")
    _rehearse(sync_name)


def init(
    *,
    sync_name: Annotated[str, typer.Option("--sync", help="The sync to set up.")] = "",
    file: Annotated[
        str, typer.Option("--file", help="The settings file; default: the active one.")
    ] = "",
    company: Annotated[str, typer.Option("--company", help="By name or connection.")] = "",
    audience: Annotated[str, typer.Option("--audience", help="By name or id.")] = "",
    consent: Annotated[
        str, typer.Option("--consent", help="subscribed, pending or transactional.")
    ] = "",
    mapping: Annotated[
        str, typer.Option("--mapping", help="keep: the file's mapping. proposed: the proposed one.")
    ] = "",
    field: Annotated[
        list[str] | None,
        typer.Option("--field", help="TAG=SOURCE; TAG= omits the field (repeatable)."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="A tag of every contact (repeatable).")
    ] = None,
    schedule: Annotated[str, typer.Option("--schedule", help="Cron, five fields.")] = "",
    timezone: Annotated[str, typer.Option("--timezone", help="A name like Europe/Berlin.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take values from the file or the defaults.")
    ] = False,
    rehearsal: Annotated[bool, typer.Option(help="Rehearse at the end.")] = True,
) -> None:
    """Ask what a settings file needs, write it with comments, and rehearse. Shows personal data."""
    if mapping not in ("", "keep", "proposed"):
        raise typer.BadParameter("keep or proposed", param_hint="--mapping")
    as_server(log_level="CRITICAL")
    from ml_connector_airflow.commands.init import Given, run_init

    given = Given(
        sync=sync_name,
        file=file,
        company=company,
        audience=audience,
        consent=consent,
        mapping=mapping,
        fields=field or (),
        tags=tag or (),
        schedule=schedule,
        timezone=timezone,
        yes=yes,
    )
    done = run_init(given)
    if rehearsal:
        _rehearse(done.sync, elsewhere=done.elsewhere)


def _rehearse(sync_name: str, *, elsewhere: bool = False) -> None:
    """Rehearse and exit. ``elsewhere``: only this process knows the settings file."""
    from ml_connector_airflow.commands.sync import is_run_by_airflow, run_dag, show_rehearsal

    if elsewhere and is_run_by_airflow(sync_name):
        typer.echo(
            "Not rehearsed: Airflow's scheduler uses other settings. Give it this file, then run"
            " `ml-connector rehearse`."
        )
        return
    outcome = run_dag(sync_name, _PREVIEW)
    show_rehearsal(outcome, sync_name)
    sys.exit(DONE if outcome.succeeded else FAILED)


def drift(
    sync_name: Sync = "main",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A CSV file.")] = False,
) -> None:
    """Show what differs between QuickBooks and Mailchimp; writes nothing. It holds personal data."""
    _known(sync_name)
    as_server()
    from ml_connector_airflow.commands.drift import show_drift

    show_drift(sync_name, as_json=as_json, as_csv=as_csv)


def customers(
    sync_name: Sync = "main",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A CSV file.")] = False,
    status: Annotated[str, typer.Option("--status", help="Such as subscribed or cleaned.")] = "",
    engagement: Annotated[
        str, typer.Option("--engagement", help="Such as never_opened or bounced.")
    ] = "",
    decision: Annotated[str, typer.Option("--decision", help="Such as contact or skipped.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Such as invalid_email.")] = "",
    quickbooks: Annotated[str, typer.Option("--quickbooks", help="Such as active or gone.")] = "",
    audience: Annotated[
        str, typer.Option("--audience", help="in: in the audience. out: not in it.")
    ] = "",
    waiting: Annotated[str, typer.Option("--waiting", help="Such as mailchimp or decision.")] = "",
    unfit: Annotated[
        str, typer.Option("--unfit", help="A merge field that was not sent, or any.")
    ] = "",
    tag: Annotated[str, typer.Option("--tag", help="A tag of the contact.")] = "",
    bounced_since: Annotated[str, typer.Option("--bounced-since", help="YYYY-MM-DD.")] = "",
    unsubscribed_since: Annotated[
        str, typer.Option("--unsubscribed-since", help="YYYY-MM-DD.")
    ] = "",
    changed_since: Annotated[str, typer.Option("--changed-since", help="YYYY-MM-DD.")] = "",
) -> None:
    """List customers by the console's filters. CSV and JSON hold personal data and are audited."""
    _known(sync_name)
    as_server()
    from ml_connector_airflow.commands.customers import show_customers

    given = {
        "status": status,
        "engagement": engagement,
        "decision": decision,
        "reason": reason,
        "quickbooks": quickbooks,
        "audience": audience,
        "waiting": waiting,
        "unfit": unfit,
        "bounced_since": bounced_since,
        "unsubscribed_since": unsubscribed_since,
        "changed_since": changed_since,
    }
    show_customers(sync_name, given, tag=tag, as_json=as_json, as_csv=as_csv)


def _known(sync_name: str) -> None:
    """Raise ``SettingsError`` for an unknown sync, before Airflow is imported."""
    from ml_connector.settings import load_sync

    if sync_name:
        load_sync(sync_name)


def _run(sync_name: str, conf: dict[str, Any], *, verbose: bool) -> None:
    # Below that Airflow prints the traceback of a failed task, which show() says in one sentence.
    as_server(log_level="INFO" if verbose else "CRITICAL")
    from ml_connector_airflow.commands.sync import run_dag, show_outcome

    outcome = run_dag(sync_name, conf)
    show_outcome(outcome, sync_name, preview=bool(conf["preview"]))
    if outcome.rejected:
        sys.exit(WAITING)
    sys.exit(DONE if outcome.succeeded else FAILED)


def audit(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    sync_name: Annotated[str, typer.Option("--sync", help="Only this sync.")] = "",
    system: Annotated[str, typer.Option("--system", help="quickbooks or mailchimp.")] = "",
    action: Annotated[str, typer.Option("--action", help="Such as create or write_notes.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="Such as applied or failed.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Such as fields_changed.")] = "",
    customer_id: Annotated[str, typer.Option("--customer-id", help="A QuickBooks id.")] = "",
    email: Annotated[str, typer.Option("--email", help="Rows of an address.")] = "",
    run_id: Annotated[str, typer.Option("--run", help="Rows of a DAG run.")] = "",
    since: Annotated[str, typer.Option("--since", help="Written then or later.")] = "",
    until: Annotated[str, typer.Option("--until", help="Written before.")] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Only the newest N rows; 0: all.")
    ] = 0,
) -> None:
    """Print the audit trail, oldest first. It holds personal data."""
    if context.invoked_subcommand:
        return
    parse_typed_time(since)
    parse_typed_time(until)
    as_server()
    from ml_connector_airflow.commands import audit as trail

    chosen = trail.wanted(
        email=email,
        since=since,
        until=until,
        system=system,
        action=action,
        outcome=outcome,
        reason=reason,
        customer_id=customer_id,
        run_id=run_id,
    )
    trail.show_rows(chosen, sync=sync_name, limit=limit, as_json=as_json)


def audit_show(row_id: Annotated[int, typer.Argument(help="An audit row.")]) -> None:
    """Print one row and the difference between before and after."""
    as_server()
    from ml_connector_airflow.commands import audit as trail

    trail.show_row(row_id)


def audit_verify(
    *,
    head: Annotated[
        str, typer.Option("--head", help="A head you noted earlier. The chain must contain it.")
    ] = "",
) -> None:
    """Compare every row with its seal; name each altered row and exit 1."""
    noted = parse_typed_head(head)
    as_server()
    from ml_connector_airflow.tasks import audit as audit_tasks

    for line in audit_tasks.verify(noted):
        typer.echo(line)


def audit_seal() -> None:
    """Seal the rows that are not sealed yet, as each daily run does."""
    as_server()
    from ml_connector_airflow.tasks import audit as audit_tasks

    for line in audit_tasks.seal():
        typer.echo(line)


def replay(
    *,
    row_id: Annotated[
        list[int] | None, typer.Option("--id", help="An audit row (repeatable).")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed rows that match.")] = False,
    since: Annotated[str, typer.Option("--since", help="Written then or later.")] = "",
    until: Annotated[str, typer.Option("--until", help="Written before.")] = "",
    sync_name: Annotated[str, typer.Option("--sync", help="Only this sync.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Only this reason.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the rows.")] = False,
) -> None:
    """Evaluate the records behind audit rows again, with today's data."""
    parse_typed_time(since)
    parse_typed_time(until)
    require_rows(row_id or (), failed=failed)
    _known(sync_name)
    as_server()
    from ml_connector_airflow.tasks import replay as replay_tasks

    chosen = replay_tasks.chosen_by(
        ids=row_id or (), failed=failed, since=since, until=until, sync=sync_name, reason=reason
    )
    for line in replay_tasks.replay_now(chosen, dry_run=dry_run):
        typer.echo(line)


def undo(
    *,
    run: Annotated[str, typer.Option("--run", help="A plan's number, or a run's id.")] = "",
    sync_name: Annotated[str, typer.Option("--sync", help="Only this sync.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, and write nothing.")] = False,
    approve: Annotated[
        bool,
        typer.Option("--approve", help="Write even if the undo is larger than the guard allows."),
    ] = False,
) -> None:
    """Restore what a run's contacts showed before it; exit 3 if the guard stopped it."""
    _known(sync_name)
    as_server()
    from ml_connector_airflow.tasks import undo as undo_tasks

    try:
        for line in undo_tasks.undo_now(run, sync=sync_name, dry_run=dry_run, approve=approve):
            typer.echo(line)
    except undo_tasks.WaitsForApproval as error:
        typer.echo(str(error), err=True)
        sys.exit(WAITING)


def process_webhooks() -> None:
    """Process all due webhooks once; print the number by final state."""
    as_server()
    from ml_connector_airflow.tasks import webhooks

    for line in webhooks.process_now():
        typer.echo(line)


def receiver(
    *,
    port: Annotated[int, typer.Option("--port", help="The port to listen on.")] = 9440,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Receive webhooks in this process, without Airflow's API server."""
    as_server(connector=False)  # it responds with 503 while its database is away
    from ml_connector_airflow.mounts.receiver import run_receiver

    run_receiver(host=host, port=port)


def register_webhooks(
    *,
    url: Annotated[str, typer.Option("--url", help="Where the vendors reach this host.")] = "",
    sync_name: Annotated[str, typer.Option("--sync", help="Only this sync.")] = "",
    show: Annotated[bool, typer.Option("--list", help="Show the audience's webhooks.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the connector's webhooks.")
    ] = False,
) -> None:
    """Create or repair Mailchimp's webhooks; print what to enter at Intuit."""
    from ml_connector.webhooks.endpoint import base_of

    if not show:
        base_of(url)
    _known(sync_name)
    as_server()
    from ml_connector_airflow.commands import webhooks

    for line in webhooks.run_registration(url, sync_name=sync_name, show=show, remove=remove):
        typer.echo(line)


def connect_group() -> None:
    """Connect an account."""


def connect_quickbooks(
    *,
    conn_id: Annotated[
        str, typer.Option("--conn-id", help="The Airflow connection.")
    ] = "quickbooks_default",
    port: Annotated[
        int, typer.Option("--port", help="The port that receives the redirect.")
    ] = 9430,
    browser: Annotated[bool, typer.Option(help="Open Intuit's page in a browser.")] = True,
    wait: Annotated[int, typer.Option("--wait", help="Seconds to wait for you.")] = 600,
) -> None:
    """Connect a QuickBooks company: opens Intuit's consent page and waits for you."""
    _connect("quickbooks", conn_id, port=port, browser=browser, wait=wait)


def connect_mailchimp(
    *,
    conn_id: Annotated[
        str, typer.Option("--conn-id", help="The Airflow connection.")
    ] = "mailchimp_default",
    port: Annotated[
        int, typer.Option("--port", help="The port that receives the redirect.")
    ] = 9430,
    browser: Annotated[bool, typer.Option(help="Open Mailchimp's page in a browser.")] = True,
    wait: Annotated[int, typer.Option("--wait", help="Seconds to wait for you.")] = 600,
) -> None:
    """Connect a Mailchimp account: opens Mailchimp's consent page and waits for you."""
    _connect("mailchimp", conn_id, port=port, browser=browser, wait=wait)


def _connect(system: str, conn_id: str, *, port: int, browser: bool, wait: int) -> None:
    as_server()
    from ml_connector.wire.consent import Callback, new_state
    from ml_connector_airflow import connecting

    page, state = connecting.PAGES[system], new_state()
    callback = Callback(page, port, state=state)
    redirect_uri = callback.redirect_uri
    url = connecting.consent_page(system, conn_id, redirect_uri=redirect_uri, state=state)
    typer.echo(f"Register this redirect address with your {page.owner} app: {redirect_uri}")
    typer.echo(
        f"Open this page and {'choose the company' if page.names_company else 'allow access'}:"
    )
    typer.echo(url)
    if browser:
        typer.launch(url)
    consent = callback.wait(wait)
    name = connecting.complete_consent(system, conn_id, consent, redirect_uri=redirect_uri)
    what = f"company {name!r} ({consent.realm_id})" if consent.realm_id else f"account {name!r}"
    typer.echo(f"Connected to the {what}.")
