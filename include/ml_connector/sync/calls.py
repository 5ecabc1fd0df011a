"""Choose the Mailchimp call for each row and the status it may carry (promise 3).

Mailchimp's batch endpoint has two contracts. The current one accepts ``status_if_new``, which
leaves the status of a known member alone. The older one requires ``status``. Under the older
contract:

- Known contacts get single calls, which carry no status and never create a member.
- New contacts are sent with updates disabled, so Mailchimp refuses an existing member instead of
  overwriting it.

No update can create a member who can be mailed (A43). In a batch, an update of an address that the
audience no longer has creates a member: as ``unsubscribed``, which is then archived.
"""

from collections import defaultdict
from collections.abc import Sequence

from msgspec.structs import replace

from ml_connector.errors import CallRefused, RecordRefused
from ml_connector.mailchimp.client import MailchimpClient, requires_status
from ml_connector.mailchimp.problems import CONTACT_LIMIT
from ml_connector.mailchimp.protocol import further_body
from ml_connector.model import (
    BatchResult,
    Kind,
    Member,
    MemberWrite,
    RowRefusal,
    Status,
    Unreadable,
)
from ml_connector.rules.undo import same
from ml_connector.sync.outcomes import CHANGED_SINCE, MOVED, ExtraCall, Outcome, Row
from ml_connector.sync.permissions import Permissions

ALL_ALIKE = 3
"""From this many rows on, one reason for all of them is no reason of theirs."""

_REASONS_OF_ALL = ("invalid", "merge_fields")

MAX_SINGLE_UNTAGS = 2
"""Up to this many contacts lose tags one by one. Removal by tag needs an extra call to find each
tag."""


class StatusRequired(Exception):
    """The account's batch endpoint has the older contract; nothing was written."""


class EveryOneRefused(Exception):
    """Mailchimp refused every row of a call for one reason; nothing was written."""

    def __init__(self, reason: str, *, code: str) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


class SplitBatch(Exception):
    """Mailchimp refused a call of several rows as a whole; nothing was written."""

    def __init__(self, error: RecordRefused) -> None:
        super().__init__(error.message)
        self.message, self.code = error.message, error.code


