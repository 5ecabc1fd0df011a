"""``ml-connector check``: try everything that a run needs, and name the fix of each failure."""

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.display import counted, pattern_time, utc_minute
from ml_connector.errors import ConnectorError, SettingsError, StorageError
from ml_connector.mailchimp.protocol import member_count
from ml_connector.mailchimp.webhooks import secret_in, secret_matches
from ml_connector.model import RunContext
from ml_connector.privacy import erasure
from ml_connector.rules.clock_changes import skipped_day
from ml_connector.scope import Scope
from ml_connector.settings import home, load_alerts, load_sync, load_syncs, settings_place
from ml_connector.store import cursors, customers, problems, unreadable
from ml_connector.sync import names, permissions, preflight
from ml_connector.sync.custom_fields import CustomFields
from ml_connector.sync.groups import group_names, store_groups
from ml_connector.sync.preflight import iter_problems, missing_fields
from ml_connector.sync.push import CONTRACT_CURSOR
from ml_connector.vault import find_keys
from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.receiver.keys import MailchimpKey
from ml_connector_airflow import installation
from ml_connector_airflow.alerts.notifiers import require_packages
from ml_connector_airflow.dag_ids import SERVICES
from ml_connector_airflow.installation import Warned
from ml_connector_airflow.key_places import keys_in_airflows_database
from ml_connector_airflow.mounts.receiver import mailchimp_key
from ml_connector_airflow.waiting import NO_CHOICE
from ml_connector_airflow.wiring import (
    connection_named,
    mailchimp_client,
    open_scope,
    quickbooks_client,
)

OK, WARN, FAILED = "ok", "warn", "FAILED"


@dataclass(frozen=True, slots=True)
class Line:
    """One check's result. ``result``: ok, warn or FAILED. ``settings``: the fix is a setting."""

    result: str
    name: str
    message: str
    settings: bool = False

    @property
    def failed(self) -> bool:
        """Return whether the check failed. A warning is no failure."""
        return self.result == FAILED


def run_checks(sync_name: str = "", *, fix: bool = False) -> Iterator[Line]:
    """Yield a line a check, for one sync or all; with ``fix`` what is missing is added."""
    try:
        syncs = [load_sync(sync_name)] if sync_name else list(load_syncs().values())
    except ConnectorError as error:
        yield _failed("settings", error)
        return
    yield Line(OK, "settings", f"{settings_place()}: {', '.join(sync.name for sync in syncs)}")
    yield _tried("keys", _keys)
    yield _tried("Fernet key", installation.fernet_key)
    yield _tried("pools", lambda: installation.pools(syncs, fix=fix))
    yield _tried("DAGs for every sync", _services)
    if (alerts := load_alerts()).recipients:
        yield _tried("alerts", lambda: require_packages(alerts))
    for sync in syncs:
        try:
            scope = open_scope(sync.name)
        except ConnectorError as error:
            yield _failed(f"{sync.name}: keys and connections", error)
            continue
        with suppress(StorageError), scope.outside_runs():  # that one has a line of its own
            yield from _of_sync(scope, fix=fix)
        scope.database.close()


def _keys() -> str:
    keys, index = find_keys(os.environ, home())
    told = f"encryption keys from {keys.place}, index key from {index.place}"
    if beside := keys_in_airflows_database():
        return Warned(
            f"{told}. Airflow's own database holds {' and '.join(beside)}, next to the token that"
            " opens QuickBooks. Use the environment, a file or a secrets backend, and delete the"
            " Variables"
        )
    return told


def _of_sync(scope: Scope, *, fix: bool) -> Iterator[Line]:
    checks: list[tuple[str, Callable[[], str]]] = [
        ("schedule", lambda: _schedule(scope)),
        ("DAG", lambda: _dag(scope)),
        ("database", lambda: _database(scope)),
        ("erasures", lambda: _erasures(scope)),
        ("QuickBooks", lambda: _quickbooks(scope)),
        *([("custom fields", lambda: _custom_fields(scope))] if scope.sync.custom_fields else []),
        ("Mailchimp", lambda: _mailchimp(scope)),
        ("audience", lambda: _audience(scope)),
        ("merge fields", lambda: _merge_fields(scope, fix=fix)),
        *([("groups", lambda: _groups(scope, fix=fix))] if scope.sync.groups else []),
        ("marketing permissions", lambda: _permissions(scope)),
        ("batch contract", lambda: _contract(scope)),
        ("webhooks", lambda: _webhooks(scope)),
    ]
    for name, check in checks:
        yield _tried(f"{scope.name}: {name}", check)


