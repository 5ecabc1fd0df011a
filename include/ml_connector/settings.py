"""Settings: typed models of ``syncs.yaml`` and of the environment.

Loading validates the entire file. An unknown key, a missing key or a wrong value raises
``SettingsError``, which names the key and the line.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ml_connector.customer_paths import (
    ADDRESSES,
    REFERENCES,
    check_path,
    check_source,
    custom_field,
    custom_fields,
)
from ml_connector.errors import SettingsError
from ml_connector.settings_source import Source, file_source, find_source, home_file, require_source
from ml_connector.yaml_file import Tree, line_of, read_yaml

M = TypeVar("M", bound=BaseModel)
SYNC_NAME = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
_COUNTRY = re.compile(r"^[A-Z]{2}$")
TAG_NAME = re.compile(r"^[A-Z][A-Z0-9_]{0,9}$")
_PATH = re.compile(r"^[A-Z][A-Za-z0-9]*(\.[A-Za-z0-9]+)*$")

NAMED_ATTRIBUTES = ("customer_type", "job", "currency")
CUSTOMER_TYPES = {"customer_type", "CustomerTypeRef"}
"""Attributes with a name of their own, in addition to paths into the customer."""


def _filterable(attribute: str) -> str:
    if attribute not in ("customer_type", "currency") and not custom_field(attribute):
        raise ValueError(
            f"{attribute!r} is no attribute to filter by: customer_type, currency or"
            " CustomField[Its name]"
        )
    return attribute


Attribute = Annotated[str, AfterValidator(_filterable)]
EditRule = Literal["keep", "restore", "suggest"]
MAX_OF_A_TAG = 100
"""Mailchimp accepts tag names of up to this many characters."""
MIN_RETENTION_DAYS = 7
"""Minimum retention of webhook events, in days. It exceeds the time after which either vendor
delivers an event again."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


AS_LIST = BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...])
"""Takes one text for a list of one."""


def _as_tags(value: object) -> object:
    return {"static": value} if isinstance(value, (list, tuple)) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Activity(_Strict):
    """Settings for writing member activity to the QuickBooks customer."""

    write_to: Literal["notes", "attachment", "both", "none"] = "notes"
    show: Literal["news", "always"] = "news"
    batch_size: int = Field(default=25, ge=1, le=30)
    values: bool = True


class Guard(_Strict):
    """Limits above which a run waits for approval (behaviour A31)."""

    max_archives: int = Field(default=25, ge=0)
    max_archive_share: float = Field(default=0.10, ge=0, le=1)
    max_updates: int = Field(default=100_000, ge=0)


class Tags(_Strict):
    """The tags of a contact: ``static`` for every contact, ``from`` by customer attribute.

    ``from`` maps an attribute to a tag. An attribute is ``customer_type``, ``job``, ``currency`` or
    a path as in ``fields``, custom fields included. ``{value}`` in the tag stands for the attribute's value.
    """

    static: tuple[str, ...] = ()
    derived: dict[str, str] = Field(default_factory=dict, alias="from")

    @field_validator("static")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for tag in value:
            if not tag.strip() or len(tag) > MAX_OF_A_TAG:
                raise ValueError(f"{tag!r} is no tag: 1 to {MAX_OF_A_TAG} characters")
        return value

    @field_validator("derived")
    @classmethod
    def _known_attributes(cls, value: dict[str, str]) -> dict[str, str]:
        for attribute, tag in value.items():
            named = attribute in NAMED_ATTRIBUTES or bool(custom_field(attribute))
            if not named and not _PATH.match(attribute):
                raise ValueError(
                    f"{attribute!r} is no attribute: customer_type, job, currency, or a path like "
                    "BillAddr.City or CustomField[Region]"
                )
            if not named:
                check_path(attribute, REFERENCES)
            if not tag.strip() or len(tag) > MAX_OF_A_TAG:
                raise ValueError(f"{tag!r} is no tag: 1 to {MAX_OF_A_TAG} characters")
            if attribute == "job" and "{value}" in tag:
                raise ValueError("job is true or false, so its tag has no {value}")
            if {"{", "}"} & set(tag.replace("{value}", "")):
                raise ValueError(f"{tag!r}: only {{value}} may be in braces")
        return value


