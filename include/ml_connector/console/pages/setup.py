"""Setup page: how the sync is connected, whether both systems respond, and the active settings."""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ml_connector.console import words
from ml_connector.console.access import HEADERS
from ml_connector.console.accounts import account_problems, lost_accounts, refused_accounts
from ml_connector.console.checklist import Step, checklist
from ml_connector.console.outside import StatusLine
from ml_connector.console.queries import overview as overview_queries
from ml_connector.console.queries import plans as plan_queries
from ml_connector.console.visit import PageRequest
from ml_connector.errors import ConnectorError
from ml_connector.mailchimp import authorize as mailchimp
from ml_connector.mailchimp.webhooks import SYSTEM as MAILCHIMP
from ml_connector.quickbooks import authorize as quickbooks
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS
from ml_connector.sync import names, targets
from ml_connector.wire.consent import LOOPBACK, new_state

CONSENT_PAGES = {QUICKBOOKS: quickbooks.PAGE, MAILCHIMP: mailchimp.PAGE}
COOKIE = "ml_connector_consent"
"""A cookie of this name, with the system's after it, holds the state of a pending consent."""
STATE_SECONDS = 900
"""Seconds from the Connect button to the response of the consent page."""
HOP = "hop"
"""This parameter marks a redirect that was passed on to the machine's other name."""

RETURN = "/setup/connected"
"""The path below the sync to which Intuit redirects. Mailchimp's ends in ``/mailchimp``."""


