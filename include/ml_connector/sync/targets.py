"""Learn what values must fit: the audience's merge fields and the company's country.

Both are read when something depends on them, and stored. They are part of what customers are staged
by: when they change, the next run stages every customer again.
"""

from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection

from ml_connector.errors import ConnectorError
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import MergeField
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.rules.countries import country_code
from ml_connector.rules.fields import Target
from ml_connector.rules.typed import takes_any
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import cursors, problems
from ml_connector.sync import names
from ml_connector.sync.groups import groups_by_name, learn_groups

ADDRESSES = ("BillAddr", "ShipAddr")
"""Attributes that give an address field its value."""

_FIELDS = "merge_fields"
_HOME = "home_country"
log = structlog.get_logger(__name__)


def learn_fields(scope: Scope, client: MailchimpClient) -> None:
    """Read and store the audience's merge fields and groups, if customers depend on them now.

    They do if the fields were never read for these settings, or if a value did not fit: the field
    may have changed. Otherwise the read before the next write is early enough (``store_fields``).
    """
    with scope.database.begin() as connection:
        known = cursors.get(connection, sync=scope.name, name=_FIELDS)
        unfit = problems.any_noted(connection, sync=scope.name)
    if unfit or _key(scope.sync) != known.get("for"):
        store_fields(scope, client.merge_fields())
    learn_groups(scope, client, again=unfit)


def store_fields(scope: Scope, found: list[MergeField]) -> None:
    """Store the mapped merge fields of the audience that do not take every text."""
    strict = [each for each in found if each.tag in scope.sync.fields and not takes_any(each)]
    value = {
        "for": _key(scope.sync),
        "fields": [_stored(each) for each in sorted(strict, key=lambda f: f.tag)],
        "names": {each.tag: each.name for each in found if each.tag in scope.sync.fields},
    }
    with scope.database.begin() as connection:
        if cursors.get(connection, sync=scope.name, name=_FIELDS) != value:
            cursors.put(connection, sync=scope.name, name=_FIELDS, value=value)
            log.info("merge_fields_learned", sync=scope.name, strict=[each.tag for each in strict])


def field_names(sync: Sync, connection: Connection) -> dict[str, str]:
    """Return the names of the mapped merge fields in the audience, by tag."""
    known = cursors.get(connection, sync=sync.name, name=_FIELDS).get("names", {})
    return {tag: str(known.get(tag) or tag) for tag in sync.fields}


def learn_company(scope: Scope, client: QuickBooksClient) -> None:
    """Read the company's name once, and its country.

    The country is stored if addresses are mapped and the settings name none. A name alone that
    cannot be read stops no run.
    """
    realm = client.realm_id
    mapped = any(path in ADDRESSES for paths in scope.sync.fields.values() for path in paths)
    with scope.database.begin() as connection:
        home = cursors.get(connection, sync=scope.name, name=_HOME).get("realm")
    wanted = mapped and not scope.sync.default_country and home != realm
    if not wanted and names.knows_company(scope, realm=realm):
        return
    try:
        company = client.company()
    except ConnectorError as error:
        if wanted:
            raise
        log.warning("company_name_not_read", sync=scope.name, error=type(error).__name__)
        return
    names.store_company(scope, realm=realm, name=company.name)
    if wanted:
        with scope.database.begin() as connection:
            value = {"realm": realm, "country": country_code(company.country) or ""}
            cursors.put(connection, sync=scope.name, name=_HOME, value=value)


def target(scope: Scope, connection: Connection) -> Target:
    """Return what values must fit, as last learned."""
    known = cursors.get(connection, sync=scope.name, name=_FIELDS)
    home = cursors.get(connection, sync=scope.name, name=_HOME)
    return Target(
        fields={each["tag"]: msgspec.convert(each, MergeField) for each in known.get("fields", ())},
        home=scope.sync.default_country or home.get("country", ""),
        groups=groups_by_name(scope, connection),
    )


def staged_by(scope: Scope, connection: Connection) -> list[Any]:
    """Return what of the target customers are staged by; empty if nothing is known of it."""
    known = target(scope, connection)
    fields = [_stored(each) for each in known.fields.values()]
    staged = [fields, known.home] if fields or known.home else []
    return [*staged, known.groups] if known.groups else staged


def _stored(field: MergeField) -> dict[str, Any]:
    return {**msgspec.to_builtins(field), "choices": list(field.choices)}


def _key(sync: Sync) -> list[str]:
    return [sync.audience_id, *sorted(sync.fields)]
