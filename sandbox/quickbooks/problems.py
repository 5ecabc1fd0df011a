"""QuickBooks' error responses, worded as recorded from the real service.

Business errors are a ``Fault`` (capitalised keys); errors of the gateway in front of it come in
another envelope with lower-case keys and an epoch-millisecond ``time``.
"""

from typing import Any


class FaultError(Exception):
    """A request QuickBooks refuses: HTTP status plus one entry of ``Fault.Error``."""

    def __init__(
        self,
        code: int,
        message: str,
        detail: str,
        *,
        element: str | None = None,
        status: int = 400,
        kind: str = "ValidationFault",
        timed: bool = True,
    ) -> None:
        super().__init__(f"{code} {message}: {detail}")
        self.code = code
        self.message = message
        self.detail = detail
        self.element = element
        self.status = status
        self.kind = kind
        self.timed = timed

    def fault(self) -> dict[str, Any]:
        """Return the ``Fault`` object."""
        error = {"Message": self.message, "Detail": self.detail, "code": str(self.code)}
        if self.element is not None:
            error["element"] = self.element
        return {"Error": [error], "type": self.kind}


class GatewayError(Exception):
    """A request that never reached the accounting service."""

    def __init__(self, status: int, code: str, name: str, detail: str | None, kind: str) -> None:
        super().__init__(f"{status} {name}")
        self.status = status
        self.code = code
        self.name = name
        self.detail = detail
        self.kind = kind

    def envelope(self, now: float) -> dict[str, Any]:
        """Return the whole body."""
        message = f"message={self.name}; errorCode=00{self.code}; statusCode={self.status}"
        error = {"message": message, "detail": self.detail, "code": self.code, "element": None}
        return {
            "warnings": None,
            "intuitObject": None,
            "fault": {"error": [error], "type": self.kind},
            "report": None,
            "queryResponse": None,
            "batchItemResponse": [],
            "attachableResponse": [],
            "syncErrorResponse": None,
            "requestId": None,
            "time": int(now * 1000),
            "status": None,
            "cdcresponse": [],
        }


def authentication_failed(detail: str) -> GatewayError:
    """Return fault 401: the bearer token is missing, malformed, unknown or expired."""
    return GatewayError(401, "3200", "AuthenticationFailed", detail, "AUTHENTICATION")


def realm_refused() -> GatewayError:
    """Return fault 403: the token is good, but not for this company."""
    return GatewayError(403, "3100", "ApplicationAuthorizationFailed", None, "SERVICE")


def throttled() -> GatewayError:
    """Return fault 429: too many requests. The double blank is Intuit's."""
    detail = "The request limit was reached.  Try again later"
    return GatewayError(429, "3001", "ThrottleExceeded", detail, "SERVICE")


def stale(name: str) -> FaultError:
    """Return fault 5010: the SyncToken is not the current one."""
    detail = (
        "Stale Object Error : You and another user were working on this at the same time. "
        "The other user finished before you did, so your work was not saved. "
        f"Entity={name}"
    )
    return FaultError(5010, "Stale Object Error", detail, element="")


def duplicate_name(taken_by: str) -> FaultError:
    """Return fault 6240: a customer, vendor or employee already has the name."""
    detail = (
        "The name supplied already exists. : Another customer, vendor or employee is already "
        f"using this name. Please use a different name. : Id={taken_by}"
    )
    return FaultError(6240, "Duplicate Name Exists Error", detail, element="")


def not_found() -> FaultError:
    """Return fault 610: there is no such object, or it has been merged away."""
    detail = (
        "Object Not Found : Something you're trying to use has been made inactive. "
        "Check the fields with accounts, customers, items, vendors or employees."
    )
    return FaultError(610, "Object Not Found", detail, element="")


def bad_id(supplied: str) -> FaultError:
    """Return fault 2030: an Id that is not a number; the one recorded fault that carries no ``time``."""
    detail = f"Id should be a valid number. Supplied value:{supplied}"
    return FaultError(2030, "Invalid ID", detail, element="Id", timed=False)


