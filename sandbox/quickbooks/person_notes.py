"""What a person writes into the Notes box, next to other text there.

The person knows their own text and leaves the rest where it is, for instance a block that another
app keeps between two lines starting with ``--- ``.
"""

import re
from random import Random

from sandbox.quickbooks.customer_fields import LENGTHS, length

LONGEST_OWN = 600
LONGEST_NOTES = LENGTHS["Notes"]

_PHRASES = (
    "Rang about the invoice",
    "Prefers to be called before noon",
    "Wants the catalogue by post",
    "Paid in cash, no receipt",
    "Ask for the new price list",
    "Moving to the harbour in spring",
    "Fragt nach dem Rabatt für Händler",
    "お客様は火曜日に来ます",
)
_WORDS = ("morning", "Tuesday", "nobody", "sometimes", "price", "brother", "garage", "yellow")
_EXTRAS = ("", "", "", " \U0001f600", " \U0001f468\u200d\U0001f469\u200d\U0001f467", "\tcall back")
_ENDS = ("", "", "", "", " ", "\t", "\n", "\r\n")
_BREAKS = ("\n", "\n", "\r\n", "\n\n")


def altered(own: str, random: Random, number: int) -> str:
    """Return the person's text with a line more or a word changed; ``number`` marks a new line.

    A text that would grow past 600 UTF-16 code units starts afresh, as on a cleaned desk.
    """
    line = f"{random.choice(_PHRASES)} ({number}){random.choice(_EXTRAS)}{random.choice(_ENDS)}"
    words = list(re.finditer(r"[A-Za-z]{4,}", own))
    if words and random.random() < 0.4:
        old = random.choice(words)
        new = random.choice([word for word in _WORDS if word != old[0]])
        changed = own[: old.start()] + new + own[old.end() :]
    else:
        changed = own + random.choice(_BREAKS) + line if own else line
    return changed if length(changed) <= LONGEST_OWN else line


def replaced(notes: str, own: str, new: str, *, on_top: bool) -> str | None:
    """Return Notes with the person's text exchanged in its place, or None if it does not fit.

    A text that is new, or no longer there, goes before or after everything else.
    """
    if own and own in notes:
        changed = notes.replace(own, new, 1)
    elif notes:
        changed = f"{new}\n{notes}" if on_top else f"{notes}\n{new}"
    else:
        changed = new
    return changed if length(changed) <= LONGEST_NOTES else None
