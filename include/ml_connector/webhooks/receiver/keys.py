"""The keys that prove a webhook genuine, read anew now and then from wherever they are kept."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from ml_connector.errors import ConnectorError, Unavailable

log = structlog.get_logger(__name__)

FRESH = 60.0
"""Seconds after which keys are read again in the background."""

AGAIN = 3.0
"""Seconds: no sooner are they read again because a sender could not be proven."""

LONGEST = 2.0
"""Seconds that a delivery waits for keys; QuickBooks wants its answer in 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailchimpKey:
    """What a sync's deliveries have to show: a secret, and a signature if there are such keys."""

    audience_id: str
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    signing_secrets: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """All keys in force.

    Attributes:
        quickbooks: Verifier token to the realms it speaks for.
        mailchimp: By sync.
        mends: What to set, by system or sync, where a key is missing.
    """

    quickbooks: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    mailchimp: Mapping[str, MailchimpKey] = field(default_factory=dict)
    mends: Mapping[str, str] = field(default_factory=dict)


class Keyring:
    """Hands out keys; ``load`` may block, so it runs in a thread, one at a time."""

    def __init__(
        self, load: Callable[[], Keys], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load, self._clock = load, clock
        self._keys: Keys | None = None
        self._tried_at = float("-inf")
        self._reading: asyncio.Task[Keys] | None = None

    async def current(self) -> Keys:
        """Return the keys; raise ``ConnectorError`` if they could never be read.

        Old keys are better than none: they serve on while new ones are read, or cannot be.
        """
        if self._keys is None:
            return await self._soon()
        if self._clock() - self._tried_at > FRESH:
            self._read()
        return self._keys

    async def newer(self) -> Keys | None:
        """Return keys read just now, for a sender that the current ones do not prove.

        None if they were read ``AGAIN`` ago or less, or cannot be read.
        """
        if self._reading is None and self._clock() - self._tried_at < AGAIN:
            return None
        try:
            return await self._soon()
        except ConnectorError:
            return None

    async def _soon(self) -> Keys:
        try:
            async with asyncio.timeout(LONGEST):
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
