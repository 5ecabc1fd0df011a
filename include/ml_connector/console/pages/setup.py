"""Setup page: how the sync is connected, whether both systems respond, and the active settings."""

import hmac
import secrets
from collections.abc import Callable, Sequence

from starlette.responses import Response

from ml_connector.console.outside import StatusLine
from ml_connector.console.visit import PageRequest
from ml_connector.errors import ConnectorError
from ml_connector.quickbooks.authorize import Consent

COOKIE = "ml_connector_consent"
"""This cookie holds the state of a pending consent."""
STATE_SECONDS = 900
"""Seconds from the Connect button to the response of Intuit's page."""

RETURN = "/setup/connected"
"""The path below the sync to which Intuit redirects."""


def setup(visit: PageRequest) -> Response:
    """Show the page. It makes no call until the user asks for one."""
    outside = visit.services.outside
    return visit.page(
        "setup.html",
        connections=_tried(lambda: outside.connections(visit.sync)),
        webhooks=_tried(lambda: outside.webhooks(visit.sync, _base(visit))),
        redirect=_redirect(visit),
    )


def ping(visit: PageRequest) -> Response:
    """Call one of the systems and show which company or account responded."""
    system = visit.path["system"]
    if system not in ("quickbooks", "mailchimp"):
        return visit.page("notice.html", status=404, ok=False, said="There is no such system.")
    try:
        return visit.page(
            "notice.html", ok=True, said=visit.services.outside.ping(visit.sync, system)
        )
    except ConnectorError as error:
        return visit.page("notice.html", ok=False, said=str(error))


def audience(visit: PageRequest) -> Response:
    """Read the audience and its merge fields, and show whether they match the settings."""
    found = _tried(lambda: visit.services.outside.audience(visit.sync))
    return visit.page("standings.html", standings=found)


def connect(visit: PageRequest) -> Response:
    """Offer Intuit's consent page. Its response must bring back the state in our cookie."""
    state = secrets.token_urlsafe(32)
    try:
        page = visit.services.outside.consent_page(
            visit.sync.quickbooks_conn_id, redirect_uri=_redirect(visit), state=state
        )
    except ConnectorError as error:
        return visit.page("notice.html", ok=False, said=str(error))
    answer = visit.page("consent.html", consent=page)
    answer.set_cookie(
        COOKIE,
        state,
        max_age=STATE_SECONDS,
        path=f"{visit.here}/setup",
        httponly=True,
        samesite="lax",  # Intuit redirects from another site
        secure=_base(visit).startswith("https"),
    )
    return answer


def connected(visit: PageRequest) -> Response:
    """Receive the redirect from Intuit. Nothing is stored until the user confirms by POST."""
    query = visit.query
    if not _ours(visit, query.get("state", "")):
        said = "This is not the answer we are waiting for. Start again under Setup."
        return visit.page("message.html", status=400, title="Not connected", said=said)
    if query.get("error"):
        said = "Access was declined on Intuit's page. Nothing was changed."
        return visit.page("message.html", status=400, title="Not connected", said=said)
    realm = query.get("realmId", "")
    if not query.get("code") or not realm.isdecimal():
        said = "Intuit sent no code or company number. Start again under Setup."
        return visit.page("message.html", status=400, title="Not connected", said=said)
    return visit.page("connected.html", code=query["code"], state=query["state"], realm=realm)


def finish_connect(visit: PageRequest) -> Response:
    """Exchange the code, store the tokens, and show which company is connected."""
    form = visit.form
    if not _ours(visit, form.get("state", "")) or not form.get("realm", "").isdecimal():
        said = "This took too long, or came from elsewhere. Start again under Setup."
        return visit.page("notice.html", ok=False, said=said)
    consent = Consent(code=form.get("code", ""), realm_id=form["realm"])
    try:
        company = visit.services.outside.connect(
            visit.sync.quickbooks_conn_id, consent, redirect_uri=_redirect(visit)
        )
    except ConnectorError as error:
        return visit.page("notice.html", ok=False, said=str(error))
    answer = visit.page("notice.html", ok=True, said=f"Connected to the company {company}.")
    answer.delete_cookie(COOKIE, path=f"{visit.here}/setup")
    return answer


def _ours(visit: PageRequest, state: str) -> bool:
    kept = visit.request.cookies.get(COOKIE, "")
    return bool(kept) and hmac.compare_digest(kept.encode(), state.encode())


def _base(visit: PageRequest) -> str:
    return visit.services.outside.base_url() or str(visit.request.base_url).rstrip(
        "/"
    ).removesuffix(visit.root)


def _redirect(visit: PageRequest) -> str:
    return f"{_base(visit)}{visit.here}{RETURN}"


def _tried(read: Callable[[], Sequence[StatusLine]]) -> list[StatusLine]:
    try:
        return list(read())
    except ConnectorError as error:
        return [StatusLine(name="", said=str(error), ok=False)]
