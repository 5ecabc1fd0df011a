"""Control calls of both mock servers: what people do at the screens of both products."""

import json
from typing import Any
from urllib.parse import quote

import requests

from local.settings import SANDBOX_AUDIENCE, Credentials
from ml_connector.quickbooks.webhooks import signature

TIMEOUT = 120.0  # seconds; thousands of members come in one call


class Servers:
    """Both running mock servers."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._quickbooks = credentials.quickbooks_url
        self._mailchimp = credentials.mailchimp_url.removesuffix("/3.0")
        self._http = requests.Session()
        self._http.trust_env = False

    def quickbooks(self, method: str, path: str, body: object = None) -> Any:
        """Make a control call of the QuickBooks half."""
        return self._call(method, f"{self._quickbooks}/_sandbox/{path}", body)

    def mailchimp(self, method: str, path: str, body: object = None) -> Any:
        """Make a control call of the Mailchimp half."""
        return self._call(method, f"{self._mailchimp}/_sandbox/{path}", body)

    def person(self, email: str, action: str, **given: object) -> Any:
        """Do what a member or a marketer does: ``unsubscribe``, ``profile``, ``archive`` ..."""
        return self.mailchimp("POST", f"members/{quote(email)}/{action}", given)

    def status_of(self, email: str) -> str:
        """Return a member's status; empty if there is none."""
        url = f"{self._mailchimp}/_sandbox/members/{quote(email)}"
        answer = self._http.get(url, timeout=TIMEOUT)
        return str(answer.json()["status"]) if answer.ok else ""

    def begin_webhooks(self, receiver: str) -> None:
        """Report changes in both systems to a receiver, signed as the local run's keys expect."""
        given = self.credentials
        body = {"url": f"{receiver}/quickbooks", "verifier_token": given.verifier_token}
        # Echoes of the connector's own writes would cost minutes and change nothing.
        self.quickbooks("PUT", "webhooks", {**body, "echo_api_writes": False})
        events = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
        registered = {
            "url": f"{receiver}/mailchimp/main?secret={given.webhook_secret}",
            "events": dict.fromkeys(events, True),
            "sources": {"user": True, "admin": True, "api": False},
        }
        self._api("POST", "webhooks", registered)

    def end_webhooks(self) -> None:
        """Stop all webhooks."""
        self.quickbooks("DELETE", "webhooks")
        for each in self._api("GET", "webhooks")["webhooks"]:
            self._api("DELETE", f"webhooks/{each['id']}")

    def deliver_webhooks(self) -> None:
        """Wait until every webhook has been sent."""
        self.quickbooks("POST", "webhooks/flush", {"seconds": TIMEOUT})
        self.mailchimp("POST", "webhooks/flush", {"seconds": TIMEOUT})

    def report_stranger(self, receiver: str) -> None:
        """Report a customer of a company that no sync names, as Intuit does for a shared app."""
        event = {
            "specversion": "1.0",
            "id": "5a2e1f0c",
            "source": "intuit.sandbox",
            "type": "qbo.customer.updated.v1",
            "time": "2026-11-03T15:25:05Z",
            "intuitentityid": "58",
            "intuitaccountid": "9341450000000002",
            "data": {},
        }
        body = json.dumps([event]).encode()
        signed = {"intuit-signature": signature(body, self.credentials.verifier_token).decode()}
        self._http.post(
            f"{receiver}/quickbooks", data=body, headers=signed, timeout=TIMEOUT
        ).raise_for_status()

    def _api(self, method: str, path: str, body: object = None) -> Any:
        url = f"{self.credentials.mailchimp_url}/lists/{SANDBOX_AUDIENCE}/{path}"
        return self._call(method, url, body, auth=("ml-connector", self.credentials.mailchimp_key))

    def _call(
        self, method: str, url: str, body: object, *, auth: tuple[str, str] | None = None
    ) -> Any:
        answer = self._http.request(method, url, json=body, auth=auth, timeout=TIMEOUT)
        if not answer.ok:
            raise requests.HTTPError(f"{method} {url}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if answer.content else None
