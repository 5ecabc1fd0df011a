"""Drive a running mock server through its control API."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import requests

TIMEOUT = 120.0


class Remote:
    """The control API of the mock server at `url`, for one audience."""

    def __init__(self, url: str, audience: str = "a1b2c3d4e5") -> None:
        self.url = url
        self.audience = audience
        self._http = requests.Session()

    def reset(self) -> None:
        """Reset to a fresh account: no members, default settings, no faults, empty journal."""
        self._call("POST", "reset")

    def settings(self, **values: Any) -> None:
        """Turn switches, such as `batch_contract="status_required"`."""
        self._call("PUT", "settings", values)

    def clock(self, offset_seconds: float) -> None:
        """Set the clock this far ahead of real time."""
        self._call("PUT", "clock", {"offset_seconds": offset_seconds})

    def fault(self, **rule: Any) -> None:
        """Make calls go wrong; `match` and `action` as the shared faults describe them."""
        self._call("POST", "faults", rule)

    def add_audience(self, list_id: str, merge_fields: Sequence[dict[str, Any]]) -> "Remote":
        """Create an audience with exactly these merge fields, and return its control."""
        self._call("POST", "audiences", {"id": list_id, "merge_fields": list(merge_fields)})
        return Remote(self.url, list_id)

    def summary(self) -> dict[str, Any]:
        """Return members by status and the number of confirmation mails sent."""
        audiences = self._call("GET", "audiences")["audiences"]
        found: dict[str, Any] = next(each for each in audiences if each["id"] == self.audience)
        return found

    def seed(self, email: str, status: str = "subscribed", **more: Any) -> None:
        """Put a member there; `more` is merge_fields, tags, origin or last_changed."""
        self._call("POST", "members", {"email_address": email, "status": status} | more)

    def generate(self, count: int, seed: int = 1) -> None:
        """Put many made-up members there."""
        self._call("POST", "members/generate", {"count": count, "seed": seed})

    def act(self, email: str, action: str, **payload: Any) -> dict[str, Any]:
        """Do as the person or a marketer would, and return the member as it is then."""
        return self._call("POST", f"members/{quote(email)}/{action}", payload)

    def set_groups(self, groups: dict[str, list[str]]) -> dict[str, dict[str, str]]:
        """Replace the groups, names by category; return the names by id."""
        return self._call("PUT", "groups", groups)

    def ask_permissions(self, *texts: str) -> dict[str, str]:
        """Turn GDPR fields on with these permissions; return their texts by id."""
        return self._call("PUT", "permissions", {"permissions": list(texts)})

    def send_campaign(self, **given: Any) -> str:
        """Send a campaign to everyone subscribed, or to `recipients`; returns its id."""
        campaign_id: str = self._call("POST", "campaigns", given)["id"]
        return campaign_id

    def react(self, campaign_id: str, email: str, action: str, **more: Any) -> None:
        """Let a recipient open, click or bounce; `more` is type, url or timestamp."""
        body = {"email_address": email, "action": action} | more
        self._call("POST", f"campaigns/{campaign_id}/activity", body)

    def simulate(self, campaign_id: str, **shares: float) -> dict[str, Any]:
        """Let shares of the recipients react: opens, clicks, soft_bounces, hard_bounces."""
        return self._call("POST", f"campaigns/{campaign_id}/simulate", shares)

    def deliveries(self) -> dict[str, list[dict[str, Any]]]:
        """Webhooks that are `pending` and those that are `done`."""
        return self._call("GET", "webhooks/deliveries")

    def flush(self, seconds: float = 10) -> dict[str, Any]:
        """Wait until no webhook is pending, at most so long; returns how many ended how."""
        return self._call("POST", "webhooks/flush", {"seconds": seconds})

    def member(self, email: str) -> dict[str, Any]:
        """Return one member's full record, archived and forgotten included."""
        return self._call("GET", f"members/{quote(email)}")

    def members(self) -> list[dict[str, Any]]:
        """Return the full records of all members."""
        members: list[dict[str, Any]] = self._call("GET", "members")["members"]
        return members

    def journal(self) -> list[dict[str, Any]]:
        """Return the API calls so far."""
        calls: list[dict[str, Any]] = self._call("GET", "journal")["calls"]
        return calls

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        response = self._http.request(
            method,
            f"{self.url}/_sandbox/{path}",
            json=body,
            params={"audience": self.audience},
            timeout=TIMEOUT,
        )
        if not response.ok:
            raise ValueError(f"{method} {path}: {response.status_code} {response.text}")
        answer: dict[str, Any] = response.json()
        return answer
