"""Batch subscribe, `POST /lists/{list_id}`: up to 500 members, failures and successes in a 200."""

from dataclasses import dataclass, field
from typing import Any

from sandbox.mailchimp import schema, writes
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.member_documents import show
from sandbox.mailchimp.members import Member, subscriber_hash
from sandbox.mailchimp.problems import ProblemError

CONTACT_EXISTS = "ERROR_CONTACT_EXISTS"
GENERIC = "ERROR_GENERIC"


@dataclass
class _Outcome:
    created: list[Member] = field(default_factory=list)
    updated: list[Member] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)

    def refuse(self, email: str, code: str, error: str, *, on: str = "", message: str = "") -> None:
        self.errors.append(
            {
                "email_address": email,
                "error": error,
                "error_code": code,
                "field": on,
                "field_message": message,
            }
        )


class BatchSubscribe:
    """One batch request at work.

    Attributes:
        update_existing: false refuses known members as `ERROR_CONTACT_EXISTS`, untouched.
        sync_tags: the request's tags replace all of a member's tags.
        skip_duplicates: the second mention of an address is passed over in silence instead of
            coming back in `errors`.
    """

    def __init__(
        self, audience: Audience, body: Any, *, validate: bool, skip_duplicates: bool
    ) -> None:
        self._audience = audience
        self._status_required = audience.settings.batch_contract == "status_required"
        self._members = schema.check_batch(body, status_required=self._status_required)
        self._update_existing = bool(body.get("update_existing"))
        self._sync_tags = bool(body.get("sync_tags"))
        self._validate = validate
        self._skip_duplicates = skip_duplicates

    def run(self) -> dict[str, Any]:
        """Write the members one by one and report on them."""
        outcome = _Outcome()
        seen: set[str] = set()
        for body in self._members:
            email = body["email_address"] or ""
            key = subscriber_hash(email)
            if key not in seen:
                seen.add(key)
                self._write(email, body, outcome)
            elif not self._skip_duplicates:
                outcome.refuse(email, GENERIC, f"{email} is a duplicate within this request")
        return self._render(outcome)

    def _write(self, email: str, body: dict[str, Any], outcome: _Outcome) -> None:
        # The batch endpoint has no such property.
        body = {key: value for key, value in body.items() if key != "marketing_permissions"}
        if self._status_required:
            body = {key: value for key, value in body.items() if key != "status_if_new"}
        try:
            member = self._audience.find(email) if "@" in email else None
            if member is None:
                self._create(email, body, outcome)
            elif self._update_existing or self._revives(member, body):
                writes.update(self._audience, member, body, validate=self._validate)
                self._tag(member, body)
                outcome.updated.append(member)
            else:
                outcome.refuse(
                    email,
                    CONTACT_EXISTS,
                    f"{email} is already a list member, do you want to update? "
                    "please provide 'update_existing:true' in the request body",
                )
        except ProblemError as problem:
            first = problem.errors[0] if problem.errors else {"field": "", "message": ""}
            outcome.refuse(
                email, GENERIC, problem.detail, on=first["field"], message=first["message"]
            )

    @staticmethod
    def _revives(member: Member, body: dict[str, Any]) -> bool:
        return member.status == "archived" and body.get("status") is not None

    def _create(self, email: str, body: dict[str, Any], outcome: _Outcome) -> None:
        status = body.get("status_if_new") or body.get("status")
        if not status:
            outcome.refuse(email, GENERIC, "A new contact needs a status", on="status")
            return
        member = writes.create(self._audience, body, status, validate=self._validate)
        outcome.created.append(member)

    def _tag(self, member: Member, body: dict[str, Any]) -> None:
        names = body.get("tags")
        if names is not None or self._sync_tags:
            writes.add_tags(self._audience, member, names or [], replace=self._sync_tags)

    def _render(self, outcome: _Outcome) -> dict[str, Any]:
        return {
            "new_members": [show(each, self._audience, in_batch=True) for each in outcome.created],
            "updated_members": [
                show(each, self._audience, in_batch=True) for each in outcome.updated
            ],
            "errors": outcome.errors,
            "total_created": len(outcome.created),
            "total_updated": len(outcome.updated),
            "error_count": len(outcome.errors),
            "_links": [],
        }
