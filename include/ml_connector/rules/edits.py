"""Decide per merge field whether a write touches a value that differs in Mailchimp. Pure.

Three values matter: QuickBooks' value now, QuickBooks' value that was last taken into account, and
what the contact was observed to show.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_connector.model import MergeValue

CHANGED = "changed_in_mailchimp"
"""Why a field stays unchanged: a person changed it in Mailchimp (A44)."""
FILLED = "filled_before_the_sync"
"""Why a field stays unchanged: it had a value when the member was adopted (A45)."""
SKIPPED = "member_before_the_sync"
"""Why a field stays unchanged: ``adopt: skip`` (A45)."""


class FieldPlan(NamedTuple):
    """What to do with each merge field of a contact.

    ``write``: the fields to send. ``kept``: the fields that stay unchanged, with the reason.
    ``replaced``: other values of a person that ``write`` replaces.
    """

    write: dict[str, MergeValue]
    kept: dict[str, str]
    replaced: dict[str, Any]


def alike(shown: Any, sent: Any) -> bool:
    """Return whether a value ``shown`` is the one ``sent``.

    A country that Mailchimp added to an address does not count.
    """
    if not isinstance(shown, Mapping) or not isinstance(sent, Mapping):
        return str(shown or "") == str(sent or "")
    parts = {part: str(text) for part, text in shown.items() if text}
    told = {part: str(text) for part, text in sent.items() if text}
    if "country" not in told:
        parts.pop("country", None)
    return parts == told


def differing(shown: Mapping[str, Any], sent: Mapping[str, Any]) -> list[str]:
    """Return the merge fields that show another value than the one ``sent``."""
    tags = dict.fromkeys((*shown, *sent))
    return [tag for tag in tags if not alike(shown.get(tag, ""), sent.get(tag, ""))]


def explained_by_quickbooks(
    shown: Mapping[str, Any],
    *,
    before: Mapping[str, Any],
    sent: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> bool:
    """Return whether a contact changed only to values that QuickBooks changed too.

    ``before``: what the contact was known to show. ``sent``: QuickBooks' values that were last taken
    into account. ``wanted``: its values now.
    """
    changed = differing(shown, before)
    return bool(changed) and set(changed) <= {
        tag for tag in differing(wanted, sent) if alike(shown.get(tag, ""), wanted.get(tag, ""))
    }


def sent_elsewhere(shown: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the merge fields that show what other syncs sent: such a value is no person's (A39).

    ``others``: what each of them last sent. Where they sent different values, the order is unknown:
    a person may have brought the former one back, so the value counts as theirs.
    """
    sent = {tag: [each[tag] for each in others if each.get(tag)] for tag in shown}
    return frozenset(
        tag
        for tag, values in sent.items()
        if values and all(alike(shown[tag], each) for each in values)
    )


def plan_adoption(
    wanted: Mapping[str, MergeValue], shown: Mapping[str, Any], *, adopt: str
) -> FieldPlan:
    """Decide on the fields of a member who existed before us, by the setting ``adopt`` (A45)."""
    plan = FieldPlan({}, {}, {})
    for tag, value in wanted.items():
        there = shown.get(tag, "")
        if adopt == "skip":
            plan.kept[tag] = SKIPPED
        elif adopt == "fill_empty" and there and not alike(there, value):
            plan.kept[tag] = FILLED
        else:
            plan.write[tag] = value
            if there and not alike(there, value):
                plan.replaced[tag] = there
    return plan


def plan_update(
    wanted: Mapping[str, MergeValue],
    shown: Mapping[str, Any],
    *,
    past: Mapping[str, Any],
    adopted: Sequence[str],
    rules: Mapping[str, str],
    adopt: str,
) -> FieldPlan:
    """Decide on the fields of a contact that shows other values than those last sent (A44).

    ``past``: QuickBooks' values that were last taken into account. ``adopted``: fields whose value
    was there before us. A field of these that was never sent is adopted now, by the setting
    ``adopt``: it was mapped later than the others. ``rules``: ``on_member_edit`` by field.
    """
    never_sent = {tag: wanted[tag] for tag in adopted if tag in wanted and tag not in past}
    plan = plan_adoption(never_sent, shown, adopt=adopt)
    for tag, value in wanted.items():
        if tag in never_sent:
            continue
        there, before = shown.get(tag, ""), past.get(tag, "")
        if alike(there, value) or alike(there, before):
            plan.write[tag] = value
        elif value == before and tag in adopted:
            plan.kept[tag] = FILLED
        elif value == before and rules.get(tag) != "restore":
            plan.kept[tag] = CHANGED
        else:
            plan.write[tag] = value
            plan.replaced[tag] = there
    return plan
