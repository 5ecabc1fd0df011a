"""Intuit's OAuth 2.0 tokens: codes, access tokens, and refresh tokens that rotate.

A *family* is what one consent gave: the refresh tokens that follow one another and every access
token they brought. Facts: Intuit's oauth-setup prompt template (rotation about every 24 h, the old
value dies, concurrent refreshes may revoke); policy of Nov 2025 (hard expiry after five years).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from sandbox.clock import Clock
from sandbox.memory import Remembered
from sandbox.quickbooks.settings import Settings

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - the mock server's published credentials
FIRST_REFRESH_TOKEN = "sandbox-refresh-token"  # noqa: S105 - likewise

ROLLING_SECONDS = 8726400
HARD_SECONDS = 5 * 365 * 86400
CODE_SECONDS = 600


class InvalidGrantError(Exception):
    """The code or refresh token is not, or no longer, good. Terminal."""


@dataclass
class Family(Remembered):
    """One consent's tokens."""

    refresh_token: str
    issued_at: float
    consented_at: float
    revoked: bool = False
    refreshes_under_way: int = 0
    replaced_at: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Grant:
    """The response to a token call."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    hard_expires_in: int


@dataclass
class _Code(Remembered):
    redirect_uri: str
    issued_at: float
    family: Family | None = None


class Tokens:
    """Every token of the mock server's one client app and one company."""

    def __init__(self, clock: Clock, settings: Callable[[], Settings]) -> None:
        self._clock = clock
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Go back to the start: one refresh token, no access token."""
        now = self._clock.now()
        first = Family(FIRST_REFRESH_TOKEN, issued_at=now, consented_at=now)
        self._families = {FIRST_REFRESH_TOKEN: first}
        self._access: dict[str, tuple[Family, float]] = {}
        self._codes: dict[str, _Code] = {}

    def new_code(self, redirect_uri: str) -> str:
        """Return an authorization code, good once and for ten minutes."""
        code = f"AB1{secrets.token_hex(20)}"
        self._codes[code] = _Code(redirect_uri, self._clock.now())
        return code

    def exchange(self, code: str, redirect_uri: str) -> Grant:
        """Turn a code into tokens. A code used twice takes the tokens it gave with it."""
        known = self._codes.get(code)
        if known is None:
            raise InvalidGrantError("Token invalid")
        if known.family is not None:
            known.family.revoked = True
            raise InvalidGrantError("Token invalid")
        now = self._clock.now()
        if known.redirect_uri != redirect_uri or now > known.issued_at + CODE_SECONDS:
            raise InvalidGrantError("Token invalid")
        family = Family(_new_refresh_token(), issued_at=now, consented_at=now)
        known.family = family
        self._families[family.refresh_token] = family
        return self._grant(family)

    def begin_refresh(self, refresh_token: str) -> Family | None:
        """Note that a refresh is under way; two at once may revoke the family (a setting)."""
        family = self._families.get(refresh_token)
        if family is not None:
            family.refreshes_under_way += 1
            if family.refreshes_under_way > 1 and self._settings().revoke_on_concurrent:
                family.revoked = True
        return family

    def refresh(self, refresh_token: str) -> Grant:
        """Redeem a refresh token, by the rotation and grace that the settings say.

        Raises:
            InvalidGrantError: it is unknown, replaced, revoked or expired.
        """
        family = self._families.get(refresh_token)
        now = self._clock.now()
        if family is None or family.revoked or self._is_expired(family, now):
            raise InvalidGrantError("Incorrect or invalid refresh token")
        settings = self._settings()
        if refresh_token != family.refresh_token:
            if now > family.replaced_at[refresh_token] + settings.grace_seconds:
                family.revoked = settings.reuse_revokes_family
                raise InvalidGrantError("Incorrect or invalid refresh token")
        elif now - family.issued_at >= settings.rotate_after_seconds:
            family.replaced_at[refresh_token] = now
            family.refresh_token = _new_refresh_token()
            family.issued_at = now
            self._families[family.refresh_token] = family
        return self._grant(family)

    def revoke(self, token: str) -> bool:
        """Revoke the consent behind a refresh or access token; say whether it was known."""
        family = self._families.get(token)
        if family is None and token in self._access:
            family = self._access[token][0]
        if family is None:
            return False
        family.revoked = True
        return True

    def revoke_all(self) -> None:
        """Revoke every consent, as a user who disconnects the app does."""
        for family in self._families.values():
            family.revoked = True

    def expire_access(self) -> None:
        """Let every access token die now; refresh tokens live on."""
        self._access = {token: (family, 0.0) for token, (family, _) in self._access.items()}

    def is_access_token(self, token: str) -> bool:
        """Say whether an access token is good now."""
        family, expires_at = self._access.get(token, (None, 0.0))
        return family is not None and not family.revoked and self._clock.now() < expires_at

    def state(self) -> dict[str, object]:
        """Describe the tokens for ``GET /_sandbox/tokens``."""
        families = {id(family): family for family in self._families.values()}
        return {
            "families": [
                {
                    "refresh_token": family.refresh_token,
                    "replaced": list(family.replaced_at),
                    "revoked": family.revoked,
                }
                for family in families.values()
            ],
            "live_access_tokens": sum(map(self.is_access_token, self._access)),
        }

    def _is_expired(self, family: Family, now: float) -> bool:
        return now > family.issued_at + ROLLING_SECONDS or now > family.consented_at + HARD_SECONDS

    def _grant(self, family: Family) -> Grant:
        now = self._clock.now()
        seconds = self._settings().access_token_seconds
        access_token = f"eyJ{secrets.token_urlsafe(48)}"
        self._access[access_token] = (family, now + seconds)
        return Grant(
            access_token=access_token,
            expires_in=seconds,
            refresh_token=family.refresh_token,
            refresh_expires_in=int(family.issued_at + ROLLING_SECONDS - now),
            hard_expires_in=int(family.consented_at + HARD_SECONDS - now),
        )


def _new_refresh_token() -> str:
    return f"RT1-{secrets.token_hex(24)}"
