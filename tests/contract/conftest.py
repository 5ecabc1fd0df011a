"""A fresh sandbox for every test, served over real HTTP from a thread of the test process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import requests

from sandbox.control import ASGIApp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread

REALM = "9341450000000001"
CLIENT = ("sandbox-client", "sandbox-secret")
TOKEN_PATH = "/oauth2/v1/tokens/bearer"


@dataclass(frozen=True)
class Control:
    """The control API of a running mock server: ``control.put("settings", rotate="always")``."""

    url: str

    def get(self, path: str, /, **params: str | int) -> dict:
        return self._checked(requests.get(f"{self.url}/_sandbox/{path}", params=params, timeout=10))

    def post(self, path: str, **body: object) -> dict:
        return self._checked(requests.post(f"{self.url}/_sandbox/{path}", json=body, timeout=30))

    def put(self, path: str, **body: object) -> dict:
        return self._checked(requests.put(f"{self.url}/_sandbox/{path}", json=body, timeout=10))

    def patch(self, path: str, **body: object) -> dict:
        return self._checked(requests.patch(f"{self.url}/_sandbox/{path}", json=body, timeout=10))

    def delete(self, path: str) -> dict:
        return self._checked(requests.delete(f"{self.url}/_sandbox/{path}", timeout=10))

    @staticmethod
    def _checked(response: requests.Response) -> dict:
        assert response.ok, f"{response.request.method} {response.url}: {response.text}"
        return response.json()


@dataclass(frozen=True)
class QuickBooksSandbox:
    """A running QuickBooks mock server and a client without any manners: plain requests."""

    url: str
    session: requests.Session

    @property
    def control(self) -> Control:
        return Control(self.url)

    @property
    def company_url(self) -> str:
        return f"{self.url}/v3/company/{REALM}"

    @property
    def discovery_url(self) -> str:
        return f"{self.url}/.well-known/openid_configuration/"

    def refresh(self, token: str = "sandbox-refresh-token", **headers: str) -> requests.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return requests.post(
            self.url + TOKEN_PATH, data=form, auth=CLIENT, headers=headers, timeout=10
        )

    def query(self, statement: str, **params: str) -> requests.Response:
        return self.session.post(
            f"{self.company_url}/query",
            params=params,
            data=statement.encode(),
            headers={"Content-Type": "application/text"},
            timeout=10,
        )

    def get(self, path: str, /, **params: str) -> requests.Response:
        return self.session.get(f"{self.company_url}/{path}", params=params, timeout=10)

    def post(self, path: str, body: object, **params: str) -> requests.Response:
        return self.session.post(f"{self.company_url}/{path}", json=body, params=params, timeout=10)


@pytest.fixture
def serve() -> Iterator[Callable[[ASGIApp], str]]:
    """Serve an ASGI app on a free port until the test ends; returns its base URL."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving_in_thread({"app": app}))["app"]


@pytest.fixture(scope="session")
def _quickbooks_server() -> Iterator[str]:
    with serving_in_thread({"quickbooks": create_quickbooks()}) as urls:
        yield urls["quickbooks"]


@pytest.fixture
def quickbooks(_quickbooks_server: str) -> Iterator[QuickBooksSandbox]:
    """A QuickBooks mock server with the sample company, reset before the test, with a good token."""
    Control(_quickbooks_server).post("reset")
    with requests.Session() as session:
        sandbox = QuickBooksSandbox(_quickbooks_server, session)
        access_token = sandbox.refresh().json()["access_token"]
        session.headers["Authorization"] = f"Bearer {access_token}"
        session.headers["Accept"] = "application/json"
        sandbox.control.delete("journal")
        yield sandbox
