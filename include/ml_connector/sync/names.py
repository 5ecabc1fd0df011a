"""Names of the company and of the audience, as their systems show them: read once, then stored."""

from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from ml_connector.errors import ConnectorError
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import cursors

_COMPANY, _AUDIENCE = "company_name", "audience_name"
log = structlog.get_logger(__name__)


class AccountNames(NamedTuple):
    """What people call both ends of a sync; empty if not read yet."""

    company: str
    audience: str


def names_of(sync: Sync, connection: Connection) -> AccountNames:
    """Return the names as last read."""
    company = cursors.get(connection, sync=sync.name, name=_COMPANY)
    audience = cursors.get(connection, sync=sync.name, name=_AUDIENCE)
    known = audience.get("id") == sync.audience_id
    return AccountNames(
        company=str(company.get("name", "")),
        audience=str(audience.get("name", "")) if known else "",
    )


def knows_company(scope: Scope, *, realm: str) -> bool:
    """Return whether the name of this company is stored."""
    with scope.database.begin() as connection:
        return cursors.get(connection, sync=scope.name, name=_COMPANY).get("id") == realm


def store_company(scope: Scope, *, realm: str, name: str) -> None:
    """Store a company's name as just read."""
    _store(scope, _COMPANY, realm, name)


def store_audience(scope: Scope, *, name: str) -> None:
    """Store the audience's name as just read."""
    _store(scope, _AUDIENCE, scope.sync.audience_id, name)


def learn_audience(scope: Scope, client: MailchimpClient) -> None:
    """Read the audience's name, unless it is stored. A name that cannot be read stops no run."""
    with scope.database.begin() as connection:
        known = cursors.get(connection, sync=scope.name, name=_AUDIENCE).get("id")
    if known == scope.sync.audience_id:
        return
    try:
        found = client.audience()
    except ConnectorError as error:
        log.warning("audience_name_not_read", sync=scope.name, error=type(error).__name__)
        return
    store_audience(scope, name=str(found.get("name") or ""))


def _store(scope: Scope, cursor: str, id_: str, name: str) -> None:
    with scope.database.begin() as connection:
        cursors.put(connection, sync=scope.name, name=cursor, value={"id": id_, "name": name})
