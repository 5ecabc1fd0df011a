"""Errors: every failure the connector knows, named by what happens next.

::

    ConnectorError
    ├── StopRun                 nothing further can succeed; manual action is needed
    │   ├── SettingsError       syncs.yaml, environment or a connection is wrong (exit code 2)
    │   ├── CredentialsError    a system refused our credentials, data centre or realm
    │   │   └── NeedsReauth     the QuickBooks grant has ended; connect again
    │   ├── QuotaExhausted      rate limiting or a block that outlasted the retries
    │   ├── AudienceNotReady    audience or merge fields do not match the settings
    │   ├── IncompleteRead      QuickBooks listed fewer customers than it counts
    │   ├── PlanOutdated        data changed while a large plan waited for its approval
    │   ├── ConsentRaised       the consent check saw a status rise; writing stops at once
    │   ├── Tampered            audit rows do not match their seals
    │   └── StorageError        database or disk cannot store what must not be lost
    ├── RetryLater              the same call may succeed later; every such call is idempotent
    │   ├── RateLimited         429, or an edge block; ``retry_after`` seconds if the vendor sent it
    │   ├── Unavailable         5xx, HTML instead of JSON, refused connection
    │   └── AnswerLost          time-out or broken connection: the call may have been applied
    ├── TokenExpired            401 from QuickBooks: refresh once, retry once
    └── RecordRefused           this record alone is refused; the others continue
        ├── StaleObject         QuickBooks 5010: read, re-apply, write again
        └── CallRefused         an entire batch was refused (400): bisect it down to one row

Only ``*/protocol.py`` creates these from HTTP responses. Only ``ml_connector_airflow/retries.py``
turns them into Airflow's retry decisions. Messages never contain secrets or addresses.
"""


class ConnectorError(Exception):
    """Base of all errors. ``request_id`` is the vendor's (``intuit_tid``, ``X-Request-Id``)."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


class StopRun(ConnectorError):
    """Nothing further can succeed in this run. The message says what to change."""


class SettingsError(StopRun):
    """A setting is missing or wrong. The message names the key, the place and the fix."""


class CredentialsError(StopRun):
    """A system refused our credentials."""


class NeedsReauth(CredentialsError):
    """QuickBooks no longer accepts the refresh token. Connect again."""


class QuotaExhausted(StopRun):
    """Rate limiting, a monthly cap or an edge block outlasted every retry."""


class AudienceNotReady(StopRun):
    """The audience or one of its merge fields does not match the settings."""


class IncompleteRead(StopRun):
    """A full load returned fewer customers than QuickBooks counts."""


class PlanOutdated(StopRun):
    """An approved plan no longer matches what was shown. Nothing of it is written."""


class Tampered(StopRun):
    """The audit does not match its seals."""


class ConsentRaised(StopRun):
    """Mailchimp reports a higher consent after a write of ours than the one stored."""


class StorageError(StopRun):
    """The database or the disk cannot store the data."""


class RetryLater(ConnectorError):
    """The same call may succeed later. ``retry_after`` is in seconds, None if not sent."""

    def __init__(
        self, message: str, *, request_id: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after = retry_after


class RateLimited(RetryLater):
    """429, or a 403/503 edge block without JSON."""


class Unavailable(RetryLater):
    """The system sent 5xx or no response. The call was not applied."""


class ResponseLost(RetryLater):
    """The response was lost. The call may have been applied, so it must be idempotent."""


class TokenExpired(ConnectorError):
    """QuickBooks sent 401. Refresh once and retry once."""


class RecordRefused(ConnectorError):
    """This record is refused for good as it is. ``code`` is ours or the vendor's."""

    def __init__(self, message: str, *, code: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code


class StaleObject(RecordRefused):
    """QuickBooks 5010: another writer came first."""


class CallRefused(RecordRefused):
    """An entire call was refused as malformed (400). One of its rows may be the cause."""
