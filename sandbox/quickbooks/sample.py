"""Intuit's sample company: 29 customers as public copies of sandbox data show them.

Kept with their oddities: no address (6), one shared by a parent and its jobs (7, 8, 9) and by two
strangers (16, 20), a company name split over three name fields (21), a missing family name (9).
"""

from importlib import resources

import msgspec

from sandbox.quickbooks.company import OtherName
from sandbox.quickbooks.rows import Json, Row, encode
from sandbox.quickbooks.times import from_text


class _Sample(msgspec.Struct):
    next_id: int
    customers: list[Json]
    others: list[OtherName]


def load_sample() -> tuple[list[Row], list[OtherName], int]:
    """Return the customers, the vendors and employees, and the next free id."""
    text = resources.files("sandbox.quickbooks").joinpath("sample_company.json").read_bytes()
    sample = msgspec.json.decode(text, type=_Sample)
    return [_row(body) for body in sample.customers], sample.others, sample.next_id


def _row(body: Json) -> Row:
    return encode(
        body,
        row_id=int(body["Id"]),
        sync_token=int(body["SyncToken"]),
        created=int(from_text(body["MetaData"]["CreateTime"])),
        updated=int(from_text(body["MetaData"]["LastUpdatedTime"])),
    )
