"""Whether Mailchimp takes new contacts or updates at all, and one sentence for all that wait (A56)."""

import re
from collections.abc import Sequence

from ml_connector.display import counted, grouped
from ml_connector.errors import CreationRefused, UpdatesRefused
from ml_connector.mailchimp.problems import CONTACT_LIMIT
from ml_connector.model import Kind
from ml_connector.scope import Scope
from ml_connector.store import changes
from ml_connector.sync.calls import EveryOneRefused
from ml_connector.sync.outcomes import Outcome

_NUMBER = re.compile(r"\b\d{1,3}(?:,\d{3})+\b|\b\d+\b")


class Room:
    """What a push learns about the room for new contacts, and about updates."""

    def __init__(self) -> None:
        """Start with room for any number."""
        self._refused: dict[Kind, EveryOneRefused] = {}
        self._judged: set[str] = set()
        self._parked = 0

    def is_none(self, kind: Kind) -> bool:
        """Return whether a further change of this kind would be refused like the others."""
        return kind in self._refused

    def is_judged(self, kind: Kind) -> bool:
        """Return whether Mailchimp is known to judge each change of this kind by itself.

        Not so while it refuses every one: what another thread still sends is as little to blame.
        """
        return kind in self._judged and kind not in self._refused

    def judge(self, kind: str) -> None:
        """Learn that Mailchimp takes changes of a kind, or refuses them for reasons of their own."""
        self._judged.add(kind)

    def refuse(self, kind: Kind, error: EveryOneRefused) -> None:
        """Learn that Mailchimp refuses every change of a kind."""
        self._refused[kind] = error

    def look(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from what came of changes, all of one kind.

        Single creations that a full plan refused are counted: they wait, like parked ones.
        """
        if any(outcome.refusal is None for outcome in outcomes):
            self.judge(outcomes[0].row.change.kind)
        full = [o.refusal for o in outcomes if o.refusal and o.refusal.code == CONTACT_LIMIT]
        if full:
            self._parked += len(full)
            self.refuse(Kind.CREATE, EveryOneRefused(full[0].message, code=CONTACT_LIMIT))

    def demand(self, scope: Scope, *, plan_id: int) -> None:
        """Raise ``CreationRefused`` if Mailchimp took no new contact, or not all of them.

        Raises ``UpdatesRefused`` if it took no update.
        """
        if not self._refused:
            return
        kind, refused = min(self._refused.items())  # creations first
        reason = refused.reason
        with scope.database.begin() as connection:
            waiting = changes.count_pending(connection, plan_id=plan_id, kind=kind)
        if kind is not Kind.CREATE:
            raise UpdatesRefused(
                f"Mailchimp refuses every update of a contact for one reason: {reason.rstrip('.')}."
                f" {counted(waiting, 'waits', 'wait')}. Fix it in Mailchimp, then run the sync again"
            )
        needed = waiting + self._parked
        if refused.code != CONTACT_LIMIT:
            raise CreationRefused(
                f"Mailchimp refuses every new contact for one reason: {reason.rstrip('.')}."
                f" {counted(needed, 'waits', 'wait')}. Fix it in Mailchimp, then run the sync again"
            )
        allowed = _NUMBER.search(reason)
        limit = f"allows {allowed[0]} contacts" if allowed else "allows no more contacts"
        raise CreationRefused(
            f"The Mailchimp plan {limit}; this run needs {grouped(needed)} more. Change the plan or archive"
            " contacts in Mailchimp, then run the sync again. Known contacts are kept up to date"
        )
