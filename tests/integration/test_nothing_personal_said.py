"""No log line, exception text or traceback shows a person, whatever a vendor puts into its responses."""

import contextlib
import itertools
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from ml_connector.errors import ConnectorError, Defect, values_withheld
from ml_connector.mailchimp import protocol as mailchimp
from ml_connector.quickbooks import protocol as quickbooks
from ml_connector.wire.transport import Request, Response, Transport

ADDRESS = "zyprian.q@quasten-birds.org"
PERSON = f"Zyprian Quastenflosser <{ADDRESS}>"
MARKS = ("zyprian", "quasten")
AMY, BEN = "amy@finch.org", "ben@finch.org"
RECORDS = frozenset(
    {"Customer", "members", "new_members", "updated_members", "errors", "emails", "abuse_reports"}
)
"""Lists of records in responses; the rest of a response is settings."""
SLICES = 3
STATUSES = (400, 403, 404, 405, 409, 429, 500, 503)

Edit = Callable[[str, Any], Any]


def each_value(found: Any, edit: Edit, *, within: bool = False, name: str = "") -> Any:
    """A document with each value of its records edited, by the name of its attribute."""
    if isinstance(found, list):
        inside = within or name in RECORDS
        return [each_value(each, edit, within=inside, name=name) for each in found]
    if isinstance(found, dict):
        inside = within or name in RECORDS
        return {k: each_value(v, edit, within=inside, name=k) for k, v in found.items()}
    return edit(name, found) if within else found


class Planting:
    """Vendors whose records hold a person where ``edit`` says so. Notes the attributes seen."""

    def __init__(self, company: Any) -> None:
        self.names: set[str] = set()
        self.edit: Edit = lambda _name, value: value
        company.around = lambda _system, transport: _Planted(transport, self)

    def note(self, name: str, value: Any) -> Any:
        self.names.add(name)
        return self.edit(name, value)


class _Planted:
    def __init__(self, transport: Transport, planting: Planting) -> None:
        self._transport, self._planting = transport, planting

    def send(self, request: Request) -> Response:
        response = self._transport.send(request)
        if not 200 <= response.status < 300 or not response.body:
            return response
        document = each_value(msgspec.json.decode(response.body), self._planting.note)
        return replace(response, body=msgspec.json.encode(document))


@pytest.fixture
def planting(company):
    return Planting(company)


@pytest.fixture
def said(capfd, caplog, company) -> Callable[[], str]:
    """All that was printed, logged and stored as an error since the last call."""

    def read() -> str:
        out, err = capfd.readouterr()
        with company.database.begin() as connection:
            plans = connection.execute(
                text("SELECT string_agg(error, ' ') FROM ml_connector.plans")
            ).scalar_one()
            reasons = connection.execute(
                text("""SELECT string_agg(concat_ws(' ', record, reason), ' ')
                        FROM ml_connector.unreadable_records""")
            ).scalar_one()
        return "\n".join([out, err, caplog.text, plans or "", reasons or ""])

    return read


def tried(work: Callable[[], Any]) -> str:
    """The traceback of what was raised, as it would be logged; an error that is none of ours fails."""
    try:
        work()
    except ConnectorError as error:
        return "".join(traceback.format_exception(error))
    return ""


def clean(words: str) -> None:
    found = [line for line in words.splitlines() if any(mark in line.lower() for mark in MARKS)]
    assert found == []


def history(company: Any) -> tuple[str, str]:
    amy = company.customer("Amy", AMY, FamilyName="Finch", Notes="Likes birds")
    ben = company.customer("Ben", BEN, PrimaryPhone={"FreeFormNumber": "555"})
    company.sync()
    company.did(company.campaign(), AMY, "open")
    company.person(BEN, "unsubscribe")
    company.edit(amy, GivenName="Amelia")
    return amy, ben


