"""Mailchimp's refusals, worded as the service words them.

Every one is `application/problem+json`. Bodies about a member's standing (exists, compliance,
forgotten) have had no `type` since about 2021, although the published contract requires it; the
others carry the address of the error documentation.
"""

from typing import Any

DOCUMENTATION = "https://mailchimp.com/developer/marketing/docs/errors/"


class ProblemError(Exception):
    """One refusal.

    Attributes:
        status: HTTP status.
        title: Mailchimp's short name for it.
        detail: the sentence for the reader.
        errors: `{"field", "message"}` per field, for validation failures.
        typed: whether the body has a `type`.
        allow: value of the `Allow` header, for 405.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        typed: bool = True,
        allow: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors or []
        self.typed = typed
        self.allow = allow

    def body(self, instance: str) -> dict[str, Any]:
        """Return the problem: the document to send; `instance` is the response's request id."""
        document: dict[str, Any] = {"type": DOCUMENTATION} if self.typed else {}
        document |= {
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            document["errors"] = self.errors
        return document


def unauthorized() -> ProblemError:
    """Return the problem: a wrong key; a key sent to the wrong data centre looks the same."""
    return ProblemError(
        401,
        "API Key Invalid",
        "Your API key may be invalid, or you've attempted to access the wrong datacenter.",
    )


def not_found() -> ProblemError:
    """Return 404: nothing at that address, or no longer."""
    return ProblemError(404, "Resource Not Found", "The requested resource could not be found.")


def wrong_method(allow: str) -> ProblemError:
    """Return the problem: the address exists, the method does not."""
    return ProblemError(
        405,
        "Method Not Allowed",
        "The requested method and resource are not compatible. "
        "See the Allow header for this resource's available methods.",
        allow=allow,
    )


def cannot_archive() -> ProblemError:
    """DELETE on a member who is bounced, pending or archived already."""
    return ProblemError(
        405,
        "Method Not Allowed",
        "This list member cannot be removed. "
        "Can not archive a contact that is bounced, pending or archived",
        allow="GET, PUT",
    )


def too_many_connections(limit: int) -> ProblemError:
    """Return the problem: more simultaneous connections than one user may hold."""
    return ProblemError(
        429,
        "Too Many Requests",
        f"You have exceeded the limit of {limit} simultaneous connections.",
    )


def bad_json() -> ProblemError:
    """Return the problem: the request's body is not JSON."""
    return ProblemError(
        400, "JSON Parse Error", "We encountered an unspecified JSON parsing error."
    )


def invalid(detail: str, errors: list[dict[str, str]] | None = None) -> ProblemError:
    """Return the problem: a request that is well-formed and still not acceptable."""
    return ProblemError(400, "Invalid Resource", detail, errors=errors)


def schema(errors: list[dict[str, str]]) -> ProblemError:
    """Return the problem: fields that are missing or of the wrong type."""
    return invalid(
        "The resource submitted could not be validated. "
        "For field-specific details, see the 'errors' array.",
        errors,
    )


def merge_fields_invalid(errors: list[dict[str, str]]) -> ProblemError:
    """Merge values that the audience does not take."""
    return invalid("Your merge fields were invalid.", errors)


def bad_address() -> ProblemError:
    """Return the problem: not an e-mail address at all."""
    return invalid("Please provide a valid email address.")


def fake_address(email: str) -> ProblemError:
    """Return the problem: an address at a domain that is known to be made up."""
    return invalid(f"{email} looks fake or invalid, please enter a real email address.")


def contact_limit(limit: int) -> ProblemError:
    """Return the problem: the plan is full. The service's own wording is not documented."""
    return ProblemError(
        403,
        "Contact Limit Reached",
        f"Your plan allows {limit:,} contacts. Upgrade your plan to add more contacts.",
    )


def throttled(email: str) -> ProblemError:
    """Return 400: the per-address limit on sign-ups."""
    return invalid(
        f"{email} has signed up to a lot of lists very recently; "
        "we're not allowing more signups for now"
    )


def exists(email: str) -> ProblemError:
    """Return the problem: the address is a member already."""
    return ProblemError(
        400,
        "Member Exists",
        f"{email} is already a list member. Use PUT to insert or update list members.",
        typed=False,
    )


def in_compliance_state(email: str) -> ProblemError:
    """Return the problem: the person opted out, or the address bounced: the API cannot subscribe them again."""
    return ProblemError(
        400,
        "Member In Compliance State",
        f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review "
        "and cannot be subscribed.",
        typed=False,
    )


def forgotten(email: str) -> ProblemError:
    """Return the problem: the member was deleted for ever."""
    return ProblemError(
        400,
        "Forgotten Email Not Subscribed",
        f"{email} was permanently deleted and cannot be re-imported. "
        "The contact must re-subscribe to get back on the list.",
        typed=False,
    )
