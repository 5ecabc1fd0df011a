"""Switches of the mock server: where the real service differs by account, age or mood."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sandbox.memory import Remembered

BATCH_CONTRACTS = ("current", "status_required")
RETRY_SECONDS = (10.0, 60.0, 300.0, 900.0, 1800.0)


@dataclass
class Settings(Remembered):
    """What may be switched through `PUT /_sandbox/settings`.

    Attributes:
        api_key: the only key that is good; change it to revoke the one in use.
        deny_consent: the user says no on the consent page.
        batch_contract: `current` takes `status_if_new` in a batch subscribe;
            `status_required` is the older contract (3.0.55), which knows `status` only.
        connection_limit: simultaneous requests allowed; 0 switches the limit off.
        refuse_fake_domains: refuse example.com and the like.
        double_optin: sign-ups through a form wait for a confirmation; `subscribed` by the API
            goes past it.
        contact_limit: contacts that the plan allows, archived ones not counted; 0 for any number.
        throttled: addresses that "signed up to a lot of lists very recently".
        stats_cache_seconds: for how long an audience's `stats` are not counted again.
        webhook_signing: webhooks registered from now on are signed, as since 2026.
        webhook_retry_seconds: pauses between the tries of a webhook; after the last one it has
        failed.
        webhook_timeout_seconds: how long a response to a webhook may take.
        webhook_duplicate_every: every nth webhook is sent twice; 0 for none.
        webhook_shuffle: webhooks are held back for up to half a second each, so that they arrive
            out of order.
    """

    api_key: str = "sandbox-key-us99"
    deny_consent: bool = False
    batch_contract: str = "current"
    connection_limit: int = 10
    refuse_fake_domains: bool = True
    double_optin: bool = False
    contact_limit: int = 0
    throttled: list[str] = field(default_factory=list)
    stats_cache_seconds: int = 300
    webhook_signing: bool = True
    webhook_retry_seconds: list[float] = field(default_factory=lambda: list(RETRY_SECONDS))
    webhook_timeout_seconds: float = 10.0
    webhook_duplicate_every: int = 0
    webhook_shuffle: bool = False

    def change(self, values: dict[str, Any]) -> None:
        """Apply the given values.

        Raises:
            ValueError: a name or a value that is not one of the above.
        """
        unknown = set(values) - {each.name for each in fields(self)}
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        if values.get("batch_contract", "current") not in BATCH_CONTRACTS:
            raise ValueError(f"batch_contract is one of {', '.join(BATCH_CONTRACTS)}")
        pauses = values.get("webhook_retry_seconds", [])
        if not isinstance(pauses, list) or any(
            type(each) not in (int, float) or each < 0 for each in pauses
        ):
            raise ValueError("webhook_retry_seconds is a list of seconds")
        for name, value in values.items():
            if type(value) is int and type(getattr(self, name)) is float:
                setattr(self, name, float(value))
                continue
            if type(value) is not type(getattr(self, name)):
                raise ValueError(f"{name} must be a {type(getattr(self, name)).__name__}")
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Return the active settings."""
        return asdict(self)
