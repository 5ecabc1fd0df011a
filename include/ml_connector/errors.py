"""Errors: every failure the connector knows, named by what happens next.

::

    ConnectorError
    ├── StopRun                 nothing further can succeed; manual action is needed
    │   ├── SettingsError       syncs.yaml, environment or a connection is wrong (exit code 2)
    │   ├── CredentialsError    a system refused our credentials, data centre or realm
    │   │   └── NeedsReauth     a system no longer accepts our access; connect again
    │   │       └── NotConnected    the account has not been connected yet
    │   ├── QuotaExhausted      rate limiting or a block that outlasted the retries
    │   ├── AudienceNotReady    audience or merge fields do not match the settings
    │   ├── QueryRefused        QuickBooks refuses a query as a whole
    │   ├── CreationRefused     Mailchimp takes no new contact at all, such as above its plan's limit
    │   ├── UpdatesRefused      Mailchimp takes no update of a contact at all, for one reason
    │   ├── IncompleteRead      QuickBooks listed fewer customers than it counts
    │   ├── PlanOutdated        data changed while a large plan waited for its approval
    │   ├── RunIncomplete       a step of the run failed; the other steps ran
    │   ├── ConsentRaised       the consent check saw a status rise; writing stops at once
    │   ├── Tampered            audit rows do not match their seals
    │   └── StorageError        database or disk cannot store what must not be lost
    ├── RetryLater              the same call may succeed later; every such call is idempotent
    │   ├── RateLimited         429, or an edge block; ``retry_after`` seconds if the vendor sent it
    │   ├── Unavailable         5xx, HTML instead of JSON, refused connection
    │   └── ResponseLost        time-out or broken connection: the call may have been applied
    ├── Defect                  this code failed; it names the place and quotes no data
    ├── TokenExpired            401 from QuickBooks: refresh once, retry once
    └── RecordRefused           this record alone is refused; the others continue
        ├── StaleObject         QuickBooks 5010: read, re-apply, write again
        └── CallRefused         an entire batch was refused (400): bisect it down to one row

Only ``*/protocol.py`` creates these from HTTP responses. Only ``ml_connector_airflow/retries.py``
turns them into Airflow's retry decisions. Messages never contain secrets or addresses.
"""

from contextlib import ContextDecorator
from pathlib import PurePath
from traceback import walk_tb
from types import TracebackType

PLACES = 4
"""A defect names the innermost places in this code, up to this many."""
_OURS = ("ml_connector", "ml_connector_airflow")


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
    """A system no longer accepts our token or key. Connect again. ``system``: which one."""

    def __init__(
        self, message: str, *, system: str = "quickbooks", request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.system = system


class NotConnected(NeedsReauth):
    """There is no token or key of the account yet."""


class QuotaExhausted(StopRun):
    """Rate limiting, a monthly cap or an edge block outlasted every retry."""


class AudienceNotReady(StopRun):
    """The audience or one of its merge fields does not match the settings."""


class QueryRefused(StopRun):
    """QuickBooks refuses a query as a whole: no record of it is read."""


class CreationRefused(StopRun):
    """Mailchimp refuses every new contact for one and the same reason. All else goes on."""


class UpdatesRefused(StopRun):
    """Mailchimp refuses every update of a contact for one and the same reason. All else goes on."""


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


class RunIncomplete(StopRun):
    """A step of the run failed. The other steps ran."""


class Defect(ConnectorError):
    """An unexpected error, without its text: a KeyError shows its key, which may be an address."""

    def __init__(self, error: Exception) -> None:
        frames = [(PurePath(f.f_code.co_filename), n) for f, n in walk_tb(error.__traceback__)]
        ours = [
            f"{'/'.join(path.parts[-2:])}:{line}"
            for path, line in frames
            if not set(path.parts).isdisjoint(_OURS)
        ]
        places = " < ".join(reversed(ours[-PLACES:])) or "an unknown place"
        super().__init__(
            f"a defect in ml-connector: {type(error).__name__} at {places}. Report it with this line"
        )


class values_withheld(ContextDecorator):  # noqa: N801 -- read as a verb, like contextlib.suppress
    """Turn an unexpected error into a ``Defect``, in a block or a function.

    Errors of ours and of Airflow pass, as do signals.
    """

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise a ``Defect`` in place of an unexpected error, whose text may hold personal data."""
        if not isinstance(error, Exception) or isinstance(error, ConnectorError):
            return
        if type(error).__module__.partition(".")[0] != "airflow":
            raise Defect(error) from None


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
    """This record is refused permanently as is. ``code`` is ours or the vendor's."""

    def __init__(self, message: str, *, code: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code


class StaleObject(RecordRefused):
    """QuickBooks 5010: another writer came first."""


class CallRefused(RecordRefused):
    """An entire call was refused as malformed (400). One of its rows may be the cause."""