SANDBOX_AUDIENCE = "a1b2c3d4e5"
"""The mock server's audience. It gets no mail, so its contacts need no legal basis."""
NO_AUDIENCE = "not-chosen"
"""In place of an audience's id while you have not chosen one. The sync waits until then."""


class Sync(_Strict):
    """One company that feeds one audience.

    The pools are Airflow pools. Their slots limit how many Airflow tasks call a system at once.
    ``beside`` maps each other sync of the same audience to whether the file names it before this
    one. It follows from the file as a whole and is not a setting.
    """

    name: str
    quickbooks_conn_id: str = "quickbooks_default"
    mailchimp_conn_id: str = "mailchimp_default"
    quickbooks_pool: str = Field(default="quickbooks_api", min_length=1)
    mailchimp_pool: str = Field(default="mailchimp_api", min_length=1)
    audience_id: str = Field(min_length=1)
    schedule: str = "0 4 * * *"
    timezone: str = "UTC"
    new_contact_status: Literal["subscribed", "pending", "transactional"]
    first_run: Literal["ask", "write"] = "ask"
    fields: dict[str, Annotated[tuple[str, ...], AS_LIST]]
    tags: Annotated[
        Tags, BeforeValidator(_as_tags, json_schema_input_type=Tags | tuple[str, ...])
    ] = Tags()
    include: dict[Attribute, Annotated[tuple[str, ...], AS_LIST]] = Field(default_factory=dict)
    exclude: dict[Attribute, Annotated[tuple[str, ...], AS_LIST]] = Field(default_factory=dict)
    default_country: str = ""
    create: Literal["all", "never"] = "all"
    include_jobs: bool = True
    on_inactive: Literal["archive", "keep", "tag"] = "archive"
    inactive_tag: str = "Inactive"
    on_member_edit: EditRule | dict[str, EditRule] = "keep"
    adopt: Literal["fill_empty", "overwrite", "skip"] = "fill_empty"
    groups: dict[str, str] = Field(default_factory=dict)
    language: str = ""
    marketing_permissions: dict[str, str] = Field(default_factory=dict)
    activity: Activity = Activity()
    guard: Guard = Guard()
    beside: dict[str, bool] = Field(default_factory=dict)

    @property
    def audience_chosen(self) -> bool:
        """Return whether the settings name an audience."""
        return self.audience_id != NO_AUDIENCE

    @property
    def edit_rules(self) -> dict[str, str]:
        """Return ``on_member_edit`` of every mapped merge field."""
        rule = self.on_member_edit
        named = rule if isinstance(rule, dict) else dict.fromkeys(self.fields, rule)
        return {tag: named.get(tag, "keep") for tag in self.fields}

    @property
    def sources(self) -> Iterator[str]:
        """Yield every source that the settings name: attributes, paths and templates."""
        yield from (source for sources in self.fields.values() for source in sources)
        yield from (*self.tags.derived, *self.include, *self.exclude)
        yield from (*self.groups.values(), self.language)

    @property
    def member_fields(self) -> tuple[str, ...]:
        """Return which parts of a member matter besides those that always do."""
        used = {"interests": self.groups, "language": self.language}
        return tuple(part for part, setting in used.items() if setting)

    @property
    def custom_fields(self) -> tuple[str, ...]:
        """Return the names of the custom fields that matter. Each read of customers asks for them."""
        return tuple(dict.fromkeys(custom_fields(self.sources)))

    @property
    def needs_customer_types(self) -> bool:
        """Return whether the names of customer types matter, which costs one more read per run."""
        named = {*self.include, *self.exclude, *self.tags.derived, *self.groups.values()}
        return not named.isdisjoint(CUSTOMER_TYPES)

    @model_validator(mode="before")
    @classmethod
    def _in_the_sandbox(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("audience_id") == SANDBOX_AUDIENCE:
            return {"new_contact_status": "subscribed", **data}
        return data

    @field_validator("include", "exclude")
    @classmethod
    def _listed(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for attribute, names in value.items():
            if not names:
                raise ValueError(f"{attribute} needs at least one name")
        return value

    @field_validator("groups")
    @classmethod
    def _grouped(cls, value: dict[str, str]) -> dict[str, str]:
        for title, source in value.items():
            if not title.strip():
                raise ValueError("a category of groups has a name")
            if source not in NAMED_ATTRIBUTES:
                check_source(source, REFERENCES)
        return value

    @field_validator("marketing_permissions")
    @classmethod
    def _founded(cls, value: dict[str, str]) -> dict[str, str]:
        for text, basis in value.items():
            if not text.strip() or not basis.strip():
                raise ValueError(
                    f"{text!r} needs its legal basis in words, like 'consent: box in our order form'"
                )
        return value

    @field_validator("language")
    @classmethod
    def _spoken(cls, value: str) -> str:
        if value:
            check_source(value)
        return value

    @model_validator(mode="after")
    def _edits_of_mapped_fields(self) -> Self:
        if isinstance(self.on_member_edit, dict):
            for tag in self.on_member_edit.keys() - self.fields.keys():
                raise ValueError(f"on_member_edit names {tag}, which is not in fields")
        return self

    @field_validator("default_country")
    @classmethod
    def _known_country(cls, value: str) -> str:
        if value and not _COUNTRY.match(value):
            raise ValueError(f"{value!r} is no country code; two capitals by ISO 3166-1, like DE")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is no time zone; use a name like Europe/Berlin") from None
        return value

    @field_validator("schedule")
    @classmethod
    def _valid_cron(cls, value: str) -> str:
        if not croniter.is_valid(value):
            raise ValueError(f"{value!r} is no cron expression; five fields, like '0 4 * * *'")
        return value

    @field_validator("fields")
    @classmethod
    def _mapped(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for tag, sources in value.items():
            if not TAG_NAME.match(tag):
                raise ValueError(
                    f"{tag!r} is no merge field tag: at most 10 capitals, digits and underscores"
                )
            if not sources:
                raise ValueError(f"{tag} needs at least one QuickBooks attribute")
            for source in sources:
                check_source(source, ADDRESSES)
        return value


class Recipient(_Strict):
    """A recipient of alerts: one Airflow connection, by notifier kind.

    ``to`` lists the e-mail addresses for ``smtp``.
    """

    slack: str = ""
    smtp: str = ""
    teams: str = ""
    webhook: str = ""
    to: Annotated[tuple[str, ...], AS_LIST] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.slack, self.smtp, self.teams, self.webhook))) != 1:
            raise ValueError("names one connection: slack, smtp, teams or webhook")
        if bool(self.smtp) != bool(self.to):
            raise ValueError("to, a list of e-mail addresses, goes with smtp and only with it")
        return self

    @property
    def name(self) -> str:
        """Return kind and connection: ``slack:ops_slack``."""
        kinds = ("slack", "smtp", "teams", "webhook")
        return next(f"{kind}:{getattr(self, kind)}" for kind in kinds if getattr(self, kind))