def _tried(name: str, check: Callable[[], str]) -> Line:
    try:
        said = check()
    except ConnectorError as error:
        return _failed(name, error)
    return Line(WARN if isinstance(said, Warned) else OK, name, said)


def _failed(name: str, error: ConnectorError) -> Line:
    return Line(FAILED, name, str(error), settings=isinstance(error, SettingsError))


def _schedule(scope: Scope) -> str:
    sync = scope.sync
    told = f"{sync.schedule} in {sync.timezone}"
    skipped = skipped_day(sync.schedule, sync.timezone, after=scope.clock())
    if skipped is None:
        return told
    when = pattern_time(skipped, "HH:mm 'on' y-MM-dd")
    return Warned(
        f"{told}. The clocks skip {when}, and Airflow drops that day's run. Choose another hour,"
        " like 0 4 * * *"
    )


def _services() -> str:
    means = "so webhooks, tokens and alerts do not work"
    return installation.switched_on(SERVICES, paused_means=means)


def _dag(scope: Scope) -> str:
    dag_id = f"sync_customers__{scope.name}"
    return installation.switched_on([dag_id], paused_means="so no run starts")


def _database(scope: Scope) -> str:
    with scope.database.begin() as connection:
        cursors.check_index_key(connection, scope.vault)
        known = customers.count_known(connection, sync=scope.name)
    return f"tables are there, {counted(known, 'customer')} staged"


def _erasures(scope: Scope) -> str:
    with scope.database.begin() as connection:
        begun = erasure.unfinished(connection)
    if begun:
        raise ConnectorError(
            f"{len(begun)} not finished, the first begun at {utc_minute(begun[0])}. Run"
            " `ml-connector forget` with the same address again"
        )
    return "none is unfinished"


def _quickbooks(scope: Scope) -> str:
    client = quickbooks_client(scope)
    preflight.check_company(scope, client)
    company = client.company().name
    names.store_company(scope, realm=client.realm_id, name=company)
    return f"connected to the company {company!r}"


def _custom_fields(scope: Scope) -> str:
    CustomFields(scope, quickbooks_client(scope)).search()
    return f"customers have {', '.join(scope.sync.custom_fields)}"


def _mailchimp(scope: Scope) -> str:
    return f"connected to the account {mailchimp_client(scope).account().get('account_name')!r}"


def _audience(scope: Scope) -> str:
    if not scope.sync.audience_chosen:
        raise SettingsError(NO_CHOICE)
    found = mailchimp_client(scope).audience()
    members = member_count(found)
    names.store_audience(scope, name=str(found.get("name") or ""))
    told = f"{found.get('name')!r}, {counted(members, 'subscribed member')}"
    if found.get("double_optin") and scope.sync.new_contact_status == "subscribed":
        return Warned(
            f"{told}. Double opt-in is on, and new_contact_status: subscribed bypasses it. To have"
            " people confirm, use pending"
        )
    return told


def _permissions(scope: Scope) -> str:
    if problems := permissions.check_permissions(scope, mailchimp_client(scope)):
        raise SettingsError(f"{'; '.join(problems)}; correct marketing_permissions in syncs.yaml")
    with scope.database.begin() as connection:
        warning = permissions.warning(scope.sync, connection)
    given = ", ".join(scope.sync.marketing_permissions)
    if warning:
        return Warned(warning)
    return f"new contacts get {given}" if given else "the audience has no GDPR fields"


