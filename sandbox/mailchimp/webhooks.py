"""The webhooks of one audience: what may be registered, and its events."""

import ipaddress
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sandbox.mailchimp import problems
from sandbox.memory import Remembered

EVENTS = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
SOURCES = ("user", "admin", "api")
_SOURCE_OF = {"self": "user", "marketer": "admin", "api": "api"}


@dataclass(eq=False)
class Webhook(Remembered):
    """One registration. Without a `signing_secret` its deliveries are not signed."""

    id: str
    list_id: str
    url: str
    events: dict[str, bool]
    sources: dict[str, bool]
    signing_secret: str = ""

    def wants(self, kind: str, by: str) -> bool:
        """Return whether to report this change by this actor; a bounce has no actor."""
        source = _SOURCE_OF.get(by)
        return self.events[kind] and (source is None or self.sources[source])

    def render(self) -> dict[str, Any]:
        """Render the webhook as the API does; its secret is shown once, at creation."""
        return {
            "id": self.id,
            "url": self.url,
            "events": self.events,
            "sources": self.sources,
            "list_id": self.list_id,
            "signing_enabled": bool(self.signing_secret),
            "_links": [],
        }


def create(list_id: str, body: dict[str, Any], *, signed: bool) -> Webhook:
    """Create a webhook from a checked body.

    What the body leaves out is off: the default is not documented, so no client should rely on one.
    """
    return Webhook(
        secrets.token_hex(5),
        list_id,
        body["url"],
        dict.fromkeys(EVENTS, False) | body.get("events", {}),
        dict.fromkeys(SOURCES, False) | body.get("sources", {}),
        secrets.token_hex(32) if signed else "",
    )


def check(body: dict[str, Any], *, url_required: bool) -> None:
    """Refuse a body that is malformed, or whose address is not on this machine.

    Raises:
        ProblemError: 400, with one entry in `errors` per field.
    """
    errors = []
    if "url" in body or url_required:
        message = _wrong_url(body.get("url"))
        if message:
            errors.append({"field": "url", "message": message})
    for name, known in (("events", EVENTS), ("sources", SOURCES)):
        given = body.get(name, {})
        if not isinstance(given, dict):
            errors.append({"field": name, "message": "Schema describes object"})
            continue
        errors += [
            {"field": f"{name}.{key}", "message": "Schema describes boolean"}
            for key, value in given.items()
            if key not in known or not isinstance(value, bool)
        ]
    if errors:
        raise problems.schema(errors)


def _wrong_url(url: Any) -> str:
    if not isinstance(url, str) or not url:
        return "This value should not be blank."
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "This value is not a valid URL."
    if parts.scheme != "http" or not _is_loopback(host):
        return "The sandbox sends to http:// addresses of this machine only (127.0.0.1, localhost)"
    return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