class Alerts(_Strict):
    """Where alerts go besides the log. ``webhook_conn_id`` is the short form of one webhook.

    ``no_success_for_hours``: a sync without success for longer raises an alert; 0 disables it.
    ``runbook``: the URL that alerts link to, with ``{kind}`` in it; without, ``#<kind>`` is
    appended. ``digest``: whether the recipients get the figures of each week. ``digest_names``:
    whether it names customers.
    """

    webhook_conn_id: str = ""
    to: tuple[Recipient, ...] = ()
    no_success_for_hours: int = Field(default=26, ge=0)
    runbook: str = "docs/runbook/{kind}.md"
    digest: Literal["none", "weekly"] = "none"
    digest_names: bool = False

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [recipient.name for recipient in self.recipients]
        if len(set(names)) < len(names):
            raise ValueError("each connection can be named once")
        return self

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Return all recipients, including that of ``webhook_conn_id``."""
        short = (Recipient(webhook=self.webhook_conn_id),) if self.webhook_conn_id else ()
        return (*short, *self.to)


class Audit(_Strict):
    """Retention of the audit in full months; 0 keeps it forever."""

    keep_months: int = Field(default=0, ge=0)


class Webhooks(_Strict):
    """Settings of the webhook inbox.

    Attributes:
        keep_days: Retention of ended events in days; 0 keeps them forever, otherwise at least 7.
        stay_seconds: Seconds that a task waits for more events before it ends.
        repair: Whether the watch creates or corrects a Mailchimp webhook that does not work.
    """

    keep_days: int = Field(default=90, ge=0, le=3650)
    stay_seconds: int = Field(default=10, ge=0, le=120)
    repair: bool = False

    @field_validator("keep_days")
    @classmethod
    def _a_week_or_for_ever(cls, value: int) -> int:
        if 0 < value < MIN_RETENTION_DAYS:
            raise ValueError(
                f"{value} is too few: 0 (for ever), or {MIN_RETENTION_DAYS} to 3650 days"
            )
        return value


class QuickBooksLimits(_Strict):
    """``monthly_reads``: metered reads a month of one Intuit app; 0 watches none."""

    monthly_reads: int = Field(default=500_000, ge=0)


class MailchimpLimits(_Strict):
    """``contact_limit``: contacts that the plan of an account includes; 0 watches none."""

    contact_limit: int = Field(default=0, ge=0)


class DatabaseLimits(_Strict):
    """``max_gb``: the size that the connector's database may reach; 0 watches none."""

    max_gb: int = Field(default=0, ge=0)


