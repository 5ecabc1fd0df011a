"""Fixtures for the tests of the Mailchimp mock server; they name this module in `pytest_plugins`."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import mailchimp_marketing
import pytest
import requests
from mailchimp_marketing.api_client import ApiClientError

from sandbox.mailchimp.app import create_app
from sandbox.running import serving_in_thread
from tests.contract.mailchimp_remote import Remote
from tests.contract.npm import NodeMissingError
from tests.contract.prism import Proxy, prism

KEY = "sandbox-key-us99"
LIST = "a1b2c3d4e5"


def official_client(url: str, key: str = KEY) -> Any:
    """Mailchimp's own Python client, pointed at `url`."""
    client = mailchimp_marketing.Client({"api_key": key})
    client.api_client.host = f"{url}/3.0"
    return client


def problem(call: Callable[[], Any]) -> dict[str, Any]:
    """The problem document the call is refused with (the client leaves it unparsed)."""
    with pytest.raises(ApiClientError) as caught:
        call()
    body: dict[str, Any] = json.loads(caught.value.text)
    assert body["status"] == caught.value.status_code
    return body


@pytest.fixture(scope="session")
def mock_server() -> Iterator[Remote]:
    with serving_in_thread({"mailchimp": create_app()}) as urls:
        yield Remote(urls["mailchimp"])


@pytest.fixture
def remote(mock_server: Remote) -> Remote:
    """A fresh mock server, through its control API."""
    mock_server.reset()
    return mock_server


@pytest.fixture
def client(remote: Remote) -> Any:
    return official_client(remote.url)


@pytest.fixture
def lists(client: Any) -> Any:
    return client.lists


@pytest.fixture
def http(remote: Remote) -> Iterator[Callable[..., requests.Response]]:
    """Raw requests to the sample audience, for what the official client cannot send."""
    with requests.Session() as session:
        session.auth = ("anyone", KEY)

        def send(method: str, path: str, **more: Any) -> requests.Response:
            return session.request(method, f"{remote.url}/3.0/lists/{LIST}{path}", **more)

        yield send


@pytest.fixture(scope="session")
def prism_proxy(mock_server: Remote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Prism in front of the mock server; skips where there is no Node."""
    try:
        with prism(mock_server.url, tmp_path_factory.mktemp("prism") / "log") as proxy:
            yield proxy
    except NodeMissingError as reason:
        pytest.skip(str(reason))
