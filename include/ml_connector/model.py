"""Shared value types: frozen, without behaviour beyond their own meaning.

Times are timezone-aware datetimes. An ``email_key`` is the 32-byte blind index of a normalised
address (``vault.Vault.email_key``). The address itself appears only inside encrypted payloads.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar, overload

import msgspec

T = TypeVar("T")

MergeValue = str | dict[str, str]
MergeFields = Mapping[str, MergeValue]


class Status(StrEnum):
    """A member's status: Mailchimp's own values, and three of ours."""

    SUBSCRIBED = "subscribed"
    PENDING = "pending"
    TRANSACTIONAL = "transactional"
    UNSUBSCRIBED = "unsubscribed"
    CLEANED = "cleaned"
    ARCHIVED = "archived"
    FORGOTTEN = "forgotten"
    """Ours: permanently deleted in Mailchimp, which refuses the address from then on."""
    ABSENT = "absent"
    """Ours: not in the audience, but something is stored about the address, such as a refusal."""
    MOVED = "moved"
    """Ours: the member took another address in Mailchimp (``contacts.alias_of`` of that contact)."""


UNARCHIVABLE = (Status.PENDING, Status.CLEANED)
"""Statuses of members that Mailchimp does not archive: 405 "Can not archive a contact that is…"."""
CANNOT_ARCHIVE = "cannot_archive_"
"""The reason why such a contact stays, before its status."""
CONSENT_RANK = {
    Status.SUBSCRIBED: 3,
    Status.PENDING: 2,
    Status.TRANSACTIONAL: 1,
    Status.UNSUBSCRIBED: 0,
    Status.CLEANED: 0,
    Status.ARCHIVED: 0,
    Status.FORGOTTEN: 0,
    Status.ABSENT: 0,
    Status.MOVED: 0,
}
"""How much mail a status permits. None of our writes may raise it."""


class Engagement(StrEnum):
    """What a member does with the mail, the most engaged first. Lists sort in this order."""

    ENGAGED = "engaged"
    """Opened or clicked within 30 days."""
    QUIET = "quiet"
    """Opened or clicked before."""
    NEVER_OPENED = "never_opened"
    """Was sent mail, and opened none."""
    NEVER_MAILED = "never_mailed"
    """No report names the member as a recipient. Stored as NULL."""
    BOUNCING = "bouncing"
    """Mail bounced softly since the last open, within 30 days."""
    BOUNCED = "bounced"
    """Mail bounced permanently."""
    COMPLAINED = "complained"
    """Reported a mail as spam."""


class Kind(StrEnum):
    """What a change does to a contact."""

    CREATE = "create"
    UPDATE = "update"
    RESTORE = "restore"
    ARCHIVE = "archive"


class ChangeState(StrEnum):
    """The state of a change."""

    PENDING = "pending"
    APPLIED = "applied"
    FAILED = "failed"
    PARKED = "parked"
    SUPERSEDED = "superseded"
    LEFT = "left"
    """A contact that an undo leaves unchanged, with the reason."""


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A QuickBooks customer, reduced to what the connector needs.

    ``addresses`` are valid and normalised, in the order found. Without one, ``email_problem`` is
    ``no_email`` or ``invalid_email``, and ``email_detail`` says why. ``merge_fields`` have
    Mailchimp's form: ``""`` clears a field, an absent key is not sent. ``unfit`` says why a field
    has no value that fits. ``tags`` are those the contact carries, None in rows staged before tags
    existed. ``left_out`` is the reason why the settings exclude the customer. ``groups`` are ids of
    interests by category. ``language`` is Mailchimp's code.
    """

    id: str
    sync_token: str
    active: bool
    is_job: bool
    is_project: bool
    last_updated: datetime
    display_name: str
    addresses: tuple[str, ...]
    email_problem: str | None
    merge_fields: dict[str, MergeValue]
    email_detail: str = ""
    unfit: dict[str, str] = {}
    notes: str = ""
    tags: tuple[str, ...] | None = None
    left_out: str | None = None
    groups: dict[str, str] = {}
    language: str = ""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A Mailchimp audience member as the API returns it.

    ``web_id`` names it in Mailchimp's own pages. ``unsubscribe_reason`` is set only for unsubscribed members. ``last_changed`` has a resolution
    of 1 s, UTC. ``interests`` are the ids of its groups; None if the response names none, and
    ``language`` likewise. ``open_rate`` and ``click_rate`` are percentages of all campaigns so far,
    rounded up; ``rating`` is Mailchimp's, 1 to 5. ``request_id`` is that of the write whose
    response this is.
    """

    email_address: str
    status: Status
    contact_id: str = ""
    web_id: int | None = None
    last_changed: datetime | None = None
    unsubscribe_reason: str = ""
    merge_fields: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    interests: tuple[str, ...] | None = None
    language: str | None = None
    open_rate: int | None = None
    click_rate: int | None = None
    rating: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A record of a response that cannot be used. It alone is skipped (A55).

    ``digest``: ``row:`` and a hash of it. ``record``: its id, or its digest if it has none.
    ``reason``: why, in words that quote none of its values. ``updated``: its last change, if it has
    one. ``email_address``: of a member, if it has one.
    """

    record: str
    reason: str
    digest: str
    updated: datetime | None = None
    email_address: str = field(default="", repr=False)

    @property
    def has_id(self) -> bool:
        """Whether the record has an id, so that it can be read again."""
        return self.record != self.digest