def _merge_fields(scope: Scope, *, fix: bool) -> str:
    client = mailchimp_client(scope)
    existing = client.merge_fields()
    added = []
    if fix:
        for tag, kind in missing_fields(scope.sync, existing):
            client.create_merge_field(tag, tag.capitalize(), kind)
            added.append(tag)
            _record(scope, "create_merge_field", after={"tag": tag, "type": kind})
        existing = client.merge_fields() if added else existing
    wrong = [problem for _, problem in iter_problems(scope.sync, existing)]
    if wrong:
        raise ConnectorError("; ".join(wrong) + "; `ml-connector check --fix` adds missing ones")
    with scope.database.begin() as connection:
        unfit = problems.unfit_counts(connection, sync=scope.name)
        known = customers.count_known(connection, sync=scope.name)
        skipped = unreadable.counts(connection, sync=scope.name)
    there = f"{', '.join(scope.sync.fields)} are there" + (f", added {added}" if added else "")
    notes = [*(each.sentence(known) for each in unfit), *(each.sentence for each in skipped)]
    return Warned("; ".join([there, *notes])) if notes else there


def _groups(scope: Scope, *, fix: bool) -> str:
    client = mailchimp_client(scope)
    missing = store_groups(scope, client)
    if fix and missing:
        for title in missing:
            client.create_interest_category(title)
            _record(scope, "create_group_category", after={"title": title})
        missing = store_groups(scope, client)
    if missing:
        wrong = "; ".join(map(preflight.missing_category, missing))
        raise ConnectorError(f"{wrong}; `ml-connector check --fix` adds missing ones")
    with scope.database.begin() as connection:
        names = group_names(scope, connection)
    return f"{', '.join(scope.sync.groups)} are there, with {len(names)} groups"


def _contract(scope: Scope) -> str:
    contract = mailchimp_client(scope).batch_contract()
    _record(scope, "probe_batch", after={"contract": contract})
    with scope.database.begin() as connection:
        cursors.put(connection, sync=scope.name, name=CONTRACT_CURSOR, value={"contract": contract})
    if contract == "current":
        return "takes status_if_new: known contacts are written without a status"
    return "insists on status: the status read just before is echoed (docs/explanation/consent.md)"


def _webhooks(scope: Scope) -> str:
    """Say whether webhooks are set up; raise if Mailchimp's deliveries would be refused.

    None at all is no failure: the next run finds what a webhook would report.
    """
    key = mailchimp_key(scope.sync)
    ours = [
        hook
        for hook in mailchimp_client(scope).webhooks()
        if urlsplit(str(hook.get("url", ""))).path == f"{PREFIX}/mailchimp/{scope.name}"
    ]
    for hook in ours:
        if (wrong := _refused(hook, key)) is not None:
            raise SettingsError(f"Mailchimp's webhook {hook.get('id')} {wrong}")
    conn_id = scope.sync.quickbooks_conn_id
    extra = connection_named(conn_id, "").extra_dejson
    token = bool(str(extra.get("webhook_verifier_token") or "").strip())
    if not token and not ours:
        return (
            "not set up, which is fine: changes wait for the next run. `ml-connector"
            " register-webhooks` sets them up"
        )
    quickbooks = (
        "QuickBooks' verifier token is set"
        if token
        else f"the connection {conn_id} has no verifier token, so QuickBooks' webhooks are refused"
    )
    mailchimp = (
        f"{len(ours)} registered at Mailchimp"
        if ours
        else "none registered at Mailchimp. Run `ml-connector register-webhooks`"
    )
    told = f"{quickbooks}; {mailchimp}"
    return told if token and ours else Warned(told)


def _refused(hook: dict[str, Any], key: MailchimpKey) -> str | None:
    """Return why a webhook's deliveries are refused, and the fix; None if they are accepted."""
    given = secret_in(urlsplit(str(hook["url"])).query.encode())
    if not secret_matches(given, key.secrets):
        return (
            "has a secret that is not known here, so all it delivers is refused; run"
            " `ml-connector register-webhooks` again"
        )
    if key.signing_secrets and not hook.get("signing_enabled"):
        return (
            "is not signed although a signing secret is set, so all it delivers is refused; take"
            " the webhook signing secret out of the connection, or register the webhook again"
        )
    return None


def _record(scope: Scope, action: str, *, after: dict[str, str]) -> None:
    """Leave the audit row of a call that writes, or only looks as if it did."""
    entry = Entry(
        sync=scope.name,
        action=action,
        reason="check",
        outcome="applied",
        cause="check",
        after=after,
    )
    run = RunContext(task_id="check", actor=getpass.getuser())
    with scope.database.begin() as connection:
        trail.append(connection, [entry], run=run, vault=scope.vault)
