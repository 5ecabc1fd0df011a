"""Keys that verify webhooks, refreshed from their source from time to time."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from ml_connector.errors import ConnectorError, Unavailable

log = structlog.get_logger(__name__)

REFRESH_AFTER = 60.0
"""Seconds after which keys are refreshed in the background."""

MIN_REFRESH_INTERVAL = 3.0
"""Seconds: the shortest interval between refreshes caused by unverified senders."""

LOAD_TIMEOUT = 2.0
"""Seconds a delivery waits for keys. QuickBooks wants a response within 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailchimpKey:
    """Keys of a sync's deliveries.

    ``signing_secrets``: if there are any, a delivery must be signed with one of them.
    """

    audience_id: str
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    signing_secrets: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """All active keys.

    Attributes:
        quickbooks: Verifier token to the realms it is valid for.
        mailchimp: Keys by sync.
        fixes: Which setting to change, by system or sync, if a key is missing.
    """

    quickbooks: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    mailchimp: Mapping[str, MailchimpKey] = field(default_factory=dict)
    fixes: Mapping[str, str] = field(default_factory=dict)


class Keyring:
    """Cache of keys. ``load`` may block, so it runs in a thread, one call at a time."""

    def __init__(
        self, load: Callable[[], Keys], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load, self._clock = load, clock
        self._keys: Keys | None = None
        self._tried_at = float("-inf")
        self._reading: asyncio.Task[Keys] | None = None

    async def current(self) -> Keys:
        """Return the keys. Raises ``ConnectorError`` if they could never be read.

        Old keys are better than none: they stay in use during a refresh and after a failed one.
        """
        if self._keys is None:
            return await self._soon()
        if self._clock() - self._tried_at > REFRESH_AFTER:
            self._read()
        return self._keys

    async def newer(self) -> Keys | None:
        """Return freshly read keys for a sender that the cached ones do not verify.

        Returns None if the last read is less than ``MIN_REFRESH_INTERVAL`` seconds old, or if the read fails.
        """
        if self._reading is None and self._clock() - self._tried_at < MIN_REFRESH_INTERVAL:
            return None
        try:
            return await self._soon()
        except ConnectorError:
            return None

    async def _soon(self) -> Keys:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT):
                return await asyncio.shield(self._read())
        except TimeoutError:
            raise Unavailable("the webhooks' keys cannot be read at the moment") from None

    def _read(self) -> asyncio.Task[Keys]:
        if self._reading is None:
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(asyncio.to_thread(self._load))
            self._reading.add_done_callback(self._took)
        return self._reading

    def _took(self, task: asyncio.Task[Keys]) -> None:
        self._reading = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("webhook_keys_not_read", error=str(error))
        elif not task.cancelled():
            self._keys = task.result()
