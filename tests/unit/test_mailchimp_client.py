"""The Mailchimp client's rules: bounded repetition, complete listings, harmless replays."""

import random
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.errors import (
    AudienceNotReady,
    CallRefused,
    CredentialsError,
    QuotaExhausted,
    RecordRefused,
    ResponseLost,
    Unavailable,
)
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.mailchimp.protocol import subscriber_hash
from ml_connector.model import MemberWrite, Status
from ml_connector.wire.transport import Request, Response
from tests.client_harness import Observed, Scripted

SAMPLES = Path(__file__).parent / "samples"
START = datetime(2026, 10, 1, tzinfo=UTC)


def sample(status: int, name: str) -> Response:
    body = (SAMPLES / f"mailchimp_{name}").read_bytes() if name else b""
    return Response(status=status, headers={"x-request-id": "r-1"}, body=body)


def said(document: object, status: int = 200) -> Response:
    return Response(status=status, headers={}, body=msgspec.json.encode(document))


class Bench(Observed):
    """A client around a transport, with its pauses and counts in view."""

    def __init__(self, transport: Any, **options: Any) -> None:
        super().__init__()
        self.client = MailchimpClient(
            transport=transport,
            base_url="https://us19.test/3.0",
            audience_id="a1b2c3d4e5",
            auth={"Authorization": "Bearer key"},
            pace=self.pace,
            retries=self.retries(chance=lambda: 0.5),
            calls=self.calls,
            **options,
        )


def row(email: str = "ada@firm.test", **changes: Any) -> MemberWrite:
    return MemberWrite(email_address=email, merge_fields={"FNAME": "Ada"}, **changes)


@pytest.mark.parametrize(
    "failure",
    [
        sample(429, ""),
        sample(429, "too_many_requests.json"),
        sample(403, "edge_block.html"),
        sample(503, ""),
        sample(500, "server_error.json"),
    ],
)
def test_d4_what_may_pass_is_repeated(failure: Response) -> None:
    bench = Bench(Scripted(failure, said({"account_name": "Company"})))
    assert bench.client.account() == {"account_name": "Company"}
    assert (bench.paced, bench.calls["mailchimp.account"], bench.slept) == (2, 2, [0.5])


def test_d4_a_block_that_lasts_stops_the_run_which_is_resumable() -> None:
    bench = Bench(Scripted(*[sample(403, "edge_block.html")] * 5))
    with pytest.raises(QuotaExhausted, match=r"blocked.*nothing is lost"):
        bench.client.account()


def test_d6_a_timed_out_call_is_not_repeated_at_once() -> None:
    transport = Scripted(ResponseLost("no answer"), sample(200, "batch.json"))
    bench = Bench(transport)
    bench.client.upsert_batch([row()])
    assert bench.slept == [5.5]
    assert transport.sent[0] == transport.sent[1]


def test_d8_a_wrong_key_is_not_tried_twice() -> None:
    transport = Scripted(sample(401, "key_invalid.json"))
    with pytest.raises(CredentialsError):
        Bench(transport).client.account()
    assert len(transport.sent) == 1


def test_every_call_carries_the_key_and_goes_to_the_audience() -> None:
    transport = Scripted(said({"name": "News"}), sample(200, "merge_fields.json"))
    client = Bench(transport).client
    assert client.audience() == {"name": "News"}
    (field,) = client.merge_fields()
    assert (field.tag, field.type, field.required) == ("PHONE", "phone", False)
    assert [sent.url for sent in transport.sent] == [
        "https://us19.test/3.0/lists/a1b2c3d4e5",
        "https://us19.test/3.0/lists/a1b2c3d4e5/merge-fields",
    ]
    assert transport.sent[1].params["count"] == "1000"
    assert {sent.headers["Authorization"] for sent in transport.sent} == {"Bearer key"}


@pytest.mark.parametrize(
    "ask",
    [
        MailchimpClient.audience,
        MailchimpClient.merge_fields,
        lambda client: list(client.iter_members(since=None)),
        lambda client: client.upsert_batch([row()]),
    ],
)
def test_an_audience_that_is_not_there_is_named(ask: Callable[[MailchimpClient], Any]) -> None:
    with pytest.raises(AudienceNotReady, match=r"no audience a1b2c3d4e5.*syncs\.yaml"):
        ask(Bench(Scripted(sample(404, "not_found.json"))).client)


