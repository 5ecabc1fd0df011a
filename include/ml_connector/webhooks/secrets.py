"""Secrets that a Mailchimp delivery must present: a sync's current webhook and the previous one."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol, Self

OVERLAP = timedelta(hours=2)
"""Deliveries of a previous webhook are accepted this long. Mailchimp retries for 75 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSecrets:
    """Secrets of our webhook; ``""`` means none. The former ones are valid until ``until``."""

    secret: str = field(default="", repr=False)
    signing_secret: str = field(default="", repr=False)
    former_secret: str = field(default="", repr=False)
    former_signing_secret: str = field(default="", repr=False)
    until: str = ""

    def replaced(self, *, secret: str, now: datetime) -> Self:
        """Return the secrets of a new webhook, with these as the former ones."""
        return replace(
            self,
            secret=secret,
            signing_secret="",
            former_secret=self.secret,
            former_signing_secret=self.signing_secret,
            until=(now + OVERLAP).isoformat(timespec="seconds"),
        )

    def secrets(self, now: datetime) -> set[str]:
        """Return the active secrets."""
        return {self.secret, self._former(self.former_secret, now)} - {""}

    def signing_secrets(self, now: datetime) -> set[str]:
        """Return the active signing secrets."""
        return {self.signing_secret, self._former(self.former_signing_secret, now)} - {""}

    def _former(self, value: str, now: datetime) -> str:
        return value if self.until and now < datetime.fromisoformat(self.until) else ""


class SecretsKeeper(Protocol):
    """Storage for the secrets of one sync's webhook."""

    def load(self) -> WebhookSecrets:
        """Return the secrets; empty ones if none are stored."""

    def save(self, secrets: WebhookSecrets) -> None:
        """Store the secrets; they are committed on return."""

    def delete(self) -> None:
        """Delete the secrets."""
