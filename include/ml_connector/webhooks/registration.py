"""Register Mailchimp's webhooks, one per sync: create, check, repair, remove, show.

A webhook is ours if its URL without the query is the given endpoint. All other webhooks of the
audience stay unchanged.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.mailchimp.webhooks import secret_in
from ml_connector.scope import Scope
from ml_connector.store import cursors
from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.secrets import SecretsKeeper, WebhookSecrets

EVENTS = dict.fromkeys(
    ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign"), True
)
SOURCES = {"user": True, "admin": True, "api": False}
"""API changes are off. The connector makes those itself, and polling finds other programs'
changes."""

CURSOR = "webhook"
"""The cursor that holds the address a webhook was registered under, and when.

Of a webhook that was registered by hand it holds when it was first seen, and no address.
"""

Hook = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualSecrets:
    """Secrets entered manually in the connection."""

    secrets: Sequence[str] = field(default=(), repr=False)
    signing_secrets: Sequence[str] = field(default=(), repr=False)


class Registration:
    """The webhook of one sync at ``base``. ``keeper`` stores the secrets of webhooks we create.

    Without a ``base`` it is the webhook's present one: enough to check, not to create.
    """

    def __init__(
        self,
        scope: Scope,
        client: MailchimpClient,
        *,
        base: str,
        keeper: SecretsKeeper,
        by_hand: ManualSecrets,
    ) -> None:
        self._scope, self._client, self._keeper, self._by_hand = scope, client, keeper, by_hand
        self._base = base
        self._endpoint = f"{base}{PREFIX}/mailchimp/{scope.name}"

    def ensure(self) -> str:
        """Create or repair the webhook; return the result as text."""
        kept, ours = self._keeper.load(), self._ours()
        right = self._right(kept, ours)
        if not right:
            done = self._create(kept, ours)
        else:
            done = self._repair(right[0])
            done += self._drop(hook for hook in ours if hook is not right[0])
        with self._scope.database.begin() as connection:
            value = {"base": self._base, "at": self._scope.clock().isoformat()}
            cursors.put(connection, sync=self._scope.name, name=CURSOR, value=value)
        return done

    def has_any(self) -> bool:
        """Return whether Mailchimp has a webhook for this sync; remember since when."""
        if not self._ours():
            return False
        with self._scope.database.begin() as connection:
            if not cursors.get(connection, sync=self._scope.name, name=CURSOR).get("at"):
                value = {"at": self._scope.clock().isoformat()}
                cursors.put(connection, sync=self._scope.name, name=CURSOR, value=value)
        return True

    def fault(self) -> str | None:
        """Return what is wrong with the webhook, without any secret; None if nothing is."""
        ours, kept = self._ours(), self._keeper.load()
        if not ours:
            return "Mailchimp has no webhook for this sync: deleted, or disabled after failures"
        right = self._right(kept, ours)
        if not right:
            return (
                "the secret or signature of Mailchimp's webhook is not the one stored here, so the"
                " receiver refuses all it delivers"
            )
        hook = right[0]
        if self._signing_known(kept) and not hook.get("signing_enabled"):
            # A new webhook would be no other: only Mailchimp decides whether it signs.
            return (
                "Mailchimp's webhook is not signed although a signing secret is set, so the"
                " receiver refuses all it delivers"
            )
        if not any(hook.get("events", {}).values()):
            return "Mailchimp's webhook is disabled: it has no events"
        if wanted := _differing(hook):
            return f"Mailchimp's webhook lacks {' and '.join(wanted)} that the connector needs"
        return None

    def _right(self, kept: WebhookSecrets, ours: Sequence[Hook]) -> list[Hook]:
        """Return those of our webhooks whose deliveries are accepted."""
        signing_known = self._signing_known(kept)
        accepted = {kept.secret, *self._by_hand.secrets} - {""}
        return [
            hook
            for hook in ours
            if _secret_in(hook) in accepted
            and (signing_known or not hook.get("signing_enabled"))
            and (not kept.secret or _secret_in(hook) == kept.secret)
        ]

    def _signing_known(self, kept: WebhookSecrets) -> bool:
        return bool(kept.signing_secret or self._by_hand.signing_secrets)

    def remove(self) -> str:
        """Remove the webhook and its secrets; return the result as text."""
        dropped = self._drop(self._ours())
        self._keeper.delete()
        with self._scope.database.begin() as connection:
            cursors.put(connection, sync=self._scope.name, name=CURSOR, value={})
        return f"{self._endpoint}{dropped or ': there is none of ours'}"

    def shown(self) -> Iterator[str]:
        """Yield one line per webhook of the audience, with its secret hidden."""
        for hook in self._client.webhooks():
            events = ", ".join(name for name, on in hook.get("events", {}).items() if on)
            sources = ", ".join(name for name, on in hook.get("sources", {}).items() if on)
            signed = "signed" if hook.get("signing_enabled") else "not signed"
            address = str(hook.get("url", "")).partition("?")[0]
            query = "?..." if "?" in str(hook.get("url", "")) else ""
            yield (
                f"{self._scope.name}: {hook.get('id')} {address}{query} ({signed}; "
                f"events: {events or 'none'}; sources: {sources or 'none'})"
            )

    def _create(self, kept: WebhookSecrets, ours: list[Hook]) -> str:
        """Create a webhook, then delete our previous ones. Deliveries of both count meanwhile."""
        if ours:
            # If our copy is lost, the old webhook's URL still contains its secret.
            kept = replace(kept, secret=kept.secret or _secret_in(ours[0]))
            kept = kept.replaced(secret=secrets.token_urlsafe(32), now=datetime.now(UTC))
        elif not kept.secret:
            kept = replace(
                kept, secret=next(iter(self._by_hand.secrets), secrets.token_urlsafe(32))
            )
        self._keeper.save(kept)  # first: Mailchimp calls the URL while it creates the webhook
        url = f"{self._endpoint}?secret={quote(kept.secret, safe='')}"
        created = self._client.create_webhook({"url": url, "events": EVENTS, "sources": SOURCES})
        signing = str(created.get("signing_secret") or "")
        self._keeper.save(replace(kept, signing_secret=signing))
        self._record("create_webhook", created)
        told = "signed" if signing else "not signed by Mailchimp"
        if not signing and self._by_hand.signing_secrets:
            told += (
                f"; take the webhook signing secret out of the connection "
                f"{self._scope.sync.mailchimp_conn_id}, or every delivery is refused"
            )
        return f"created {self._endpoint}?secret=... ({told}){self._drop(ours)}"

    def _repair(self, hook: Hook) -> str:
        wanted = _differing(hook)
        if not wanted:
            return f"{self._endpoint}?secret=... is as it should be"
        self._record("update_webhook", self._client.update_webhook(hook["id"], wanted), before=hook)
        return f"repaired {' and '.join(wanted)} of {self._endpoint}?secret=..."

    def _drop(self, hooks: Iterable[Hook]) -> str:
        dropped = list(hooks)
        for hook in dropped:
            self._client.delete_webhook(hook["id"])
            self._record("delete_webhook", None, before=hook)
        return f", removed {len(dropped)} of ours" if dropped else ""

    def _ours(self) -> list[Hook]:
        return [
            hook
            for hook in self._client.webhooks()
            if (address := str(hook.get("url", "")).partition("?")[0]) == self._endpoint
            or (not self._base and urlsplit(address).path.endswith(self._endpoint))
        ]

    def _record(self, action: str, after: Hook | None, *, before: Hook | None = None) -> None:
        entry = Entry(
            sync=self._scope.name,
            action=action,
            reason="register_webhooks",
            outcome="applied",
            cause="register_webhooks",
            before=before and _without_secrets(before),
            after=after and _without_secrets(after),
        )
        with self._scope.database.begin() as connection:
            trail.append(connection, [entry], run=self._scope.run, vault=self._scope.vault)


def _differing(hook: Hook) -> dict[str, dict[str, bool]]:
    """Return the settings of a webhook that are not as they should be."""
    return {
        name: settings
        for name, settings in (("events", EVENTS), ("sources", SOURCES))
        if any(hook.get(name, {}).get(key) is not on for key, on in settings.items())
    }


def _secret_in(hook: Hook) -> str:
    return secret_in(str(hook.get("url", "")).partition("?")[2].encode())


def _without_secrets(hook: Hook) -> Hook:
    shown = {name: hook.get(name) for name in ("id", "events", "sources", "signing_enabled")}
    return {**shown, "url": str(hook.get("url", "")).partition("?")[0]}