def test_a_new_merge_field_is_optional_and_not_public() -> None:
    transport = Scripted(said({"tag": "COMPANY", "name": "Company", "type": "text"}))
    assert Bench(transport).client.create_merge_field("COMPANY", "Company", "text").tag == "COMPANY"
    assert msgspec.json.decode(transport.sent[0].body or b"") == {
        "tag": "COMPANY",
        "name": "Company",
        "type": "text",
        "required": False,
        "public": False,
    }


# ── writes ────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_reports_each_row_and_the_request() -> None:
    sent = [row(f"{name}@firm.test") for name in ("new", "ada", "gone", "odd")]
    result = Bench(Scripted(sample(200, "batch.json"))).client.upsert_batch(sent)
    assert (len(result.created), len(result.updated), len(result.refused)) == (1, 1, 2)
    assert result.request_id == "r-1"


def test_an_empty_batch_costs_no_call() -> None:
    bench = Bench(Scripted())
    assert bench.client.upsert_batch([]).created == ()
    assert not bench.calls


@pytest.mark.parametrize("name", ["schema.json", "too_many_members.json", "merge_address.json"])
def test_a26_any_refusal_of_a_whole_batch_can_be_halved(name: str) -> None:
    with pytest.raises(CallRefused):
        Bench(Scripted(sample(400, name))).client.upsert_batch([row()])


@pytest.mark.parametrize(
    ("contract", "answer"),
    [
        (
            "current",
            said({"errors": [{"email_address": "not-an-address", "error": "Please provide ..."}]}),
        ),
        ("current", sample(400, "invalid_email.json")),
        ("status_required", sample(400, "schema.json")),
    ],
)
def test_the_batch_contract_is_found_out_without_a_member(contract: str, answer: Response) -> None:
    transport = Scripted(answer)
    assert contract == Bench(transport).client.batch_contract()
    (sent,) = transport.sent
    assert msgspec.json.decode(sent.body or b"")["members"] == [
        {"email_address": "not-an-address", "status_if_new": "transactional"}
    ]


def test_an_unclear_answer_to_the_probe_is_not_guessed_at() -> None:
    with pytest.raises(CallRefused):
        Bench(Scripted(sample(400, "too_many_members.json"))).client.batch_contract()


def test_single_members_are_written_by_their_hash() -> None:
    transport = Scripted(*[sample(200, "member.json")] * 2)
    client = Bench(transport).client
    client.put(row("Ada@Firm.test", status_if_new=Status.TRANSACTIONAL))
    client.patch("ada@firm.test", {"LNAME": ""})
    place = f"https://us19.test/3.0/lists/a1b2c3d4e5/members/{subscriber_hash('ada@firm.test')}"
    assert [(sent.method, sent.url) for sent in transport.sent] == [
        ("PUT", place),
        ("PATCH", place),
    ]
    assert transport.sent[1].body == b'{"merge_fields":{"LNAME":""}}'


def test_a_member_that_is_not_there_is_none() -> None:
    assert Bench(Scripted(sample(404, "not_found.json"))).client.get("ada@firm.test") is None


def test_a18_only_a_restoration_sets_a_status() -> None:
    transport = Scripted(sample(200, "member.json"))
    client = Bench(transport).client
    client.restore(row(status=Status.UNSUBSCRIBED, status_if_new=Status.SUBSCRIBED))
    body = msgspec.json.decode(transport.sent[0].body or b"")
    assert body["status"] == "unsubscribed"
    assert "status_if_new" not in body
    with pytest.raises(ValueError, match="status"):
        client.restore(row())


def test_d5_archiving_the_archived_is_harmless() -> None:
    archived = said({"email_address": "ada@firm.test", "status": "archived"})
    transport = Scripted(ResponseLost("no answer"), sample(405, "cannot_archive.json"), archived)
    Bench(transport).client.archive("ada@firm.test")
    assert [sent.method for sent in transport.sent] == ["DELETE", "DELETE", "GET"]