def run_everything(company: Any, ids: tuple[str, str]) -> str:
    def webhooks() -> None:
        company.told_by_quickbooks(*(("updated", each) for each in ids))
        company.told_by_mailchimp("unsubscribe", email=BEN, action="unsub", reason="manual")
        company.work_off()

    steps = [
        lambda: company.sync(full_sync=True),
        webhooks,
        lambda: company.sync(ids=[ids[0]]),
        lambda: company.fetch(company.scope(), ids=list(ids)),
    ]
    return "\n".join(tried(step) for step in steps)


def test_a_person_in_any_attribute_of_a_record_is_neither_logged_nor_raised(
    company, planting, said
):
    ids = history(company)
    run_everything(company, ids)
    names = sorted(planting.names)
    assert {"Id", "SyncToken", "LastUpdatedTime", "Active", "status", "contact_id"} <= set(names)
    for part in range(SLICES):
        chosen = set(names[part::SLICES])
        planting.edit = lambda name, value, chosen=chosen: PERSON if name in chosen else value
        raised = run_everything(company, ids)
        clean(raised + said())


@pytest.mark.endurance
@pytest.mark.timeout(1200)
def test_a_person_in_each_attribute_of_a_record_is_neither_logged_nor_raised(
    company, planting, said
):
    ids = history(company)
    run_everything(company, ids)
    shapes = itertools.cycle((PERSON, [PERSON], {"value": PERSON}, {PERSON: 1}))
    for chosen, odd in zip(sorted(planting.names), shapes, strict=False):
        planting.edit = lambda name, value, c=chosen, o=odd: o if name == c else value
        raised = run_everything(company, ids)
        clean(raised + said())


def problems() -> Iterator[tuple[str, Any]]:
    words = f"{ADDRESS} is odd, as is ({ADDRESS})."
    told = {"type": words, "title": words, "detail": words, "instance": words}
    yield "mailchimp", told
    yield "mailchimp", {**told, "errors": [{"field": words, "message": words}, words]}
    yield "mailchimp", {"title": "Invalid Resource", "detail": words, "errors": {words: words}}
    for code in ("", words, "6240", "2010", "4001", "4002", "5010", "610", "120", "6190", "3200"):
        error = {"Message": words, "Detail": words, "code": code, "element": words}
        yield "quickbooks", {"Fault": {"Error": [error], "type": words}, "time": words}
        yield "quickbooks", {"fault": {"error": [error, words], "type": words}}


@pytest.mark.endurance
@pytest.mark.timeout(1200)
def test_an_address_in_an_error_of_a_vendor_is_neither_logged_nor_raised(company, said):
    ids = history(company)
    for number, (system, problem) in enumerate(problems()):
        status = STATUSES[number % len(STATUSES)]
        company.fault(
            system,
            match={"path": "(/query|/batch|/lists/.*)$"},
            every=2,
            action={"kind": "status", "status": status, "body": problem},
        )
        raised = run_everything(company, ids)
        with contextlib.suppress(AssertionError):
            company.edit(ids[0], GivenName=f"Amelia {number}")
        company.clear_faults(company.quickbooks)
        company.clear_faults(company.mailchimp)
        clean(raised + said())


@pytest.mark.parametrize("status", STATUSES)
def test_an_address_in_an_error_is_in_no_message(status):
    for system, problem in problems():
        protocol = {"quickbooks": quickbooks, "mailchimp": mailchimp}[system]
        answer = Response(status=status, headers={}, body=msgspec.json.encode(problem))
        with pytest.raises(ConnectorError) as raised:
            protocol.read(answer)
        clean("".join(traceback.format_exception(raised.value)))


def test_an_error_of_the_database_shows_no_value(company):
    twice = text("INSERT INTO ml_connector.watched_syncs (sync) VALUES (:name), (:name)")
    with (
        pytest.raises(Defect, match="IntegrityError") as raised,
        values_withheld(),
        company.database.begin() as connection,
    ):
        connection.execute(twice, {"name": ADDRESS})
    clean("".join(traceback.format_exception(raised.value)))
