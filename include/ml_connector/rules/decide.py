"""Decide what to change: a pure function of staged customers and known contacts.

``decide`` reads keys, hashes and statuses, never a name or an address, and has no side effects. It
returns data: the changes to make, the verdict on each customer, and the contacts whose owner moves
without a call. Rules and their numbers are those of docs/reference/behaviour.md, section A.

Keys and hashes are hexadecimal text here. pandas passes bytes to NumPy, which drops trailing zero
bytes (https://numpy.org/doc/stable/reference/arrays.dtypes.html). One key in 256 would never be
found again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec
import pandas as pd

from ml_connector.model import CANNOT_ARCHIVE, CONSENT_RANK, UNARCHIVABLE, Kind, Policy, Status


class CustomerRow(msgspec.Struct, frozen=True):
    """What ``decide`` reads of a customer; keys and hashes as stored."""

    customer_id: str
    customer_no: int
    email_key: bytes | None
    email_problem: str | None
    contact_key: bytes | None
    fields_hash: bytes
    active: bool
    is_job: bool
    is_project: bool
    gone: bool
    left_out: str | None
    decision: str | None
    reason: str | None
    linked_to: str | None
    opted_out: bool


class ContactRow(msgspec.Struct, frozen=True):
    """What ``decide`` reads of a contact; keys and hashes as stored."""

    email_key: bytes
    status: str
    previous_status: str | None
    owner: str | None
    pushed_hash: bytes | None
    archived_by: str | None
    tagged_inactive: bool
    refused_hash: bytes | None
    refused_reason: str | None
    parked_until: datetime | None
    complained: bool


CUSTOMER_COLUMNS = [*CustomerRow.__struct_fields__]
CONTACT_COLUMNS = [*ContactRow.__struct_fields__]
CHANGE_COLUMNS = [
    "email_key", "customer_id", "kind", "reason", "status", "decided_hash", "tag_inactive",
]  # fmt: skip

VERDICT_COLUMNS = ["customer_id", "decision", "reason", "linked_to", "arrived", "opts_out"]
RETAINED_COLUMNS = ["email_key", "status", "owner", "why"]

# The statuses of an old address that follow a customer to a new one, lowest first (A11, A13b).
# Cleaned is not among them: a corrected address deserves its chance.
_FORBIDDEN = "forbidden"
_OPT_OUTS = (_FORBIDDEN, Status.UNSUBSCRIBED)
_CARRIED = [_FORBIDDEN, Status.UNSUBSCRIBED, Status.TRANSACTIONAL, Status.PENDING]
_CARRY_RANK = {status: rank for rank, status in enumerate(_CARRIED)}
OPTED_OUT = "opted_out_elsewhere"
CREATION_OFF = "creation_off"
# Reasons why an address can never be a contact of ours.
_FINAL = (
    "archived_by_marketer",
    "forgotten",
    OPTED_OUT,
    "owned_by_another_sync",
    "suppressed",
)
# Reasons why a customer is represented by a contact that nothing is written to: its status travels
# on if the customer takes another address.
_ARRIVED = ("archived_by_marketer", "forgotten", "address_changed_in_mailchimp")
NOT_IN_AUDIENCE = (Status.ARCHIVED, Status.FORGOTTEN, Status.ABSENT, Status.MOVED)


class Rule(NamedTuple):
    """One rule for an owned address: the change it asks for, and the reason.

    ``case``: the row of docs/reference/behaviour.md. ``when``: a key of ``_conditions``. ``reason``: None
    takes the reason why Mailchimp refused the contact. ``kind``: None writes nothing. ``status``:
    which status the write carries (``created``, ``restored`` or ``lowered``); None sends none.
    """

    case: str
    when: str
    reason: str | None
    kind: Kind | None
    status: str | None = None


RULES = (
    Rule("A9", "has_another_owner", "owner_changed", Kind.UPDATE),
    Rule("A13", "has_no_owner", "adopted", Kind.UPDATE),
    Rule("A16", "lacks_inactive_tag", "inactive_tagged", Kind.UPDATE),
    Rule("A16", "wears_inactive_tag", "reactivated", Kind.UPDATE),
    Rule("A2", "shows_everything", "unchanged", None),
    Rule("A16", "is_kept_inactive", "kept_inactive", None),
    Rule("A1", "is_new", "new_customer", Kind.CREATE, "created"),
    Rule("A11", "is_new_and_moved", "address_changed", Kind.CREATE, "created"),
    Rule("A49", "may_not_be_created", CREATION_OFF, None),
    Rule("A18", "we_archived", "reactivated", Kind.RESTORE, "restored"),
    Rule("A15", "we_archived_and_moved", "address_returned", Kind.RESTORE, "restored"),
    Rule("A23", "was_refused_as_it_is", None, None),
    Rule("A24", "is_parked", "parked", None),
    Rule("A11a", "opted_out_elsewhere", OPTED_OUT, None),
    Rule("A19", "marketer_archived", "archived_by_marketer", None),
    Rule("A18a", "is_forgotten", "forgotten", None),
    Rule("A28", "moved_in_mailchimp", "address_changed_in_mailchimp", None),
    Rule("A42", "opted_out_on_the_way", OPTED_OUT, Kind.UPDATE, "lowered"),
    Rule("A39", "is_foreign", "owned_by_another_sync", None),
    Rule("A30", "is_suppressed", "suppressed", None),
)
"""From the weakest to the strongest: a later rule overrules the ones before it. An address
without a matching rule is updated, reason ``fields_changed`` (A3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Decisions as frames.

    ``changes``: CHANGE_COLUMNS. ``customers``: customer_id, decision, reason, linked_to,
    ``arrived`` (now represented under its address) and ``opts_out`` (an opt-out that it brings
    lowers its contact). ``owners``: email_key and owner of contacts
    that change owner without a call. ``left``: email_key, status, owner and why of orphaned
    contacts that stay.
    """

    changes: pd.DataFrame
    customers: pd.DataFrame
    owners: pd.DataFrame
    left: pd.DataFrame


def decide(
    customers: pd.DataFrame,
    contacts: pd.DataFrame,
    *,
    keys: Collection[str],
    suppressed: Collection[str],
    policy: Policy,
    now: datetime,
    foreign: Collection[str] = (),
    awaited: Collection[str] = (),
) -> Decisions:
    """Decide on every contact in ``keys``.

    ``customers`` holds every customer whose address or former contact is in ``keys``. ``contacts``
    holds the known contacts under ``keys`` and under those customers' other keys. ``foreign``: keys
    of contacts that another sync owns. ``awaited``: keys that another sync would take over.
    """
    known = contacts.set_index("email_key")
    people = customers.assign(standing=_standing(customers, policy))
    people = _with_past(people, known, set(suppressed))
    owners = _owners(people[people.email_key.isin(list(keys))], policy, known)
    wanted = _wanted(owners, people, known, set(suppressed), set(foreign), policy, now)
    archives, left = _unowned(people, known, keys, wanted)
    archives, shared = _shared(archives, known, foreign, awaited)
    left = pd.concat([left, shared], ignore_index=True)
    changes = pd.concat([_changes(wanted), archives], ignore_index=True)
    return Decisions(
        changes=changes[CHANGE_COLUMNS],
        customers=_verdicts(
            people[people.email_key.isin(list(keys)) | people.email_key.isna()], wanted
        ),
        owners=_handovers(wanted),
        left=left,
    )


def _standing(customers: pd.DataFrame, policy: Policy) -> pd.Series:
    """Return why each customer cannot be a contact, or ``ok``. A later entry of the list wins."""
    standing = pd.Series("ok", index=customers.index, dtype=object)
    reasons = [
        (customers.email_problem.notna(), customers.email_problem),
        (~customers.active.astype(bool), "inactive"),
        (customers.is_job.astype(bool) & (not policy.include_jobs), "job_excluded"),
        (customers.left_out.notna(), customers.left_out),
        (customers.is_project.astype(bool), "project"),
        (customers.gone.astype(bool), "gone"),
    ]
    for applies, reason in reasons:
        standing = standing.mask(applies, reason)
    return standing


def _owners(people: pd.DataFrame, policy: Policy, known: pd.DataFrame) -> pd.DataFrame:
    """Return one row per address: its owner (A9), and whether only the policy keeps it (A16)."""
    ranked = people.sort_values(["is_job", "customer_no"], kind="stable")
    active = ranked[ranked.standing == "ok"].drop_duplicates("email_key").assign(stays=False)
    if policy.on_inactive == "archive":
        return active
    live = known.index[known.owner.notna() & ~known.status.isin(NOT_IN_AUDIENCE)]
    staying = ranked[
        (ranked.standing == "inactive")
        & ranked.email_key.isin(live)
        & ~ranked.email_key.isin(active.email_key)
    ]
    return pd.concat([active, staying.drop_duplicates("email_key").assign(stays=True)])


def _with_past(people: pd.DataFrame, known: pd.DataFrame, suppressed: set[str]) -> pd.DataFrame:
    """Add ``moves``: comes from another contact; and ``brings``: the status it brings from there.

    ``brings`` is a status of the former contact or ``_FORBIDDEN``, None for who brings nothing.
    """
    # Other former addresses never became a contact.
    left_a_contact = (
        people.contact_key.isin(known.index) | people.contact_key.isin(list(suppressed))
    ) & (people.contact_key != people.email_key)
    moves = left_a_contact | people.opted_out.eq(True)
    if not moves.any():  # by far the most common case
        return people.assign(moves=False, brings=None)
    movers = people[moves]
    former = known.reindex(movers.contact_key.where(left_a_contact[movers.index]))
    # Of a member who moved on in Mailchimp, the status at the new address counts (A28b).
    elsewhere = former.status.isin([Status.ARCHIVED, Status.MOVED])
    status = former.status.where(~elsewhere, former.previous_status)
    status = status.mask(
        (status == Status.CLEANED) & former.complained.eq(True), Status.UNSUBSCRIBED
    )
    gone = former.previous_status.isna() | former.previous_status.isin(NOT_IN_AUDIENCE)
    forbidden = (
        ((former.status == Status.ARCHIVED) & (former.archived_by != "us"))
        | (former.status == Status.FORGOTTEN)
        | ((former.status == Status.MOVED) & gone)
    )
    forbidden = forbidden.to_numpy() | movers.contact_key.isin(list(suppressed)).to_numpy()
    brings = (
        pd.Series(status.to_numpy(), index=movers.index, dtype=object)
        .mask(movers.opted_out.eq(True), Status.UNSUBSCRIBED)
        .mask(forbidden, _FORBIDDEN)
    )
    return people.assign(moves=moves, brings=brings.reindex(people.index))


def _carried(people: pd.DataFrame) -> pd.DataFrame:
    """Return, by new address, the lowest status its customers carry over from former addresses."""
    movers = people[(people.standing == "ok") & people.moves]
    carried = pd.DataFrame(
        {
            "email_key": movers.email_key,
            "carry": movers.brings,
            "carry_rank": movers.brings.map(_CARRY_RANK).astype(float),
        }
    )
    lowest = carried.sort_values("carry_rank", na_position="last").drop_duplicates("email_key")
    return lowest.assign(moved=True, carry=lowest.carry.where(lowest.carry_rank.notna()))


def _wanted(
    owners: pd.DataFrame,
    people: pd.DataFrame,
    known: pd.DataFrame,
    suppressed: set[str],
    foreign: set[str],
    policy: Policy,
    now: datetime,
) -> pd.DataFrame:
    """Return one row per owned address: the kind of change (or none), its reason, its status."""
    rows = owners.rename(columns={"reason": "past_reason"}).join(known, on="email_key")
    rows = rows.merge(_carried(people), on="email_key", how="left")
    rows["tag_inactive"] = rows.stays.astype(bool) & (policy.on_inactive == "tag")
    rows["decided_hash"] = [
        desired_hash(fields, tag_inactive=tagged)
        for fields, tagged in zip(rows.fields_hash, rows.tag_inactive, strict=True)
    ]
    rows["foreign"] = rows.email_key.isin(list(foreign))
    # A contact of the customer's own is no sign-up: it was made before the opt-out was known. Only
    # if all customers at the address opted out: the consent of the others is their own.
    opts_out = people.opted_out.eq(True) | people.brings.isin(_OPT_OUTS)
    others = people.email_key[(people.standing == "ok") & ~opts_out]
    own = rows.brings.isin(_OPT_OUTS) & (rows.owner == rows.customer_id)
    rows["opted_out"] = (rows.opted_out.eq(True) | own) & ~rows.email_key.isin(others)
    conditions = _conditions(rows, suppressed, policy, now)
    created = rows.carry.where(rows.carry.notna(), policy.new_contact_status)
    statuses = {
        "created": created,
        "restored": _restored_statuses(rows, conditions["ours"]),
        "lowered": pd.Series(Status.UNSUBSCRIBED.value, index=rows.index, dtype=object),
    }
    reason = pd.Series("fields_changed", index=rows.index, dtype=object)
    kind = pd.Series(Kind.UPDATE.value, index=rows.index, dtype=object)
    status = pd.Series(None, index=rows.index, dtype=object)
    for rule in RULES:
        applies = conditions[rule.when]
        if not applies.any():
            continue
        kind = kind.mask(applies, None if rule.kind is None else rule.kind.value)
        reason = reason.mask(applies, rule.reason or rows.refused_reason)
        status = status.mask(applies, statuses[rule.status] if rule.status else None)
    there = conditions["exists"] & ~rows.status.isin(NOT_IN_AUDIENCE)
    present = there & ~rows.foreign
    return rows.assign(kind=kind, why=reason, new_status=status, there=there, present=present)


def _conditions(
    rows: pd.DataFrame, suppressed: set[str], policy: Policy, now: datetime
) -> dict[str, pd.Series]:
    """Return the conditions of RULES by name; ``rows`` are owners joined with contacts."""
    exists = rows.status.notna() & (rows.status != Status.ABSENT)
    archived = rows.status == Status.ARCHIVED
    ours = archived & (rows.archived_by == "us")
    tagged = rows.tagged_inactive.eq(True)
    moved = rows.moved.eq(True)
    return {
        "exists": exists,
        "ours": ours,
        "has_another_owner": exists & rows.owner.notna() & (rows.owner != rows.customer_id),
        "has_no_owner": exists & rows.owner.isna(),
        "lacks_inactive_tag": rows.tag_inactive & ~tagged,
        "wears_inactive_tag": ~rows.tag_inactive & tagged,
        "shows_everything": rows.pushed_hash == rows.decided_hash,
        "is_kept_inactive": rows.stays.astype(bool) & (policy.on_inactive == "keep"),
        "opted_out_on_the_way": rows.opted_out & rows.status.map(CONSENT_RANK).gt(0),
        "is_new": ~exists,
        "is_new_and_moved": ~exists & moved,
        "may_not_be_created": ~exists & (policy.create == "never"),
        "we_archived": ours,
        "we_archived_and_moved": ours & moved,
        "was_refused_as_it_is": rows.refused_hash == rows.decided_hash,
        "is_parked": pd.to_datetime(rows.parked_until, utc=True) > pd.Timestamp(now),
        "opted_out_elsewhere": (rows.carry == _FORBIDDEN) & (~exists | archived),
        "marketer_archived": archived & ~ours,
        "is_forgotten": rows.status == Status.FORGOTTEN,
        "moved_in_mailchimp": rows.status == Status.MOVED,
        "is_foreign": rows.foreign,
        "is_suppressed": rows.email_key.isin(list(suppressed)),
    }


def desired_hash(fields_hash: str, *, tag_inactive: bool) -> str:
    """Return a contact's ``pushed_hash`` after a push of these fields and this tag."""
    return fields_hash + ("01" if tag_inactive else "00")


def _restored_statuses(rows: pd.DataFrame, ours: pd.Series) -> pd.Series:
    """Return a restored contact's status: its previous one, or a lower one after an opt-out."""
    back = rows[ours]
    statuses = [
        _lower(previous, carried)
        for previous, carried in zip(back.previous_status, back.carry, strict=True)
    ]
    return pd.Series(statuses, index=back.index, dtype=object).reindex(rows.index)


def _lower(previous: object, carried: object) -> str:
    had = previous if previous in CONSENT_RANK else Status.UNSUBSCRIBED
    brought = carried if carried in CONSENT_RANK else had
    return str(min(had, brought, key=lambda status: CONSENT_RANK[Status(str(status))]))


def _changes(wanted: pd.DataFrame) -> pd.DataFrame:
    due = wanted[wanted.kind.notna()]
    return pd.DataFrame(
        {
            "email_key": due.email_key,
            "customer_id": due.customer_id,
            "kind": due.kind,
            "reason": due.why,
            "status": due.new_status,
            "decided_hash": due.decided_hash,
            "tag_inactive": due.tag_inactive,
        },
        columns=CHANGE_COLUMNS,
    )


def _unowned(
    people: pd.DataFrame, known: pd.DataFrame, keys: Collection[str], wanted: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return orphaned contacts: those to archive, and those left because Mailchimp cannot."""
    rows = known[
        known.index.isin(list(keys))
        & known.owner.notna()
        & ~known.index.isin(wanted.email_key)
        & ~known.status.isin(NOT_IN_AUDIENCE)
    ].reset_index()
    # A customer whose new address cannot be a contact yet keeps the former contact until it can.
    settled = wanted.why.isin((*_FINAL, *_ARRIVED))
    unable = wanted[wanted.kind.isna() & ~wanted.present & ~settled].email_key
    stuck = people[(people.standing == "invalid_email") | people.email_key.isin(unable)]
    rows = rows[~rows.email_key.isin(stuck.contact_key)]
    moved = people[people.contact_key.notna() & (people.contact_key != people.email_key)]
    why = {
        **dict.fromkeys(moved.contact_key, "address_changed"),
        **dict.fromkeys(people[people.standing == "no_email"].contact_key, "no_email"),
        **dict(people[people.standing != "ok"][["email_key", "standing"]].to_numpy()),
    }
    rows = rows.assign(reason=[why.get(key, "no_customer") for key in rows.email_key])
    impossible = rows.status.isin(UNARCHIVABLE)
    due = rows[~impossible]
    archives = pd.DataFrame(
        {
            "email_key": due.email_key,
            "customer_id": due.owner,
            "kind": Kind.ARCHIVE.value,
            "reason": due.reason,
            "status": None,
            "decided_hash": None,
            "tag_inactive": False,
        },
        columns=CHANGE_COLUMNS,
    )
    stay = rows[impossible]
    return archives, stay.assign(why=CANNOT_ARCHIVE + stay.status)[RETAINED_COLUMNS]


def _shared(
    archives: pd.DataFrame, known: pd.DataFrame, foreign: Collection[str], awaited: Collection[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Remove from ``archives`` the contacts that another sync owns or will take over."""
    theirs = archives.email_key.isin(list(foreign))
    stay = archives[theirs | archives.email_key.isin(list(awaited))]
    left = pd.DataFrame(
        {
            "email_key": stay.email_key,
            "status": known.status.reindex(stay.email_key).to_numpy(),
            "owner": stay.customer_id,
            "why": theirs[stay.index].map(
                {True: "owned_by_another_sync", False: "left_to_another_sync"}
            ),
        },
        columns=RETAINED_COLUMNS,
    )
    return archives.drop(stay.index), left


def _verdicts(people: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """Return the verdict on each customer: contact, linked or skipped, with the reason."""
    lowered = (wanted.kind == Kind.UPDATE) & (wanted.why == OPTED_OUT)
    by_key = (
        wanted.assign(lowered=lowered)
        .set_index("email_key")[["customer_id", "kind", "why", "there", "present", "lowered"]]
        .rename(columns={"customer_id": "owner_id"})
    )
    rows = people.join(by_key, on="email_key")
    usable = (rows.standing == "ok") & rows.owner_id.notna()
    served = usable & (rows.present.eq(True) | rows.kind.notna())
    owner = rows.customer_id == rows.owner_id
    stays = (rows.standing == "inactive") & rows.owner_id.notna()
    decision = pd.Series("skipped", index=rows.index, dtype=object)
    decision = decision.mask(served & owner, "contact").mask(served & ~owner, "linked")
    reason = rows.standing.mask(usable, rows.why)
    reason = reason.mask(served & ~owner, "shared_address").mask(stays, "inactive")
    return pd.DataFrame(
        {
            "customer_id": rows.customer_id,
            "decision": decision,
            "reason": reason,
            "linked_to": rows.owner_id.where(served & ~owner),
            "arrived": usable & (rows.there.eq(True) | rows.why.isin(_ARRIVED)),
            "opts_out": rows.lowered.eq(True) & rows.brings.isin(_OPT_OUTS),
        }
    )


def _handovers(wanted: pd.DataFrame) -> pd.DataFrame:
    """Return contacts that are up to date but have a new owner."""
    moved = wanted[
        wanted.kind.isna() & wanted.present & (wanted.why == "unchanged")
        & (wanted.owner != wanted.customer_id)
    ]  # fmt: skip
    return moved[["email_key", "customer_id"]].rename(columns={"customer_id": "owner"})