def test_a16b_a_pending_member_is_not_archived_and_that_is_said() -> None:
    pending = said({"email_address": "ada@firm.test", "status": "pending"})
    with pytest.raises(RecordRefused) as raised:
        Bench(Scripted(sample(405, "cannot_archive.json"), pending)).client.archive("ada@firm.test")
    assert raised.value.code == "method_not_allowed"


def test_tags_set_off_no_automation() -> None:
    transport = Scripted(sample(204, ""))
    Bench(transport).client.add_tags("ada@firm.test", ["Inactive"], active=False)
    assert msgspec.json.decode(transport.sent[0].body or b"") == {
        "tags": [{"name": "Inactive", "status": "inactive"}],
        "is_syncing": True,
    }


# ── listings ──────────────────────────────────────────────────────────────────────────────────


class Audience:
    """Members in memory; ``included`` says whether ``since_last_changed`` includes its second.

    ``meddle`` is called after every answer and may change members (their time moves to now);
    ``before`` with the offset before an answer is made, by the thread that asks.
    """

    def __init__(
        self,
        times: dict[str, datetime],
        *,
        included: bool = True,
        nulls: Collection[str] = (),
    ) -> None:
        self.nulls = nulls
        self.times, self.included, self.queries = dict(times), included, 0
        self.now = max(times.values(), default=START) + timedelta(minutes=1)
        self.meddle: Callable[[], None] = lambda: None
        self.before: Callable[[int], None] = lambda _: None
        self.answering = threading.Lock()

    def touch(self, id_: str) -> None:
        self.now += timedelta(seconds=1)
        self.times[id_] = self.now

    def send(self, request: Request) -> Response:
        self.before(int(request.params["offset"]))
        with self.answering:
            return self._answered(request.params)

    def _answered(self, params: Mapping[str, str]) -> Response:
        self.queries += 1
        since = params.get("since_last_changed")
        floor = datetime.fromisoformat(since) if since else datetime.min.replace(tzinfo=UTC)
        rows = sorted(
            (time, id_)
            for id_, time in self.times.items()
            if time > floor or (self.included and time == floor)
        )
        offset = int(params["offset"])
        members = [
            None
            if id_ in self.nulls
            else {"contact_id": id_, "status": "subscribed", "last_changed": time.isoformat()}
            for time, id_ in rows[offset : offset + int(params["count"])]
        ]
        self.meddle()
        return said({"members": members, "total_items": len(rows)})


def read(
    audience: Audience, size: int, since: datetime | None = None, *, pages: int = 1
) -> list[str]:
    client = Bench(audience, page_size=size, pages_at_a_time=pages).client
    return [member.contact_id for page in client.iter_members(since=since) for member in page]


members = st.lists(st.integers(0, 15), max_size=60)


@given(
    seconds=members,
    size=st.integers(2, 9),
    included=st.booleans(),
    since=st.integers(-1, 15),
    pages=st.sampled_from([1, 3]),
)
def test_every_member_comes_once_whatever_the_ties(
    seconds: list[int], size: int, included: bool, since: int, pages: int
) -> None:
    times = {str(n): START + timedelta(seconds=second) for n, second in enumerate(seconds)}
    floor = None if since < 0 else START + timedelta(seconds=since)
    ids = read(Audience(times, included=included), size, floor, pages=pages)
    expected = [
        id_
        for id_, time in times.items()
        if floor is None or time > floor or (included and time == floor)
    ]
    assert sorted(expected) == sorted(ids)


@given(
    numbers=st.integers(0, 60),
    size=st.integers(3, 9),
    every=st.integers(2, 5),
    included=st.booleans(),
)
def test_members_that_are_null_are_counted_one_by_one_over_all_pages(
    numbers: int, size: int, every: int, included: bool
) -> None:
    times = {f"{n:02}": START + timedelta(seconds=n) for n in range(numbers)}
    nulls = {id_ for n, id_ in enumerate(times) if n % every == 1}
    client = Bench(Audience(times, included=included, nulls=nulls), page_size=size).client
    pages = list(client.iter_members(since=None))
    assert {member.contact_id for page in pages for member in page} == set(times) - nulls
    unreadable = [row.record for page in pages for row in page.unreadable]
    assert len(unreadable) == len(set(unreadable)) == len(nulls)


