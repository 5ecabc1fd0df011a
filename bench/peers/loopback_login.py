"""The app's id and secret in the header of token calls, where the sandbox (and Intuit's guide) expect them.

Both readers send them in the body only, which the sandbox refuses.
"""

import requests


def install(token_url: str, login: tuple[str, str]) -> None:
    """Sign every ``requests`` call to ``token_url`` with HTTP Basic."""
    prepare = requests.Session.prepare_request

    def signed(self: requests.Session, request: requests.Request) -> requests.PreparedRequest:
        if request.url == token_url:
            request.auth = login
        return prepare(self, request)

    requests.Session.prepare_request = signed