class File(_Strict):
    """The settings file. ``syncs`` are validated one by one, as ``Sync``."""

    syncs: dict[str, dict[str, Any]] = Field(min_length=1)
    alerts: Alerts = Alerts()
    audit: Audit = Audit()
    webhooks: Webhooks = Webhooks()
    quickbooks: QuickBooksLimits = QuickBooksLimits()
    mailchimp: MailchimpLimits = MailchimpLimits()
    database: DatabaseLimits = DatabaseLimits()


def settings_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the settings file in use, or where a first one goes.

    Raises ``SettingsError`` if the settings are in no file but in an Airflow Variable.
    """
    given = os.environ if environ is None else environ
    found = find_source(given)
    if found is None:
        return home_file(given)
    if found.path is None:
        raise SettingsError(f"the settings are in the {found.place}; change them there")
    return found.path


def settings_place() -> str:
    """Return where the settings in use are, for messages: a path or the name of a Variable."""
    return require_source().place


def home(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of keys and state: ``ML_CONNECTOR_HOME``, or ``.state``."""
    return Path((os.environ if environ is None else environ).get("ML_CONNECTOR_HOME") or ".state")


def load_syncs(path: Path | None = None) -> dict[str, Sync]:
    """Return every sync by name. The environment's ``ML_CONNECTOR_FIRST_RUN`` goes over the file.

    Raises ``SettingsError``, which names the key and the line, if the file is not valid.
    """
    return syncs_in(_source(path))


