"""`GET /lists/{list_id}/members`: filters, order, paging."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sandbox.mailchimp import problems, projection
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.member_documents import SHOWN, render
from sandbox.mailchimp.members import STATUSES, Member
from sandbox.mailchimp.timestamps import from_text

DEFAULT_COUNT = 10
MAX_COUNT = 1000
_SORT_FIELDS = ("last_changed", "timestamp_opt", "timestamp_signup")


@dataclass(frozen=True)
class Page:
    """`count` and `offset`."""

    count: int
    offset: int

    def of(self, items: list[Any]) -> list[Any]:
        """Return the items on this page, none past the end."""
        return items[self.offset : self.offset + self.count]


def read_page(query: Mapping[str, str]) -> Page:
    """Read the paging of a query: 10 items by default, 1000 at most."""
    return Page(
        _number(query, "count", DEFAULT_COUNT, MAX_COUNT), _number(query, "offset", 0, 10**9)
    )


def list_members(audience: Audience, query: Mapping[str, str]) -> dict[str, Any]:
    """List a page of members; `total_items` counts the matches on all pages.

    Archived members are left out unless asked for by status (seen in recorded traffic; the
    documentation does not say). `since_...` means after and `before_...` before that second.
    """
    page = read_page(query)
    matches = _matches(audience, query)
    wanted = projection.parse(query.get("fields"))
    unwanted = projection.parse(query.get("exclude_fields"))
    of_member = (wanted.get("members", {}), unwanted.get("members", {}))
    shown = projection.keys(*of_member, SHOWN)
    members: list[Any] = [render(each, audience, shown) for each in page.of(matches)]
    if projection.goes_below(*of_member):
        members = projection.project(members, *of_member)
    document = {
        "members": members,
        "list_id": audience.id,
        "total_items": len(matches),
        "_links": [],
    }
    return {key: document[key] for key in projection.keys(wanted, unwanted, document)}


def _matches(audience: Audience, query: Mapping[str, str]) -> list[Member]:
    since, before = moment(query, "since_last_changed"), moment(query, "before_last_changed")
    sort_field = one_of(query, "sort_field", _SORT_FIELDS)
    if since is None and before is None and sort_field is None:
        found: Iterable[Member] = audience.by_contact_id.values()
    else:
        found = audience.recency.between(since, before)
    status = one_of(query, "status", (*STATUSES, "archived"))
    unsubscribed_since = moment(query, "unsubscribed_since")
    if unsubscribed_since is not None and status not in (None, "unsubscribed"):
        raise _invalid("unsubscribed_since", "This filter needs the status unsubscribed")
    if unsubscribed_since is not None:
        status = "unsubscribed"
    if status is None:
        members = [each for each in found if each.status != "archived"]
    else:
        members = [each for each in found if each.status == status]
    for fits in _filters(query, unsubscribed_since):
        members = [each for each in members if fits(each)]
    if sort_field in ("timestamp_opt", "timestamp_signup"):
        by = attrgetter(sort_field)
        members.sort(key=lambda each: by(each) or 0)
    if one_of(query, "sort_dir", ("ASC", "DESC")) == "DESC":
        members.reverse()
    return members


def _filters(
    query: Mapping[str, str], unsubscribed_since: int | None
) -> Iterable[Callable[[Member], bool]]:
    if unsubscribed_since is not None:
        yield lambda each: (each.unsubscribed_at or 0) > unsubscribed_since
    opted_since, opted_before = (
        moment(query, "since_timestamp_opt"),
        moment(query, "before_timestamp_opt"),
    )
    if opted_since is not None:
        yield lambda each: (each.timestamp_opt or 0) > opted_since
    if opted_before is not None:
        yield lambda each: each.timestamp_opt is not None and each.timestamp_opt < opted_before
    if query.get("vip_only", "").lower() in ("true", "1"):
        yield lambda each: each.vip
    for key in ("email_type", "unique_email_id"):
        if query.get(key):
            by, value = attrgetter(key), query[key]
            yield lambda each, by=by, value=value: by(each) == value  # type: ignore[misc]


def moment(query: Mapping[str, str], key: str) -> int | None:
    """Read a timestamp of the query; 400 if it is invalid."""
    text = query.get(key)
    if not text:
        return None
    try:
        return from_text(text)
    except ValueError:
        raise _invalid(key, "This value is not a valid datetime") from None


def one_of(query: Mapping[str, str], key: str, values: tuple[str, ...]) -> str | None:
    """Read a value of the query that must be one of these; 400 if it is not."""
    value = query.get(key)
    if value and value not in values:
        raise _invalid(key, "Value found was not in the enumerated list")
    return value or None


def _number(query: Mapping[str, str], key: str, default: int, most: int) -> int:
    text = query.get(key, str(default))
    if not text.isdecimal() or int(text) > most:
        raise _invalid(key, f"This value should be a number from 0 to {most}")
    return int(text)


def _invalid(key: str, message: str) -> problems.ProblemError:
    return problems.schema([{"field": key, "message": message}])
