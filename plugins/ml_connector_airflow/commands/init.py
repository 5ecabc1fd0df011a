"""``ml-connector init``: ask what a settings file needs, show it with real customers, write it.

Both accounts are read, neither is written to. What is shown holds personal data.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import typer
from airflow.models.connection import Connection as StoredConnection
from airflow.utils.session import create_session
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from ml_connector.display import counted
from ml_connector.errors import ConnectorError, SettingsError
from ml_connector.mailchimp.protocol import member_count
from ml_connector.model import MergeField, RunContext
from ml_connector.rules.proposal import proposed
from ml_connector.scope import Scope
from ml_connector.settings import NO_AUDIENCE, SYNC_NAME, Sync, home, settings_file
from ml_connector.settings_edit import SettingsEdit
from ml_connector.settings_source import find_source
from ml_connector.store.database import Database
from ml_connector.sync import preflight
from ml_connector.sync.samples import SampleContact, Samples
from ml_connector.vault import vault_from
from ml_connector_airflow.wiring import (
    connection_named,
    database_url,
    mailchimp_client,
    quickbooks_client,
)

QUICKBOOKS, MAILCHIMP = "quickbooks", "mailchimp"
CONSENT = (
    ("subscribed", "every customer agreed to your newsletter; they are mailed from now on"),
    ("pending", "not all did: Mailchimp asks each by e-mail; those who confirm are mailed"),
    ("transactional", "no newsletter: order mail only"),
)
_ENVIRONMENT = "AIRFLOW_CONN_"
_DRAFT = {"audience_id": NO_AUDIENCE, "new_contact_status": "pending", "fields": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Values given as options; empty ones are asked, or with ``yes`` taken from file or default."""

    sync: str = ""
    file: str = ""
    company: str = ""
    audience: str = ""
    consent: str = ""
    mapping: str = ""
    fields: Sequence[str] = ()
    tags: Sequence[str] = ()
    schedule: str = ""
    timezone: str = ""
    yes: bool = False


class Option(NamedTuple):
    """One choice: its value, and how it is listed. ``name`` may be typed too."""

    value: str
    label: str
    name: str = ""


class AudienceChoice(NamedTuple):
    """An audience, and the connection to its account."""

    conn_id: str
    id: str
    name: str


class Initialised(NamedTuple):
    """The sync that was set up. ``elsewhere``: in a file that Airflow does not use so far."""

    sync: str
    elsewhere: bool


