"""Manage QuickBooks' access tokens: redeem one at a time, store before use.

Intuit replaces the refresh token about once a day and lets the old one expire. Two concurrent
redemptions can end the grant. One lock therefore serialises them. Under the lock the holder reads
the stored pair again, and stores the new pair before it releases the lock.

https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/oauth-2.0
"""

import base64
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec
import structlog

from ml_connector.display import counted
from ml_connector.errors import (
    CredentialsError,
    NeedsReauth,
    RateLimited,
    SettingsError,
    Unavailable,
)
from ml_connector.quickbooks.protocol import THROTTLE_WAIT
from ml_connector.quickbooks.statements import parse_time
from ml_connector.wire.formats import decode_document, retry_after
from ml_connector.wire.transport import Request, Response, Transport

TOKEN_URL = "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer"  # noqa: S105 (an address)
RENEW_BEFORE = timedelta(minutes=5)
RECONNECT = "run `ml-connector connect quickbooks` to connect QuickBooks again"
REFUSED = "QuickBooks no longer accepts the refresh token (invalid_grant)"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """A grant as stored. Times are aware UTC; None if QuickBooks did not send them.

    ``previous_refresh_token`` precedes the last rotation: a last resort after a lost response.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    hard_expires_at: datetime | None = None
    rotated_at: datetime | None = None
    previous_refresh_token: str | None = field(default=None, repr=False)

    def fresh(self, now: datetime) -> bool:
        """Return whether the access token has 5 minutes left, or a quarter of a shorter lifetime.

        A token without a known expiry counts as fresh: QuickBooks responds 401 if it is not. A
        missing access token (a newly entered refresh token) is not fresh.
        """
        if not self.access_token:
            return False
        if self.expires_at is None:
            return True
        margin = RENEW_BEFORE
        if self.rotated_at is not None:
            margin = min(margin, (self.expires_at - self.rotated_at) / 4)
        return self.expires_at - now > margin

    def to_json(self) -> str:
        """Return the stored form; times are RFC 3339 in UTC, unknown ones are omitted."""
        values = {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "previous_refresh_token": self.previous_refresh_token,
            **{name: _shown(getattr(self, name)) for name in _TIMES},
        }
        known = {name: value for name, value in values.items() if value is not None}
        return msgspec.json.encode(known).decode()

    @classmethod
    def from_json(cls, text: str, *, place: str = "the stored QuickBooks token") -> "TokenPair":
        """Read the stored form.

        Raises ``CredentialsError``, naming ``place``, if it is invalid.
        """
        try:
            values = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            values = None
        if not isinstance(values, dict):
            raise CredentialsError(
                f"{place} is not a JSON object; restore it from its last good value, or {RECONNECT}"
            )
        previous = values.get("previous_refresh_token")
        return cls(
            access_token=str(values.get("access_token") or "").strip(),
            refresh_token=_token(values, "refresh_token", place),
            expires_at=_time(values, "expires_at", place),
            refresh_expires_at=_time(values, "refresh_expires_at", place),
            hard_expires_at=_time(values, "hard_expires_at", place),
            rotated_at=_time(values, "rotated_at", place),
            previous_refresh_token=previous if isinstance(previous, str) else None,
        )


_TIMES = ("expires_at", "refresh_expires_at", "hard_expires_at", "rotated_at")


def _shown(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None


def _token(values: dict[str, Any], name: str, place: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise CredentialsError(f"{place} has no {name}; put it back, or {RECONNECT}")
    return value.strip()


def _time(values: dict[str, Any], name: str, place: str) -> datetime | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    try:
        return parse_time(value)
    except (TypeError, ValueError):
        raise CredentialsError(
            f"{place}: {name} is not a time like 2026-10-01T08:00:00Z; correct it or remove it"
        ) from None


def token_request(
    token_url: str, client_id: str, client_secret: str, form: dict[str, str]
) -> Request:
    """Return one call to the token endpoint; it also requests the grant's hard expiry."""
    basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
    return Request(
        method="POST",
        url=token_url,
        headers={
            "Authorization": f"Basic {basic}",
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "x-include-refresh-token-hard-expires-in": "true",
        },
        body=urlencode(form).encode(),
    )


