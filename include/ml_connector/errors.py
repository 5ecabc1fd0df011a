"""Every failure the connector knows, named by what happens next.

::

    ConnectorError
    ├── StopRun                 nothing further can succeed; a person has to act
    │   ├── SettingsError       syncs.yaml, environment or a connection is wrong (exit code 2)
    │   ├── CredentialsError    a system refused our keys, data centre or realm
    │   │   └── NeedsReauth     the QuickBooks grant is over; connect again
    │   ├── QuotaExhausted      rate limiting or a block that outlasted the retries
    │   ├── AudienceNotReady    audience or merge fields are not as the settings need them
    │   ├── IncompleteRead      QuickBooks listed fewer customers than it counts
    │   ├── PlanOutdated        facts moved while a large plan waited for its approval
    │   ├── ConsentRaised       the consent check saw a status rise; writing stops at once
    │   ├── Tampered            audit rows are not as they were sealed
    │   └── StorageError        database or disk cannot take what we must not lose
    ├── RetryLater              the same call may succeed later; all of it is safe to repeat
    │   ├── RateLimited         429, or an edge block; ``retry_after`` seconds if the vendor said
    │   ├── Unavailable         5xx, HTML instead of JSON, refused connection
    │   └── AnswerLost          time-out or broken connection: the call may have been applied
    ├── TokenExpired            401 from QuickBooks: refresh once, repeat once
    └── RecordRefused           this record alone is refused; the others go on
        ├── StaleObject         QuickBooks 5010: read, re-apply, write again
        └── CallRefused         a whole batch was refused (400): halve it until the row is alone

One place makes these from HTTP answers (``*/protocol.py``), one place turns them into Airflow's
retry decisions (``ml_connector_airflow/retries.py``). Messages never hold secrets or addresses.
"""


class ConnectorError(Exception):
    """Base of all. ``request_id`` is the vendor's (``intuit_tid``, ``X-Request-Id``)."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


class StopRun(ConnectorError):
    """Nothing further can succeed in this run; the message says what to change."""


class SettingsError(StopRun):
    """A setting is missing or wrong; the message names key, place and mend."""


class CredentialsError(StopRun):
    """A system refused our credentials."""


class NeedsReauth(CredentialsError):
    """The QuickBooks refresh token is no longer accepted; a person must connect again."""


class QuotaExhausted(StopRun):
    """Rate limiting, a monthly cap or an edge block outlasted every retry."""


class AudienceNotReady(StopRun):
    """The audience or one of its merge fields is not as the settings need it."""


class IncompleteRead(StopRun):
    """A full load returned fewer customers than QuickBooks counts."""


class PlanOutdated(StopRun):
    """An approved plan is no longer what was shown; nothing of it is written."""


class Tampered(StopRun):
    """The audit is not as it was sealed."""


class ConsentRaised(StopRun):
    """Mailchimp reports a higher consent than we knew after a write of ours."""


class StorageError(StopRun):
    """The database or the disk cannot take the data."""


class RetryLater(ConnectorError):
    """The same call may succeed later; ``retry_after`` is in seconds, None if not said."""

    def __init__(
        self, message: str, *, request_id: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after = retry_after


class RateLimited(RetryLater):
    """429, or a 403/503 edge block without JSON."""


class Unavailable(RetryLater):
    """The system answered 5xx or not at all; the call was not applied."""


class AnswerLost(RetryLater):
    """No answer came; the call may have been applied, so it must be safe to repeat."""


class TokenExpired(ConnectorError):
    """QuickBooks answered 401; one refresh and one repetition are due."""


class RecordRefused(ConnectorError):
    """This record is refused for good as it stands. ``code`` is ours or the vendor's."""

    def __init__(self, message: str, *, code: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code


class StaleObject(RecordRefused):
    """QuickBooks 5010: somebody else wrote first."""


class CallRefused(RecordRefused):
    """A whole call was refused as malformed (400); one of its rows may be the cause."""
