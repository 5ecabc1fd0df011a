"""Marketing permissions (GDPR fields): given only to contacts that we create (A48a).

Each is a setting that names its legal basis. A known contact never gets one by our hand, so neither
does a contact that brings a customer from another address, or one whose creation met a member. The
batch endpoint does not take permissions: one more call gives them to a contact just created. Their
ids are shown on members only.
"""

from collections.abc import Mapping
from typing import Any, Self

from msgspec import structs
from sqlalchemy import Connection

from ml_connector.errors import RecordRefused
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import CONSENT_RANK, Kind
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import cursors
from ml_connector.sync.outcomes import ExtraCall, Outcome

ROWS_A_CALL = 20
"""Contacts created at a time: their permissions are given before the outcome is stored."""

_CURSOR = "permissions"
NO_SETTING = (
    "the audience has GDPR fields, but marketing_permissions names none: new contacts get no"
    " permission, and campaigns to a permission do not reach them"
)


class Permissions:
    """The permissions that the settings name, and their ids as far as they are known."""

    def __init__(self, scope: Scope, ids: Mapping[str, str]) -> None:
        """Bind a sync; ``ids``: of the audience's permissions by text in lower case."""
        self._scope, self._ids = scope, ids
        self._wanted = scope.sync.marketing_permissions

    @classmethod
    def of(cls, scope: Scope, connection: Connection) -> Self | None:
        """Return what new contacts are given; None if the settings name no permission."""
        if not scope.sync.marketing_permissions:
            return None
        return cls(scope, _stored(scope.sync, connection).get("ids", {}))

    @property
    def rows(self) -> int:
        """How many contacts to create at a time: one until the ids are known."""
        return ROWS_A_CALL if self._ids else 1

    @property
    def problem(self) -> str | None:
        """What the audience lacks; None if nothing, or if no member has shown it so far."""
        missing = [text for text in self._wanted if text.strip().casefold() not in self._ids]
        if not self._ids or not missing:
            return None
        return f"marketing permission {', '.join(map(repr, missing))} is missing"

    def given(self, client: MailchimpClient, outcome: Outcome) -> Outcome:
        """Give a contact that was just created its permissions; return the outcome with the call."""
        change, member = outcome.row.change, outcome.member
        if (
            not outcome.created
            or member is None
            or (change.kind, change.reason) != (Kind.CREATE, "new_customer")
            or not CONSENT_RANK[member.status]
        ):
            return outcome
        email = outcome.row.write.email_address
        if not self._ids:
            self._learn(client.permissions_of(email))
        ids = {text: self._ids.get(text.strip().casefold()) for text in self._wanted}
        given = {text: each for text, each in ids.items() if each}
        if not given:
            return outcome
        try:
            request_id = client.give_permissions(email, list(given.values()))
        except RecordRefused as error:
            refused = ExtraCall("permissions_refused", error.request_id)
            return structs.replace(outcome, further=(*outcome.further, refused))
        told = {text: self._wanted[text] for text in given}
        after = {**outcome.row.after, "marketing_permissions": told}
        call = ExtraCall("gave_permissions", request_id)
        row = structs.replace(outcome.row, after=after)
        return structs.replace(outcome, row=row, further=(*outcome.further, call))

    def _learn(self, ids: Mapping[str, str]) -> None:
        self._ids = _folded(ids)
        with self._scope.database.begin() as connection:
            _store(self._scope, connection, gdpr=bool(ids), ids=self._ids)


def check_permissions(scope: Scope, client: MailchimpClient, *, again: bool = True) -> list[str]:
    """Learn whether the audience has GDPR fields; return what it lacks of the settings' permissions.

    Without such a setting the audience is asked once, or ``again``.
    """
    sync = scope.sync
    with scope.database.begin() as connection:
        known = _stored(scope.sync, connection)
    if not sync.marketing_permissions and known and not again:
        return []
    gdpr = bool(client.audience().get("marketing_permissions"))
    ids = _folded(client.permissions_of()) if gdpr and sync.marketing_permissions else {}
    with scope.database.begin() as connection:
        _store(scope, connection, gdpr=gdpr, ids=ids)
    if sync.marketing_permissions and not gdpr:
        return ["the audience has no GDPR fields, which marketing_permissions needs"]
    problem = Permissions(scope, ids).problem
    return [problem] if problem else []


def warning(sync: Sync, connection: Connection) -> str | None:
    """Return a warning if the audience has GDPR fields and the settings name no permission."""
    unset = not sync.marketing_permissions
    return NO_SETTING if unset and _stored(sync, connection).get("gdpr") else None


def _stored(sync: Sync, connection: Connection) -> dict[str, Any]:
    known = cursors.get(connection, sync=sync.name, name=_CURSOR)
    return known if known.get("audience") == sync.audience_id else {}


def _store(scope: Scope, connection: Connection, *, gdpr: bool, ids: Mapping[str, str]) -> None:
    value = {"audience": scope.sync.audience_id, "gdpr": gdpr, "ids": dict(ids)}
    if cursors.get(connection, sync=scope.name, name=_CURSOR) != value:
        cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)


def _folded(ids: Mapping[str, str]) -> dict[str, str]:
    return {text.strip().casefold(): each for text, each in ids.items()}