def read_token(response: Response, now: datetime) -> TokenPair:
    """Return the pair of a token endpoint's response, or raise the error it means."""
    request_id = response.headers.get("intuit_tid")
    document = decode_document(response.body) or {}
    error = str(document.get("error") or "")
    access, refresh = document.get("access_token"), document.get("refresh_token")
    if response.status == 200 and isinstance(access, str) and isinstance(refresh, str):
        return TokenPair(
            access_token=access,
            refresh_token=refresh,
            expires_at=_end(document, "expires_in", now),
            refresh_expires_at=_end(document, "x_refresh_token_expires_in", now),
            hard_expires_at=_end(document, "x_refresh_token_hard_expires_in", now),
            rotated_at=now,
        )
    if error == "invalid_grant":
        raise NeedsReauth(
            f"{REFUSED}; {RECONNECT}",
            request_id=request_id,
        )
    if error in {"invalid_client", "unauthorized_client"} or response.status in {401, 403}:
        raise CredentialsError(
            "QuickBooks: client id or client secret is wrong; copy both from the app's keys in the"
            " Intuit developer portal into the connection's login and password",
            request_id=request_id,
        )
    asked = retry_after(response.headers)
    if response.status == 429:
        raise RateLimited(
            "QuickBooks' token endpoint: too many requests (429)",
            request_id=request_id,
            retry_after=THROTTLE_WAIT if asked is None else asked,
        )
    if response.status >= 500 or (response.status == 200 and not error):
        raise Unavailable(
            f"QuickBooks' token endpoint is out of order ({response.status}); the call is repeated by"
            " itself. If that lasts, check token_url in the connection's extra",
            request_id=request_id,
            retry_after=asked,
        )
    raise SettingsError(
        f"QuickBooks' token endpoint refused the call ({response.status}); check token_url in the"
        " connection's extra",
        request_id=request_id,
    )


def _end(document: dict[str, Any], name: str, now: datetime) -> datetime | None:
    seconds = document.get(name)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return now + timedelta(seconds=seconds)


def _compare_clocks(response: Response, now: datetime) -> None:
    """Warn if our clock is far off: tokens then seem to expire too early or too late.

    The connector also refreshes them more often.
    """
    try:
        theirs = parsedate_to_datetime(response.headers["date"])
    except (KeyError, TypeError, ValueError):
        return
    if theirs.tzinfo is not None and abs(now - theirs) > RENEW_BEFORE:
        minutes = round(abs(now - theirs) / timedelta(minutes=1))
        log.warning(
            "clock_wrong",
            minutes=minutes,
            fix=f"this machine's clock is {counted(minutes, 'minute')} {'ahead' if now > theirs else 'behind'};"
            " set it and keep it set (NTP)",
        )