@dataclass(frozen=True, kw_only=True)
class Initialiser:
    """Asks the questions. ``console`` shows what was read."""

    given: Given
    database: Database
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))

    def run(self) -> Initialised:
        """Ask, write the file; return the sync that it holds.

        Raises ``SettingsError`` if a needed value is missing or wrong, or the file cannot be used.
        Nothing is written then.
        """
        given = self.given
        edit = SettingsEdit(Path(given.file) if given.file else settings_file())
        name = self._name(edit)
        present = edit.sync(name)
        company = self._company(str(present.get("quickbooks_conn_id", "")))
        audience, others = self._audience(
            str(present.get("audience_id") or ""), str(present.get("mailchimp_conn_id") or "")
        )
        same = present.get("audience_id") == audience.id
        chosen: dict[str, Any] = {
            "quickbooks_conn_id": company,
            "mailchimp_conn_id": audience.conn_id,
            "audience_id": audience.id,
            # Consent is given for an audience: that of another one does not count.
            "new_contact_status": self._consent(present.get("new_contact_status") if same else ""),
        }
        chosen["fields"] = self._mapping(name, present | chosen, keep=same)
        chosen["tags"] = self._tags(present.get("tags"))
        chosen["schedule"] = self._schedule(name, str(present.get("schedule", "0 4 * * *")))
        chosen["timezone"] = given.timezone or self._ask(
            "Time zone, like Europe/Berlin", str(present.get("timezone", "UTC"))
        )
        _checked(name, present | chosen | {"tags": present.get("tags") or chosen["tags"]})
        if not present:
            edit.add_sync(name)
        for key, value in chosen.items():
            if key in present or not present or value != _DEFAULTS.get(key):
                edit.put(name, key, value)
        edit.note(name, "audience_id", audience.name, instead_of=others)
        self._write(edit)
        return Initialised(name, elsewhere=self._is_elsewhere(edit.path))

    # ── questions ─────────────────────────────────────────────────────────────────────────────

    def _name(self, edit: SettingsEdit) -> str:
        known = edit.syncs
        name = self.given.sync or (known[0] if known else "main")
        if not self.given.sync and len(known) > 1:
            options = [Option(each, each) for each in known]
            name = self._choose("Which sync?", options, default=known[0])
        if not SYNC_NAME.match(name):
            raise SettingsError(f"{name!r} is no sync name; use small letters, digits, underscores")
        return name

    def _company(self, present: str) -> str:
        options = []
        for conn_id in connections_of(QUICKBOOKS):
            with self._scope(_draft(quickbooks_conn_id=conn_id)) as scope:
                try:
                    found = quickbooks_client(scope).company().name
                except ConnectorError as error:
                    self._say(f"Connection {conn_id} is skipped: {error}")
                    continue
            options.append(Option(conn_id, f"{found} (connection {conn_id})", found))
        if not options:
            raise SettingsError(
                "no connection reaches a QuickBooks company; connect one with"
                " `ml-connector connect quickbooks`, or under Setup in the console"
            )
        return self._choose(
            "Which company?", options, given=self.given.company, default=present or options[0].value
        )

    def _audience(self, present: str, conn_id: str) -> tuple[AudienceChoice, tuple[str, ...]]:
        """Return the audience, and the names of all.

        An audience in the file stays the default, or nothing is: an account that does not respond
        must not lead to another audience. Of several connections to it, the file's counts.
        """
        present = "" if present == NO_AUDIENCE else present
        found: dict[str, AudienceChoice] = {}
        options: dict[str, Option] = {}
        silent = []
        for each in sorted(connections_of(MAILCHIMP), key=lambda each: each != conn_id):
            with self._scope(_draft(mailchimp_conn_id=each)) as scope:
                try:
                    listed = mailchimp_client(scope).audiences()
                except ConnectorError as error:
                    self._say(f"Connection {each} is skipped: {error}")
                    silent.append(each)
                    continue
            for audience in listed:
                one = AudienceChoice(each, str(audience.get("id")), str(audience.get("name")))
                members = member_count(audience)
                label = f"{one.name}, {counted(members, 'member')} ({one.id})"
                found.setdefault(one.id, one)
                options.setdefault(one.id, Option(one.id, label, one.name))
        if not options:
            raise SettingsError(
                "no connection reaches a Mailchimp account with an audience; add one of type"
                " Mailchimp, or create an audience in Mailchimp first"
            )
        if present and present not in found:
            missing = f"audience {present} of the settings file was not found" + (
                f"; no response from {', '.join(silent)}" if silent else ""
            )
            if self.given.yes and not self.given.audience:
                raise SettingsError(f"{missing}. Fix the connection, or give --audience")
            self._say(f"The {missing}.")
        chosen = self._choose(
            "Which audience?",
            list(options.values()),
            given=self.given.audience,
            default=present or next(iter(options)),
        )
        return found[chosen], tuple(each.name for each in found.values())

    def _consent(self, present: object) -> str:
        if self.given.yes and not self.given.consent and not present:
            raise SettingsError(
                "what new contacts agreed to has no default: give --consent subscribed, pending or"
                " transactional"
            )
        options = [Option(status, f"{status}: {said}") for status, said in CONSENT]
        return self._choose(
            "What did your customers agree to? An opt-out in Mailchimp stays, whatever you choose.",
            options,
            given=self.given.consent,
            default=str(present or ""),
        )

    def _mapping(self, name: str, body: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
        """Return the merge fields to fill, after they were shown with real customers."""
        given, fields = self.given, dict(body.get("fields") or {})
        known = _checked(name, {**body, "fields": fields, "tags": body.get("tags") or []})
        with self._scope(known) as scope:
            samples = Samples.read(scope.sync, quickbooks_client(scope), mailchimp_client(scope))
        found = list(samples.fields.values())
        if given.mapping == "proposed" or not fields or not (keep or given.mapping == "keep"):
            fields = dict(proposed(found))
        for each in given.fields:
            fields = _changed(fields, each)
        draft = known
        while True:
            try:
                draft = _checked(name, {**body, "fields": fields, "tags": body.get("tags") or []})
            except SettingsError as error:
                if given.yes:
                    raise
                self._say(str(error))
                fields = {tag: list(sources) for tag, sources in draft.fields.items()}
            self._show_mapping(draft, found)
            for contact in samples.shown(draft):
                self._show_sample(contact)
            said = self._ask("Change a field: TAG=SOURCE, or TAG= to omit it. Enter continues", "")
            if not said:
                return {tag: _shortest(sources) for tag, sources in fields.items()}
            fields = _changed(fields, said)

    def _tags(self, present: Any) -> list[str]:
        known = present.get("static") if isinstance(present, Mapping) else present
        known = [known] if isinstance(known, str) else list(known or ())
        if self.given.tags:
            return list(self.given.tags)
        default = ", ".join(map(str, known)) if present is not None else "QuickBooks"
        said = self._ask("Tags for every contact, separated by commas (- for none)", default)
        return [each.strip() for each in said.split(",") if each.strip() not in ("", "-")]

    def _schedule(self, name: str, present: str) -> str:
        self._say(
            "When should it run? Cron, five fields: 0 4 * * * is every night at four;"
            " */15 * * * * if you do not use webhooks."
        )
        while True:
            said = self.given.schedule or self._ask("Schedule", present)
            try:
                _checked(name, {**_DRAFT, "schedule": said})
            except SettingsError as error:
                if self.given.yes or self.given.schedule:
                    raise
                self._say(str(error))
                continue
            return said

    def _write(self, edit: SettingsEdit) -> None:
        changes = edit.diff()
        if not changes:
            self._say(f"{edit.path} has these settings already.")
            return
        edit.check()
        self.console.print(changes, markup=False)
        if not self.given.yes and not typer.confirm(f"Write {edit.path}?", default=True):
            raise SettingsError("nothing was written")
        edit.save()
        self._say(f"Written: {edit.path}")

    def _is_elsewhere(self, path: Path) -> bool:
        """Return whether the file is not the active one; it is for this process from then on."""
        source = find_source()
        if source and source.path and source.path.resolve() == path.resolve():
            return False
        self._say(f"Set ML_CONNECTOR_SYNCS={path} where Airflow runs, so that it is used.")
        os.environ["ML_CONNECTOR_SYNCS"] = str(path)
        return True

    # ── asking and showing ────────────────────────────────────────────────────────────────────

    def _ask(self, question: str, default: str) -> str:
        if self.given.yes:
            return default
        return str(typer.prompt(question, default=default, show_default=bool(default))).strip()

    def _choose(
        self, question: str, options: Sequence[Option], *, default: str, given: str = ""
    ) -> str:
        """Return the value of the option chosen by number, value or name."""
        self._say(question)
        for number, option in enumerate(options, start=1):
            now = "  (default)" if option.value == default else ""
            self._say(f"  {number}  {option.label}{now}")
        numbers = {each.value: str(n) for n, each in enumerate(options, start=1)}
        while True:
            said = given or self._ask("Number or name", numbers.get(default, ""))
            typed = said.casefold()
            meant = [
                option.value
                for number, option in enumerate(options, start=1)
                if typed and typed in (str(number), option.value.casefold(), option.name.casefold())
            ]
            if len(set(meant)) == 1:
                return meant[0]
            if meant and (given or self.given.yes):
                raise SettingsError(f"{said!r} may be any of: {', '.join(meant)}")
            if given or self.given.yes:
                raise SettingsError(
                    f"{said or 'no input'!r} is none of: "
                    + ", ".join(each.name or each.value for each in options)
                )
            self._say("Type one of the numbers or names.")

    def _show_mapping(self, sync: Sync, found: Sequence[MergeField]) -> None:
        table = Table("Merge field", "Tag", "From QuickBooks", box=None, title="Mapping")
        for each in found:
            sources = " or ".join(sync.fields.get(each.tag, ())) or "not filled"
            table.add_row(each.name, each.tag, sources)
        self.console.print(table, markup=False)
        for _, problem in preflight.iter_problems(sync, list(found)):
            self._say(f"To fix: {problem}")

    def _show_sample(self, contact: SampleContact) -> None:
        said = f"{contact.name}, {contact.email}: {contact.status_before}"
        if contact.status_after != contact.status_before:
            said += f" -> {contact.status_after}"
        self._say("")
        self._say(said)
        table = Table("Merge field", "Now", "After a sync", "", box=None)
        for each in contact.fields:
            table.add_row(each.name, each.before, each.after, each.note)
        self.console.print(table, markup=False)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)

    @contextmanager
    def _scope(self, sync: Sync) -> Iterator[Scope]:
        """Open a sync whose clients only read."""
        scope = Scope(
            sync=sync,
            database=self.database,
            vault=vault_from(os.environ, home()),
            run=RunContext(task_id="init"),
            read_only=True,
        )
        with scope.outside_runs():
            yield scope


