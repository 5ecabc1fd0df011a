"""What crosses a room: frozen values, without behaviour beyond their own meaning.

Times are aware datetimes. An ``email_key`` is the 32-byte blind index of a normalised address
(``vault.Vault.email_key``); the address itself appears only inside encrypted payloads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

MergeValue = str | dict[str, str]
MergeFields = Mapping[str, MergeValue]


class Status(StrEnum):
    """A member's status (Mailchimp's own words), plus what only we need to say."""

    SUBSCRIBED = "subscribed"
    PENDING = "pending"
    TRANSACTIONAL = "transactional"
    UNSUBSCRIBED = "unsubscribed"
    CLEANED = "cleaned"
    ARCHIVED = "archived"
    FORGOTTEN = "forgotten"
    """Ours, not theirs: deleted for good in Mailchimp, which refuses the address from then on."""
    ABSENT = "absent"
    """Ours, not theirs: not in the audience, but we know something of the address (a refusal)."""
    MOVED = "moved"
    """Ours, not theirs: its person took another address in Mailchimp; ``contacts.alias_of`` there."""


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
"""How much mail a status allows. No write of ours may raise it."""


class Kind(StrEnum):
    """What a change does to a contact."""

    CREATE = "create"
    UPDATE = "update"
    RESTORE = "restore"
    ARCHIVE = "archive"


class ChangeState(StrEnum):
    """Where a change stands."""

    PENDING = "pending"
    APPLIED = "applied"
    FAILED = "failed"
    PARKED = "parked"
    SUPERSEDED = "superseded"


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A QuickBooks customer, reduced to what the connector needs.

    ``addresses`` are valid and normalised, in the order found; ``email_problem`` is
    ``no_email`` or ``invalid_email`` where there is none. ``merge_fields`` are as Mailchimp
    will get them; ``""`` clears a field, an absent key is not sent. ``tags`` are those its contact
    carries; None in what was staged before they were. ``left_out``: why the settings leave it out.
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
    notes: str = ""
    tags: tuple[str, ...] | None = None
    left_out: str | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A Mailchimp audience member as the API shows it.

    ``unsubscribe_reason`` is set only for unsubscribed members; ``last_changed`` has 1 s
    resolution, UTC. ``request_id`` is that of the write whose answer this is.
    """

    email_address: str
    status: Status
    contact_id: str = ""
    last_changed: datetime | None = None
    unsubscribe_reason: str = ""
    merge_fields: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailActivity:
    """What one campaign's report says of one address: the latest of each, None if there is none.

    ``engaged_at`` is the last open or click.
    """

    email_address: str
    engaged_at: datetime | None = None
    soft_bounce_at: datetime | None = None
    hard_bounce_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberEvent:
    """Something a member did, or that became true of them.

    ``kind``: a status of Mailchimp's, ``profile_changed``, ``address_changed``, or an engagement
    (``engaged``, ``quiet``, ``bouncing``, ``bounced``). ``detail`` is JSON-able and may hold
    personal data: ``reason``, ``fields``, ``email``. ``id`` is the stored event's.
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

    ``status_if_new`` acts on creation only. ``status`` acts always and is sent only to echo what
    was read moments before (older contracts) and to restore (behaviour A18).
    ``tags`` are added, never removed.
    """

    email_address: str
    merge_fields: dict[str, MergeValue]
    tags: tuple[str, ...] = ()
    status_if_new: Status | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRefusal:
    """One refused row of a batch: Mailchimp's code and its words without the address."""

    email_address: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The answer to one batch subscribe: every row is in exactly one of the three."""

    created: tuple[Member, ...]
    updated: tuple[Member, ...]
    refused: tuple[RowRefusal, ...]
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeField:
    """A merge field of the audience. ``type`` is Mailchimp's (text, address, phone ...)."""

    tag: str
    name: str
    type: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a sync's settings say about deciding."""

    new_contact_status: str
    include_jobs: bool = True
    on_inactive: str = "archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Who is writing: goes into every audit row. ``actor`` is a person's name, or ``""``."""

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    try_number: int = 1
    actor: str = ""
