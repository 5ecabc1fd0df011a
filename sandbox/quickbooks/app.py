"""The QuickBooks half of the sandbox, put together."""

import re
import time

from starlette.applications import Starlette
from starlette.routing import Route

from sandbox.control import Conventions, Instrumented
from sandbox.journal import Journal
from sandbox.quickbooks import batch
from sandbox.quickbooks.api import Api
from sandbox.quickbooks.bookkeeper_desk import Desk
from sandbox.quickbooks.controls import Controls
from sandbox.quickbooks.limits import Limits
from sandbox.quickbooks.oauth import REVOKE_PATH, TOKEN_PATH, OAuth
from sandbox.quickbooks.state import REALM, Choice, State
from sandbox.quickbooks.webhook_controls import WebhookControls
from sandbox.quickbooks.webhook_sender import Sender


class QuickBooksSandbox(Instrumented):
    """The mock server, with the sample company, an ``empty`` one, or a number of customers."""

    def __init__(self, company: str, realm: str) -> None:
        self.state = state = State(start=_choice(company), realm=realm)
        journal = Journal()
        self._limits = Limits(time.monotonic, lambda: journal.in_flight)
        api, oauth, controls = Api(state, self._limits), OAuth(state), Controls(state)
        desk = Desk(state.company)
        state.listeners.append(desk.clear)
        self._sender = Sender(state.clock, state.realm)
        state.company.listeners.append(self._sender.listen)
        routes = [
            *oauth.routes(),
            Route(
                "/v3/company/{realm}/{rest:path}",
                api.handle,
                methods=["GET", "POST", "PUT", "DELETE"],
            ),
        ]
        super().__init__(
            Starlette(routes=routes),
            conventions=Conventions(template=_template, is_write=_is_write, is_token=_is_token),
            journal=journal,
            clock=state.clock,
            routes=[*controls.routes(), *desk.routes(), *WebhookControls(self._sender).routes()],
            on_reset=self._forget,
            remembers=[state.clock, state, state.company, state.attachables, state.tokens],
        )

    def _forget(self) -> None:
        self.state.reset()
        self._limits.clear()
        self._sender.end()


def create_app(*, company: str = "sample", realm: str = REALM) -> QuickBooksSandbox:
    """Build the mock server."""
    return QuickBooksSandbox(company, realm)


def _choice(company: str) -> Choice:
    if company == "sample":
        return Choice(sample=True)
    return Choice(customers=0 if company == "empty" else int(company))


def _template(path: str) -> str:
    path = re.sub(r"^/v3/company/[^/]+", "/v3/company/{realm}", path)
    return re.sub(r"/(customer|attachable|companyinfo)/[^/]+$", r"/\1/{id}", path)


def _is_token(path: str) -> bool:
    return path in {TOKEN_PATH, REVOKE_PATH}


def _is_write(method: str, path: str, body: bytes) -> bool:
    if method == "GET" or _is_token(path) or path.endswith("/query"):
        return False
    return not (path.endswith("/batch") and batch.is_read_only(body))