def unknown_property(name: str, entity: str) -> FaultError:
    """Return fault 2010: a property the entity does not have."""
    detail = (
        f'Property Name:Unrecognized field "{name}" '
        f"(class com.intuit.schema.finance.v3.{entity}), not marked as ignorable"
    )
    return FaultError(2010, "Request has invalid or unsupported property", detail)


def unreadable(reason: str) -> FaultError:
    """Return fault 2010: the body is not the JSON it should be."""
    return FaultError(2010, "Request has invalid or unsupported property", reason)


def missing(parameter: str) -> FaultError:
    """Return fault 2020: a parameter that must be there is not."""
    message = "Required param missing, need to supply the required value for the API"
    detail = f"Required parameter {parameter} is missing in the request"
    return FaultError(2020, message, detail, element=parameter)


def wrong_length(field: str, longest: int, supplied: int) -> FaultError:
    """Return fault 2050: a text longer than the field."""
    message = "String length is either shorter or longer than supported by specification"
    detail = (
        "String length specified does not match the supported length. "
        f"Min:0 Max:{longest} supported. Supplied length:{supplied}"
    )
    return FaultError(2050, message, detail, element=field)


def bad_email() -> FaultError:
    """Return fault 2210: an e-mail address without ``@`` or a dot."""
    text = "Email Address does not conform to the syntax rules of RFC 822."
    return FaultError(2210, text, text, element="PrimaryEmailAddr")


def bad_characters(field: str) -> FaultError:
    """Return fault 2040: a colon, tab or newline in a name."""
    detail = f"{field} must not contain a colon, tab or newline"
    return FaultError(2040, "Invalid String", detail, element=field)


def no_name() -> FaultError:
    """Return fault 6080: none of the fields a display name is made from."""
    detail = "DisplayName, or one of Title, GivenName, MiddleName, FamilyName, Suffix, is required"
    return FaultError(6080, "Name is required", detail, element="DisplayName")


def too_deep() -> FaultError:
    """Return fault 6180: more than five levels of sub-customers."""
    text = "You exceeded the maximum number of levels"
    return FaultError(6180, text, f"{text}: 5", element="ParentRef")


def business(detail: str) -> FaultError:
    """Return fault 6000: a rule of the business behind the field."""
    return FaultError(6000, "A business validation error has occurred", detail, element="")


def query_syntax(found: str, column: int, expected: str) -> FaultError:
    """Return fault 4000: the statement does not parse."""
    detail = (
        f'QueryParserError: Encountered " {found} "" at line 1, column {column}. '
        f"Was expecting one of: {expected}"
    )
    return FaultError(4000, "Error parsing query", detail)


def query_invalid(reason: str) -> FaultError:
    """Return fault 4001: the statement parses, but asks for what there is not."""
    return FaultError(4001, "Invalid query", f"QueryValidationError: {reason}")


def unsupported(path: str) -> FaultError:
    """Return fault 500: a path or operation the API does not have."""
    detail = f"Operation Could not find resource for relative : {path} is not supported."
    return FaultError(500, "Unsupported Operation", detail)


def request_id_reused() -> FaultError:
    """Return fault 600: a request id that came before with another body."""
    detail = "The request id was used before with different content"
    return FaultError(600, "Duplicate Request ID", detail, element="requestid")


def request_id_malformed(detail: str) -> FaultError:
    """Return fault 2130: a request id or bId longer than documented (50; in a batch 36 and 10)."""
    return FaultError(2130, "Invalid Request ID", detail, element="requestid")


def batch_too_large(items: int) -> FaultError:
    """Return fault 1040: more than 30 items in a batch."""
    detail = f"Maximum 30 items are allowed in a batch request. Supplied:{items}"
    return FaultError(1040, "Too many batch items", detail)


def bad_reference_type(name: str) -> FaultError:
    """Return fault 6050: an attachment linked to a type of object that takes none."""
    detail = f"Invalid Reference Type : {name}"
    return FaultError(6050, "Invalid Reference Type", detail, element="EntityRef")