def setup(visit: PageRequest) -> Response:
    """Show the page. It makes no call until the user asks for one."""
    outside = visit.services.outside
    with visit.services.database.begin() as connection:
        known = names.names_of(visit.sync, connection)
        fields = targets.field_names(visit.sync, connection)
        new = overview_queries.last_finished(connection, sync=visit.sync.name) is None
    webhooks = _tried(lambda: outside.webhooks(visit.sync, _public(visit)))
    return visit.page(
        "setup.html",
        names=known,
        field_names=fields,
        steps=_steps(visit, known, webhooks) if new else [],
        connections=_connections(visit, new=new),
        webhooks=webhooks,
        redirects={system: _redirect(visit, system) for system in CONSENT_PAGES},
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


def show_samples(visit: PageRequest) -> Response:
    """Show the mapping with a few real customers, before and after a sync."""
    try:
        found = visit.services.outside.sample_contacts(visit.sync)
    except ConnectorError as error:
        return visit.page("notice.html", ok=False, said=str(error))
    return visit.page("samples.html", samples=found)


def connect(visit: PageRequest) -> Response:
    """Redirect to a system's consent page. Its response must bring back the state in our cookie.

    Another site may not start this: the browser says where the request comes from.
    """
    system = visit.path["system"]
    if system not in CONSENT_PAGES:
        return _message(visit, "There is no such system.", status=404)
    if visit.request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return _message(visit, "Press Connect on one of our own pages.", status=403)
    state = new_state()
    try:
        page = visit.services.outside.consent_page(
            system, _conn_id(visit, system), redirect_uri=_redirect(visit, system), state=state
        )
    except ConnectorError as error:
        return _message(visit, str(error))
    answer = RedirectResponse(page, status_code=303, headers=HEADERS)
    answer.set_cookie(
        f"{COOKIE}_{system}",
        state,
        max_age=STATE_SECONDS,
        path=f"{visit.here}/setup",
        httponly=True,
        samesite="lax",  # the system redirects from another site
        secure=_base(visit).startswith("https"),
    )
    return answer


def connected(visit: PageRequest) -> Response:
    """Receive the redirect: exchange the code, store the result, show what is connected."""
    system = visit.path.get("system", QUICKBOOKS)
    if system not in CONSENT_PAGES:
        return _message(visit, "There is no such system.", status=404)
    kept = visit.request.cookies.get(f"{COOKIE}_{system}", "")
    try:
        consent = CONSENT_PAGES[system].read(visit.query, state=kept)
        if consent is None:
            said = "This redirect belongs to no open connection attempt. Connect again under Setup."
            return _message(visit, said)
        name = visit.services.outside.connect(
            system,
            _conn_id(visit, system),
            consent,
            redirect_uri=_redirect(visit, system),
        )
    except ConnectorError as error:
        answer = _message(visit, str(error))
    else:
        what = "company" if system == QUICKBOOKS else "account"
        said = f"Connected to the {what} {name}."
        answer = _message(visit, said, status=200, title=f"{words.SYSTEM[system]} is connected")
    answer.delete_cookie(f"{COOKIE}_{system}", path=f"{visit.here}/setup")
    return answer


def other_loopback(request: Request) -> str | None:
    """Return where a redirect to this machine belongs, if it came under the machine's other name.

    Intuit redirects to ``localhost`` only and Mailchimp to ``127.0.0.1`` only. Login and state are
    cookies of the name that the user came by. A cookie of another state is from an abandoned
    connect.
    """
    host, url = request.url.hostname or "", request.url
    if host not in LOOPBACK or HOP in request.query_params or "state" not in request.query_params:
        return None
    system = request.path_params.get("system", QUICKBOOKS)
    kept, given = request.cookies.get(f"{COOKIE}_{system}", ""), request.query_params["state"]
    if hmac.compare_digest(kept.encode(), given.encode()):
        return None
    other = LOOPBACK[1 - LOOPBACK.index(host)]
    return str(url.include_query_params(**{HOP: "1"}).replace(hostname=other))


def _message(
    visit: PageRequest, said: str, *, status: int = 400, title: str = "Not connected"
) -> Response:
    return visit.page("message.html", status=status, title=title, said=said, back="/setup")


def _conn_id(visit: PageRequest, system: str) -> str:
    sync = visit.sync
    return sync.quickbooks_conn_id if system == QUICKBOOKS else sync.mailchimp_conn_id


def _steps(
    visit: PageRequest, known: names.AccountNames, webhooks: Sequence[StatusLine]
) -> list[Step]:
    problems = {system: words.fault(said) for system, said in account_problems(visit).items()}
    with visit.services.database.begin() as connection:
        lost = lost_accounts(visit, connection)
        asking = plan_queries.waiting_plans(connection, sync=visit.sync.name)
    return checklist(
        visit.sync,
        names=known,
        problems=problems | {system: words.Fault(said, system) for system, said in lost.items()},
        paused=visit.services.outside.paused_dags(visit.sync),
        asking=asking[0].id if asking else None,
        webhooks=all(line.ok for line in webhooks),
    )


def _connections(visit: PageRequest, *, new: bool) -> list[StatusLine]:
    """Return the connections' lines. A refused connection is not shown as good.

    ``new``: before the first run, an account that is not connected yet is no fault.
    """
    lines = _tried(lambda: visit.services.outside.connections(visit.sync))
    read = lost_accounts if new else refused_accounts
    with visit.services.database.begin() as connection:
        refused = read(visit, connection)
    return [
        replace(line, said=refused[line.access], ok=False, fix="")
        if line.access in refused
        else line
        for line in lines
    ]


def _base(visit: PageRequest) -> str:
    return visit.services.outside.base_url() or str(visit.request.base_url).rstrip(
        "/"
    ).removesuffix(visit.root)


def _public(visit: PageRequest) -> str:
    return visit.services.outside.public_url() or _base(visit)


def _redirect(visit: PageRequest, system: str) -> str:
    """Return the redirect address to register with our app at a system."""
    base = CONSENT_PAGES[system].accepted(_public(visit)).removesuffix(visit.airflow)
    return f"{base}{visit.here}{RETURN}{'' if system == QUICKBOOKS else f'/{system}'}"


def _tried(read: Callable[[], Sequence[StatusLine]]) -> list[StatusLine]:
    try:
        return list(read())
    except ConnectorError as error:
        return [StatusLine(name="", said=str(error), ok=False)]