def syncs_in(source: Source) -> dict[str, Sync]:
    """Return every sync of a source by name. Raises ``SettingsError`` as ``load_syncs`` does."""
    data, tree = _parsed(source)
    asks = os.environ.get("ML_CONNECTOR_FIRST_RUN")
    first_run = {"first_run": asks} if asks in ("ask", "write") else {}
    syncs = {
        name: _validated(Sync, {"name": name, **body}, ("syncs", name), source.place, tree)
        for name, body in _named(data.syncs, source.place, tree)
    }
    order = {name: place for place, name in enumerate(syncs)}
    feeders: dict[str, list[str]] = {}
    for name, sync in syncs.items():
        feeders.setdefault(sync.audience_id, []).append(name)
    return {
        name: sync.model_copy(
            update={
                **first_run,
                "beside": {
                    other: order[other] < order[name]
                    for other in feeders[sync.audience_id]
                    if other != name
                },
            }
        )
        for name, sync in syncs.items()
    }


def load_alerts(path: Path | None = None) -> Alerts:
    """Return where alerts go. Raises ``SettingsError`` as ``load_syncs`` does."""
    return _parsed(_source(path))[0].alerts


def load_audit(path: Path | None = None) -> Audit:
    """Return the audit's retention. Raises ``SettingsError`` as ``load_syncs`` does."""
    return _parsed(_source(path))[0].audit


def load_webhooks(path: Path | None = None) -> Webhooks:
    """Return the retention of webhook events. Raises ``SettingsError`` as ``load_syncs`` does."""
    return _parsed(_source(path))[0].webhooks


def load_limits(path: Path | None = None) -> tuple[int, int, int]:
    """Return ``monthly_reads``, ``contact_limit`` and ``max_gb``, each 0 if it is not watched.

    Raises ``SettingsError`` as ``load_syncs`` does.
    """
    found = _parsed(_source(path))[0]
    return (
        found.quickbooks.monthly_reads,
        found.mailchimp.contact_limit,
        found.database.max_gb,
    )


def quickbooks_connections(path: Path | None = None) -> list[str]:
    """Return the QuickBooks connections of all syncs, sorted and without duplicates."""
    return sorted({sync.quickbooks_conn_id for sync in load_syncs(path).values()})


def _source(path: Path | None) -> Source:
    return file_source(path) if path else require_source()


def _parsed(source: Source) -> tuple[File, Tree]:
    data, tree = read_yaml(source)
    return _validated(File, data, (), source.place, tree), tree


def load_sync(name: str, path: Path | None = None) -> Sync:
    """Return one sync.

    Raises ``SettingsError``, which lists the known names, if there is no sync ``name``.
    """
    syncs = load_syncs(path)
    if name not in syncs:
        raise SettingsError(
            f"there is no sync named {name!r} in {_source(path).place}; known: {', '.join(syncs)}"
        )
    return syncs[name]


def _named(
    syncs: dict[str, dict[str, Any]], path: str, tree: Tree
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, body in syncs.items():
        if not SYNC_NAME.match(name):
            raise SettingsError(
                f"{path}, line {line_of(tree, ('syncs', name))}: {name!r} is no sync name; "
                "use small letters, digits and underscores"
            )
        for key in {"name", "beside"} & set(body):  # both are derived from the file
            raise SettingsError(
                f"{path}, line {line_of(tree, ('syncs', name, key))}: syncs.{name}.{key}: "
                "is not a known setting"
            )
        yield name, body


def _validated(model: type[M], data: object, at: tuple[str, ...], path: str, tree: Tree) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = (*at, *(str(part) for part in first["loc"]))
        key = ".".join(where) or "the file"
        what = {
            "missing": "is missing",
            "extra_forbidden": "is not a known setting",
        }.get(first["type"], first["msg"].removeprefix("Value error, "))
        if key.endswith("new_contact_status") and first["type"] == "missing":
            what += (
                ": it states the legal basis for mailing, so it has no default; choose subscribed"
                " (every customer agreed to the newsletter), pending (Mailchimp asks each by e-mail)"
                " or transactional (no newsletter)"
            )
        raise SettingsError(f"{path}, line {line_of(tree, where)}: {key}: {what}") from None
