"""Large audiences for benchmarks: the same members for the same seed."""

import gc
import random

from sandbox.mailchimp.audience import Audience

DOMAIN = "customer-mail.net"
_FIRST = (
    "Ada",
    "Ben",
    "Clara",
    "Dev",
    "Eva",
    "Finn",
    "Grace",
    "Hugo",
    "Ines",
    "Jon",
    "Kim",
    "Lena",
)
_LAST = ("Abel", "Baker", "Cruz", "Diaz", "Evans", "Fox", "Gray", "Hill", "Ito", "Jones", "Klein")
_TRADE = ("Bakery", "Plumbing", "Gardens", "Design", "Logistics", "Dental", "Roofing", "Books")


def generate(audience: Audience, count: int, *, seed: int = 1, status: str = "subscribed") -> None:
    """Add `count` members as an import by a marketer, one second of `last_changed` apart."""
    rng = random.Random(seed)  # noqa: S311 - sample data
    start = audience.now() - count
    taken = len(audience.by_contact_id)
    company = "COMPANY" in audience.merge_fields.by_tag
    for number in range(taken + 1, taken + count + 1):
        first, last = rng.choice(_FIRST), rng.choice(_LAST)
        email = f"{first}.{last}.{seed}-{number}@{DOMAIN}".lower()
        member = audience.create(email, status, by="marketer", source="Import")
        member.merge_values = {"FNAME": first, "LNAME": last}
        if company:
            member.merge_values["COMPANY"] = f"{last} {rng.choice(_TRADE)}"
        member.last_changed = start + number - taken
        audience.recency.touch(member)
    # Hundreds of thousands of objects that live to the end would make every full collection, and
    # so some unlucky request, wait 100 ms.
    gc.freeze()