@given(seconds=members, size=st.integers(2, 9), included=st.booleans(), data=st.data())
def test_no_member_is_missed_while_others_change(
    seconds: list[int], size: int, included: bool, data: st.DataObject
) -> None:
    times = {str(n): START + timedelta(seconds=second) for n, second in enumerate(seconds)}
    audience = Audience(times, included=included)

    def meddle() -> None:
        if audience.queries < 40:
            for id_ in data.draw(st.lists(st.sampled_from(sorted(times)), max_size=3)):
                audience.touch(id_)

    if times:
        audience.meddle = meddle
    assert set(times) == set(read(audience, size))


@given(seconds=members, size=st.integers(2, 9), included=st.booleans(), seed=st.integers(0))
def test_no_member_is_missed_while_others_change_between_pages_read_in_parallel(
    seconds: list[int], size: int, included: bool, seed: int
) -> None:
    times = {str(n): START + timedelta(seconds=second) for n, second in enumerate(seconds)}
    audience, chance = Audience(times, included=included), random.Random(seed)

    def meddle() -> None:
        if times and audience.queries < 40:
            for id_ in chance.sample(sorted(times), min(len(times), chance.randrange(4))):
                audience.touch(id_)

    audience.meddle = meddle
    assert set(times) == set(read(audience, size, pages=3))


def test_a_member_that_changes_after_the_last_page_was_read_ahead_is_not_missed() -> None:
    audience, ahead = Audience(dict.fromkeys("012345678", START)), threading.Event()

    def before(offset: int) -> None:
        if offset == 3 and not ahead.is_set():
            assert ahead.wait(60)
            audience.touch("4")

    def meddle() -> None:
        if audience.queries == 2:  # the page at 6, with those at the end
            ahead.set()

    audience.before, audience.meddle = before, meddle
    assert set(read(audience, 4, pages=2)) == set("012345678")


def test_no_more_pages_are_in_flight_than_connections_are_given() -> None:
    audience, busy, most = Audience(dict.fromkeys(map(str, range(99)), START)), [0], [0]
    together = threading.Barrier(3)

    def before(offset: int) -> None:
        if 0 < offset <= 6:
            together.wait(60)  # three are in flight at once
        with audience.answering:
            busy[0] += 1
            most[0] = max(most[0], busy[0])

    def meddle() -> None:
        busy[0] -= 1

    audience.before, audience.meddle = before, meddle
    assert len(read(audience, 3, pages=3)) == 99
    assert most[0] <= 3


def test_a_row_that_went_to_the_end_does_not_pass_for_the_one_left_behind() -> None:
    audience = Audience(dict.fromkeys("012", START))

    def meddle() -> None:
        if audience.queries == 1:
            audience.touch("1")
            audience.touch("0")

    audience.meddle = meddle
    assert set(read(audience, 2)) == {"0", "1", "2"}


def test_rows_that_leave_while_the_page_before_is_read_again_hide_none() -> None:
    audience = Audience(dict.fromkeys("0123456789", START))
    leaving = {4: "03", 5: "124"}

    def meddle() -> None:
        for id_ in leaving.get(audience.queries, ""):
            audience.touch(id_)

    audience.meddle = meddle
    assert set(read(audience, 3)) == set("0123456789")


def test_a_listing_without_a_stable_order_is_given_up() -> None:
    class Shuffled(Audience):
        def send(self, request: Request) -> Response:
            self.times = dict(zip(self.times, reversed(self.times.values()), strict=True))
            return super().send(request)

    times = {str(n): START + timedelta(microseconds=n) for n in range(9)}
    with pytest.raises(Unavailable, match="order"):
        read(Shuffled(times), 2)


@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("a_second", [1, 7, 40, 300, 5000])
def test_a_long_listing_costs_little_more_than_its_pages(a_second: int, pages: int) -> None:
    times = {f"{n:05}": START + timedelta(seconds=n // a_second) for n in range(5000)}
    audience = Audience(times)
    assert len(read(audience, 100, pages=pages)) == 5000
    assert audience.queries <= 50 * (1 + min(2 * a_second, 50) / 100) + 2


def test_a_quiet_day_costs_one_call() -> None:
    audience = Audience({"1": START})
    assert read(audience, 1000, START + timedelta(hours=1), pages=3) == []
    assert audience.queries == 1