class TokenEndpoint:
    """Redeems refresh tokens: one call each, never retried here.

    The timeout of ``transport`` must be shorter than any wait for the refresh lock.
    """

    def __init__(
        self,
        transport: Transport,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._transport = transport
        self._token_url = token_url or TOKEN_URL
        self._client_id = client_id
        self._client_secret = client_secret
        self._clock = clock

    def redeem(self, refresh_token: str) -> TokenPair:
        """Return a new pair; its refresh token may be the same value or another.

        Raises ``NeedsReauth``, ``CredentialsError``, ``SettingsError`` or ``RetryLater``.
        """
        return self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def exchange(self, code: str, redirect_uri: str) -> TokenPair:
        """Return the first pair for a consent's code; a code works once."""
        return self._ask(
            {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        )

    def mark(self, refresh_token: str) -> str:
        """Return a one-way fingerprint of the token together with this client id and URL."""
        offer = "\n".join((self._token_url, self._client_id, refresh_token))
        return hashlib.sha256(offer.encode()).hexdigest()[:16]

    def _ask(self, form: dict[str, str]) -> TokenPair:
        request = token_request(self._token_url, self._client_id, self._client_secret, form)
        response = self._transport.send(request)
        now = self._clock()
        _compare_clocks(response, now)
        return read_token(response, now)


class TokenStore(Protocol):
    """Storage for the token pair (an Airflow Variable)."""

    def load(self) -> TokenPair:
        """Return the stored pair. Raises ``CredentialsError`` if there is none."""
        ...

    def save(self, token: TokenPair) -> None:
        """Store the pair; return only when it is durable."""
        ...


class RefreshLockHolder(Protocol):
    """Queries and records for the holder of the refresh lock, each durable at once."""

    def refused(self) -> str:
        """Return the mark of the token that was permanently refused; ``""`` if there is none."""
        ...

    def intend(self) -> bool:
        """Record that a redemption is about to be sent.

        Returns True if an earlier one has no recorded end: it may have redeemed the token without
        storing the new pair.
        """
        ...

    def refuse(self, mark: str) -> None:
        """Record that the token with this mark is permanently refused."""
        ...


class RefreshLock(Protocol):
    """The lock that serialises a connection's refreshes across all processes.

    A clean end of the block completes the intent. An exception leaves it open.
    """

    def __call__(self) -> AbstractContextManager[RefreshLockHolder]:
        """Hold the lock."""
        ...


class TokenManager:
    """``AccessTokens`` for one connection."""

    def __init__(
        self,
        *,
        vault: TokenStore,
        lock: RefreshLock,
        endpoint: TokenEndpoint,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._vault = vault
        self._lock = lock
        self._endpoint = endpoint
        self._clock = clock
        self._known: TokenPair | None = None

    def current(self) -> str:
        """Return the access token; refresh it first if it is about to expire.

        Raises ``NeedsReauth``, ``CredentialsError``, ``SettingsError`` or ``RetryLater``.
        """
        token = self._known
        if token is None or not token.fresh(self._clock()):
            token = self._known = self._vault.load()
        if token.fresh(self._clock()):
            return token.access_token
        return self.renewed(token.access_token)

    def renewed(self, rejected: str) -> str:
        """Return another access token than ``rejected``: another process's new one, or our own.

        Raises ``NeedsReauth`` without another call if this same refresh token was refused before.
        """
        return self._renewed_if(
            lambda stored: stored.access_token == rejected or not stored.fresh(self._clock())
        ).access_token

    def refresh(self, *, since: datetime | None = None) -> TokenPair:
        """Refresh, whatever time is left, to keep the refresh token itself alive.

        A pair that was rotated at ``since`` or later is returned unchanged. ``since`` defaults to
        now, so callers that waited for one another make one call.
        """
        begun = since or self._clock()
        return self._renewed_if(
            lambda stored: stored.rotated_at is None or stored.rotated_at < begun
        )

    def _renewed_if(self, needed: Callable[[TokenPair], bool]) -> TokenPair:
        with self._lock() as hold:
            stored = self._vault.load()
            if needed(stored):
                stored = self._redeemed(stored, hold)
                self._vault.save(stored)
        self._known = stored
        return stored

    def _redeemed(self, stored: TokenPair, hold: RefreshLockHolder) -> TokenPair:
        mark = self._endpoint.mark(stored.refresh_token)
        if hold.refused() == mark:
            raise NeedsReauth(f"{REFUSED}; {RECONNECT}")
        outcome_unknown = hold.intend()
        try:
            pair = self._with_last_try(stored, outcome_unknown=outcome_unknown)
        except NeedsReauth:
            hold.refuse(mark)
            raise
        if pair.refresh_token == stored.refresh_token:
            return replace(pair, previous_refresh_token=stored.previous_refresh_token)
        return replace(pair, previous_refresh_token=stored.refresh_token)

    def _with_last_try(self, stored: TokenPair, *, outcome_unknown: bool) -> TokenPair:
        """Redeem the token; after a crash, and only then, also try the previous one, once."""
        try:
            return self._endpoint.redeem(stored.refresh_token)
        except NeedsReauth:
            previous = stored.previous_refresh_token
            if not outcome_unknown or not previous or previous == stored.refresh_token:
                raise
            return self._endpoint.redeem(previous)