def unreadable_record(
    row: object,
    reason: str,
    *,
    id_: str = "",
    updated: datetime | None = None,
    email_address: str = "",
) -> Unreadable:
    """Return a record as unreadable; one without an id is named by its digest."""
    try:
        shown = repr(row)
    except RecursionError:  # just not deep enough to fail while decoding
        shown = f"nested {id_}{email_address}"
    hashed = hashlib.blake2b(shown.encode("utf-8", "replace"), digest_size=12).hexdigest()
    digest = f"row:{hashed}"
    return Unreadable(
        record=id_ or digest,
        reason=reason,
        digest=digest,
        updated=updated,
        email_address=email_address,
    )


def numbered(found: Iterable[T | Unreadable], equal: Counter[str]) -> list[T | Unreadable]:
    """Return the records of a page, equal ones without an id distinguished by a number.

    A full load counts them. ``equal``: how many the pages before had, by digest.
    """
    listed: list[T | Unreadable] = []
    for each in found:
        if isinstance(each, Unreadable) and not each.has_id:
            equal[each.digest] += 1
            if (number := equal[each.digest]) > 1:
                name = f"{each.digest}:{number}"
                listed.append(replace(each, record=name, digest=name))
                continue
        listed.append(each)
    return listed


def anonymous(row: object) -> bool:
    """Return whether a record cannot be read and has no id: equal ones are not the same one."""
    return isinstance(row, Unreadable) and not row.has_id


def new_from(page: Sequence[T], former: Sequence[T], key: Callable[[T], str]) -> int:
    """Return the index from which on a page shows nothing of the former page, its end if unknown.

    Pages of a listing overlap. The last record with an id shows where. ``key``: a record's id.
    """
    for behind, last in enumerate(reversed(former)):
        if not anonymous(last):
            places = (n for n, row in enumerate(page) if key(row) == key(last))
            return next(places, len(page)) + behind + 1
    return len(former)


@dataclass(frozen=True, slots=True)
class Page(Sequence[T], Generic[T]):
    """The records of one response, and those of it that cannot be used."""

    rows: Sequence[T]
    unreadable: Sequence[Unreadable] = ()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """Return a record, or several."""
        return self.rows[index]

    def __len__(self) -> int:
        """Return the number of records that can be used."""
        return len(self.rows)


def page_of(found: Iterable[T | Unreadable]) -> Page[T]:
    """Return records apart from those that cannot be used."""
    listed = list(found)
    return Page(
        [each for each in listed if not isinstance(each, Unreadable)],
        [each for each in listed if isinstance(each, Unreadable)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign, or one mail of an automation or journey, which is sent as long as it runs.

    ``figures`` of an automation: mails sent, opens, clicks and bounces. If they stay, so does its
    report.
    """

    id: str
    sent_at: datetime | None = None
    is_automation: bool = False
    figures: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailActivity:
    """The latest activity of one address in a campaign report, None where there is none.

    ``engaged_at`` is the last open or click.
    """

    email_address: str
    engaged_at: datetime | None = None
    clicked_at: datetime | None = None
    soft_bounce_at: datetime | None = None
    hard_bounce_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberEvent:
    """Something a member did, or a new state of the member.

    ``kind`` is a Mailchimp status, ``profile_changed``, ``address_changed``, or an engagement
    (``Engagement``). ``detail`` is JSON-able and may hold
    personal data: ``reason``, ``fields``, ``email``. ``id`` is that of the stored event.
    """

    email_key: bytes
    kind: str
    happened_at: datetime
    before: str | None = None
    after: str | None = None
    detail: dict[str, Any] | None = None
    id: int | None = None


class MemberWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a batch subscribe, or the body of a single member call.

    ``status_if_new`` applies on creation only. ``status`` always applies. It is sent only to echo
    what was read moments before (older contracts) and to restore (behaviour A18). ``tags`` are
    added, never removed. ``interests`` are joined or left, by id; all other groups stay.
    """

    email_address: str
    merge_fields: dict[str, MergeValue]
    tags: tuple[str, ...] = ()
    status_if_new: Status | None = None
    status: Status | None = None
    interests: dict[str, bool] = {}
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRefusal:
    """One refused row of a batch: Mailchimp's code, and its message without the address."""

    email_address: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The response to one batch subscribe. Every row is in exactly one of the three."""

    created: tuple[Member, ...]
    updated: tuple[Member, ...]
    refused: tuple[RowRefusal, ...]
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeField:
    """A merge field of the audience. ``type`` is Mailchimp's (text, address, phone ...).

    ``phone_format`` is ``US`` or ``none``. ``date_format`` is ``MM/DD/YYYY``, ``DD/MM`` and alike.
    ``choices`` are those of a dropdown or radio field.
    """

    tag: str
    name: str
    type: str
    required: bool
    phone_format: str = ""
    date_format: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A sync's settings that affect decisions."""

    new_contact_status: str
    create: str = "all"
    include_jobs: bool = True
    on_inactive: str = "archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The origin of a write, stored in every audit row. ``actor`` is a person's name, or ``""``."""

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    try_number: int = 1
    actor: str = ""
