"""A bookkeeper: a person who edits customers at QuickBooks' screens while apps write to them.

What the person last set is kept in a ledger, so that a test can say that no human edit was lost.
"""

from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from sandbox.quickbooks import person_notes
from sandbox.quickbooks.company import DELETED_SUFFIX, Company
from sandbox.quickbooks.generate import CITIES, DOMAINS, FAMILY, GIVEN, STREETS, TRADES
from sandbox.quickbooks.problems import FaultError
from sandbox.quickbooks.rows import Json, Row

FIELDS = (
    "DisplayName",
    "GivenName",
    "FamilyName",
    "CompanyName",
    "PrimaryPhone",
    "BillAddr",
    "Notes",
)
ALSO_KNOWN = ("PrimaryEmailAddr",)


@dataclass(frozen=True)
class Lost:
    """A value the person had set and did not find again."""

    customer: str
    field: str
    expected: Any
    found: Any


@dataclass
class Bookkeeper:
    """One person, who changes one field of one customer at a time.

    ``ledger`` has, by customer id and field, the value last set; for Notes it is the person's own
    text, which is somewhere in Notes. ``lost`` are the values that were gone when the person
    came back to change them. ``refused`` counts edits that came to nothing: the name was taken, the
    Notes were full, the customer was inactive or gone.
    """

    company: Company
    edits: int = 0
    refused: int = 0
    ledger: dict[str, Json] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)

    def edit(self, customer_id: str, name: str, random: Random) -> bool:
        """Read a customer as it is now, change one field and save; say whether it was saved."""
        try:
            row = self.company.find(customer_id)
            saved = row.active and self._change(row, name, random)
        except FaultError:
            saved = False
        if saved:
            self.edits += 1
        else:
            self.refused += 1
        return saved

    def missing(self) -> list[Lost]:
        """Compare the ledger with every customer that is still there, as they are now."""
        found: list[Lost] = []
        for customer_id, values in self.ledger.items():
            row = self.company.rows.get(int(customer_id))
            if row is not None:
                body = row.body()
                for name in values:
                    found += self._look(customer_id, name, body)
        return found

    def state(self) -> dict[str, Any]:
        """Describe the person's work for ``GET /_sandbox/bookkeeper``."""
        return {
            "edits": self.edits,
            "refused": self.refused,
            "ledger": self.ledger,
            "lost": [asdict(each) for each in self.lost],
            "missing": [asdict(each) for each in self.missing()],
        }

    def _change(self, row: Row, name: str, random: Random) -> bool:
        body = row.body()
        customer_id = str(row.id)
        gone = self._look(customer_id, name, body)
        self.lost += gone
        mine = self.ledger.setdefault(customer_id, {})
        if name == "Notes":
            own = "" if gone else mine.get("Notes", "")
            new = person_notes.altered(own, random, self.edits + 1)
            on_top = random.random() < 0.5
            value: Any = person_notes.replaced(body.get("Notes", ""), own, new, on_top=on_top)
            if value is None:
                return False
        else:
            new = value = self._new_value(name, body, random)
        changed = self.company.edit(customer_id, {name: value})
        mine[name] = new if name == "Notes" else changed.body()[name]
        return changed.sync_token > row.sync_token

    def _new_value(self, name: str, body: Json, random: Random) -> Any:
        number = self.edits + 1
        if name == "DisplayName":
            return f"{random.choice(FAMILY)} {random.choice(TRADES)} {body['Id']}-{number}"
        if name == "PrimaryPhone":
            return {"FreeFormNumber": f"(415) 555-{number % 10000:04d}"}
        if name == "PrimaryEmailAddr":
            return {"Address": f"customer{body['Id']}.{number}@{random.choice(DOMAINS)}"}
        if name == "BillAddr":
            city, state, postal_code = random.choice(CITIES)
            place = {"City": city, "CountrySubDivisionCode": state, "PostalCode": postal_code}
            line = {"Line1": f"{number} {random.choice(STREETS)}"}
            return body.get("BillAddr", place) | line
        texts = {"GivenName": GIVEN, "FamilyName": FAMILY}.get(name)
        texts = texts or [f"{family} {trade} Co." for family in FAMILY for trade in TRADES]
        return random.choice([text for text in texts if text != body.get(name)])

    def _look(self, customer_id: str, name: str, body: Json) -> list[Lost]:
        expected = self.ledger.get(customer_id, {}).get(name)
        found = body.get(name)
        if expected is None or _same(name, expected, found):
            return []
        return [Lost(customer_id, name, expected, found)]


def _same(name: str, expected: Any, found: Any) -> bool:
    if name == "Notes":
        return str(expected) in str(found or "")
    if name == "DisplayName":
        return bool(str(found).removesuffix(DELETED_SUFFIX) == expected)
    if name == "BillAddr":
        return bool({**(found or {}), "Id": ""} == {**expected, "Id": ""})
    return bool(found == expected)