class ContactCalls:
    """Sender for rows of one kind."""

    def __init__(self, client: MailchimpClient, permissions: Permissions | None = None) -> None:
        """Bind a client; ``permissions``: those given to contacts that a call creates."""
        self._client, self._permissions = client, permissions

    def send(
        self,
        rows: Sequence[Row],
        *,
        status_required: bool,
        probing: bool = False,
        judged: bool = False,
    ) -> list[Outcome]:
        """Send ``rows``, all of one kind; return one outcome per row.

        ``status_required``: the account's batch endpoint is known to have the older contract.
        ``probing``: a call of one row that is refused as a whole raises ``SplitBatch``, too.
        ``judged``: Mailchimp is known to take changes of this kind, so rows refused alike are bad.

        Raises ``SplitBatch`` if Mailchimp refused the call as a whole. Raises ``StatusRequired`` if the
        batch endpoint turns out to have the older contract. Raises ``EveryOneRefused`` if Mailchimp
        takes no new contact at all. In each case nothing was written.
        """
        if rows[0].change.kind == Kind.RESTORE:
            return self._untagged([self._restored(row) for row in rows])
        single = [row for row in rows if needs_single_call(row, status_required=status_required)]
        together = [row for row in rows if row not in single]
        outcomes = self._batched(together, status_required, probing, judged) if together else []
        alone = probing and len(rows) == 1
        return self._untagged([*outcomes, *(self._patched(row, probing=alone) for row in single)])

    def _batched(
        self, rows: Sequence[Row], status_required: bool, probing: bool, judged: bool
    ) -> list[Outcome]:
        creating = rows[0].change.kind == Kind.CREATE
        writes = [_with_status(row.write) if status_required else row.write for row in rows]
        try:
            result = self._client.upsert_batch(
                writes, update_existing=not (creating and status_required)
            )
        except CallRefused as error:
            if not status_required and requires_status(error):
                raise StatusRequired from error
            if creating and error.code == CONTACT_LIMIT:
                raise EveryOneRefused(error.message, code=error.code) from error
            if len(rows) > 1 or probing:
                raise SplitBatch(error) from error
            return [_refused(rows[0], error)]
        if creating:
            _check_refusals(result, judged=judged)
        outcomes = _outcomes(rows, result)
        if creating and status_required:
            outcomes = [self._returned(outcome) for outcome in outcomes]
        done = [self._completed(outcome) for outcome in outcomes]
        if self._permissions is None or not creating:
            return done
        return [self._permissions.given(self._client, outcome) for outcome in done]

    def _completed(self, outcome: Outcome) -> Outcome:
        if _already_exists(outcome):
            return self._adopted(outcome)
        if outcome.created and outcome.row.change.kind == Kind.UPDATE:
            # The contact has left this address (A43).
            created = ExtraCall("created_by_mistake", outcome.request_id)
            return self._vanished(outcome.row, created, *self._archived_again(outcome))
        return outcome

    def _returned(self, outcome: Outcome) -> Outcome:
        """Archive a member again that a creation brought back: the older contract does that (A19)."""
        if outcome.member is None or outcome.created:
            return outcome
        again = self._archived_again(outcome)
        member = replace(outcome.member, status=Status.ARCHIVED)
        return replace(outcome, member=member, further=(*outcome.further, *again))

    def _archived_again(self, outcome: Outcome) -> list[ExtraCall]:
        try:
            request_id = self._client.archive(outcome.row.write.email_address)
        except RecordRefused:
            return []  # another program acted on it: the next read shows it
        return [ExtraCall("archived_again", request_id)]

    def _vanished(self, row: Row, *further: ExtraCall) -> Outcome:
        """Return the outcome of an update whose contact left the address; look where it went."""
        contact_id = row.change.contact_id
        moved_to = self._client.get_by_id(contact_id) if contact_id else None
        if isinstance(moved_to, Unreadable):
            return Outcome(row=row, refusal=_unreadable(row, moved_to), further=further)
        refusal = RowRefusal(
            email_address=row.write.email_address,
            code=MOVED,
            message="Mailchimp: no member has this address any longer; nothing was written",
        )
        return Outcome(row=row, refusal=refusal, moved_to=moved_to, further=further)

    def _adopted(self, outcome: Outcome) -> Outcome:
        """Update an existing member that was taken for new, without a status or a language."""
        row = outcome.row
        row = replace(row, write=replace(row.write, language=""))
        return self._patched(row, ExtraCall("refused_as_known", outcome.request_id))

    def _patched(self, row: Row, *further: ExtraCall, probing: bool = False) -> Outcome:
        updating = row.change.kind == Kind.UPDATE
        try:
            member = (
                self._client.unsubscribe(row.write.email_address)
                if row.change.lowers
                else self._client.patch(
                    row.write.email_address,
                    row.write.merge_fields,
                    further=further_body(row.write),
                )
            )
        except RecordRefused as error:
            if updating and error.code == "not_found":
                return self._vanished(row, *further)
            if probing and error.code in _REASONS_OF_ALL:
                raise SplitBatch(error) from error
            return replace(_refused(row, error), further=further)
        outcome = Outcome(row=row, member=member, request_id=member.request_id, further=further)
        tags = row.tags.missing if updating else row.write.tags
        return self._tagged(outcome, tags) if tags else outcome

    def _tagged(self, outcome: Outcome, tags: Sequence[str], *, active: bool = True) -> Outcome:
        row = outcome.row
        try:
            request_id = self._client.add_tags(row.write.email_address, tags, active=active)
        except RecordRefused as error:
            written = ExtraCall("written", outcome.request_id)
            return replace(_refused(row, error), further=(*outcome.further, written))
        call = ExtraCall("added_tags" if active else "removed_tags", request_id, tuple(tags))
        return replace(outcome, further=(*outcome.further, call))

    def _restored(self, row: Row) -> Outcome:
        """Restore an archived contact. If it is no longer archived, update it instead (A18)."""
        try:
            found = self._client.get(row.write.email_address)
            if found is None:
                # Permanently deleted meanwhile. A write would create a new contact.
                return Outcome(row=row, refusal=_forgotten(row))
            if isinstance(found, Unreadable):
                return Outcome(row=row, refusal=_unreadable(row, found))
            if row.undo is not None and _changed(row, found, lost=row.undo.lost):
                return Outcome(row=row, refusal=_changed_since(row))
            if found.status is not Status.ARCHIVED:
                return replace(self._patched(row), observed=found)
            member = self._client.restore(row.write)
            status, request_id = row.write.status, member.request_id
            outcome = Outcome(
                row=row, member=member, asked=status, observed=found, request_id=request_id
            )
            missing = row.tags.missing  # a restored contact has its previous tags
            return self._tagged(outcome, missing) if missing else outcome
        except RecordRefused as error:
            return _refused(row, error)

    def _untagged(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Remove our tags that a contact should no longer have.

        A batch only adds tags. Many contacts take one call per tag, a few take one call per
        contact.
        """
        due = [o for o in outcomes if o.row.tags.drop and o.present]
        if not due:
            return list(outcomes)
        alone = {o.row.change.id: set(o.row.tags.drop) for o in due}
        done: dict[int, list[ExtraCall]] = defaultdict(list)
        if len(due) > MAX_SINGLE_UNTAGS:
            for tag in sorted({tag for o in due for tag in o.row.tags.drop}):
                theirs = [o.row for o in due if tag in o.row.tags.drop]
                emails = [row.write.email_address for row in theirs]
                request_id, left = self._client.untag(tag, emails)
                for row in theirs:
                    if row.write.email_address.lower() in left:
                        continue
                    alone[row.change.id].discard(tag)
                    if request_id is not None:
                        done[row.change.id].append(ExtraCall("removed_tags", request_id, (tag,)))
        finished = []
        for outcome in outcomes:
            change_id = outcome.row.change.id
            told = replace(outcome, further=(*outcome.further, *done[change_id]))
            left_over = sorted(alone.get(change_id, ()))
            finished.append(self._tagged(told, left_over, active=False) if left_over else told)
        return finished


def needs_single_call(row: Row, *, status_required: bool) -> bool:
    """Return whether a row must not go through the batch endpoint.

    That is an update that lowers the status (A42), and under the older contract every update.
    """
    return row.change.kind == Kind.UPDATE and (status_required or row.change.lowers)


def _with_status(write: MemberWrite) -> MemberWrite:
    return replace(write, status=write.status_if_new, status_if_new=None)


def _outcomes(rows: Sequence[Row], result: BatchResult) -> list[Outcome]:
    by_address = {row.write.email_address: row for row in rows}

    def row_of(address: str) -> Row:
        return by_address[address.strip().lower()]

    def created(member: Member) -> Outcome:
        row = row_of(member.email_address)
        asked = row.write.status_if_new or row.write.status
        return Outcome(
            row=row, member=member, asked=asked, created=True, request_id=result.request_id
        )

    return [
        *map(created, result.created),
        *(
            Outcome(row=row_of(m.email_address), member=m, request_id=result.request_id)
            for m in result.updated
        ),
        *(
            Outcome(row=row_of(r.email_address), refusal=r, request_id=result.request_id)
            for r in result.refused
        ),
    ]


def _forgotten(row: Row) -> RowRefusal:
    return RowRefusal(
        email_address=row.write.email_address,
        code="forgotten",
        message="Mailchimp no longer has this contact: it was deleted permanently",
    )


def _check_refusals(result: BatchResult, *, judged: bool) -> None:
    """Raise ``EveryOneRefused`` if creations were refused for a reason that is not theirs."""
    reasons = {(each.code, each.message) for each in result.refused}
    if result.created or result.updated or len(reasons) != 1:
        return
    code, message = reasons.pop()
    alike = not judged and code in _REASONS_OF_ALL and len(result.refused) >= ALL_ALIKE
    if alike or code == CONTACT_LIMIT:
        raise EveryOneRefused(message, code=code)


def _unreadable(row: Row, member: Unreadable) -> RowRefusal:
    return RowRefusal(
        email_address=row.write.email_address,
        code="unreadable",
        message=f"the member in Mailchimp cannot be read: {member.reason}",
    )


def _changed_since(row: Row) -> RowRefusal:
    return RowRefusal(
        email_address=row.write.email_address,
        code=CHANGED_SINCE,
        message="the contact was changed in Mailchimp since the run, so it stays unchanged",
    )


def _shows(member: Member, write: MemberWrite) -> bool:
    shown = member.merge_fields
    return member.status is write.status and all(
        same(shown.get(tag), value) for tag, value in write.merge_fields.items()
    )


def _changed(row: Row, found: Member, *, lost: bool) -> bool:
    """Return whether another hand restored a contact of an undo, or archived it again.

    What a lost call may have restored, and shows what it wrote, is ours (D7).
    """
    if found.status is Status.ARCHIVED:
        return row.change.known_status != Status.ARCHIVED
    return not lost or not _shows(found, row.write)


def _already_exists(outcome: Outcome) -> bool:
    return outcome.refusal is not None and outcome.refusal.code == "member_exists"


def _refused(row: Row, error: RecordRefused) -> Outcome:
    refusal = RowRefusal(
        email_address=row.write.email_address, code=error.code, message=error.message
    )
    return Outcome(row=row, refusal=refusal, request_id=error.request_id)