_DEFAULTS: Mapping[str, Any] = {
    "quickbooks_conn_id": "quickbooks_default",
    "mailchimp_conn_id": "mailchimp_default",
    "schedule": "0 4 * * *",
    "timezone": "UTC",
    "tags": [],
}


def run_init(given: Given) -> Initialised:
    """Ask what the settings need and write them."""
    with closing(Database(database_url())) as database:
        return Initialiser(given=given, database=database).run()


def connections_of(kind: str) -> list[str]:
    """Return the ids of Airflow's connections of a type, in the environment or in its database."""
    with create_session() as session:
        found = set(
            session.scalars(
                select(StoredConnection.conn_id).where(StoredConnection.conn_type == kind)
            )
        )
    named = {
        name.removeprefix(_ENVIRONMENT).lower()
        for name in os.environ
        if name.startswith(_ENVIRONMENT)
    }
    found |= {each for each in named if connection_named(each, "").conn_type == kind}
    return sorted(found, key=lambda conn_id: (conn_id != f"{kind}_default", conn_id))


def _draft(**settings: str) -> Sync:
    """Return a sync of connections alone, to look what they reach."""
    return _checked("main", {**_DRAFT, **settings})


def _shortest(sources: Any) -> Any:
    """Return a lone source without a list around it, as people write it."""
    listed = [sources] if isinstance(sources, str) else [str(each) for each in sources]
    return listed[0] if len(listed) == 1 else listed


def _changed(fields: Mapping[str, Any], said: str) -> dict[str, Any]:
    """Return the fields after ``TAG=SOURCE`` or ``TAG=``; alternatives are separated by ``|``."""
    tag, _, source = (part.strip() for part in said.partition("="))
    sources = [each.strip() for each in source.split("|") if each.strip()]
    if not sources:
        return {name: value for name, value in fields.items() if name != tag}
    return {**fields, tag: sources}


def _checked(name: str, body: Mapping[str, Any]) -> Sync:
    try:
        return Sync.model_validate({"name": name, **body})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
