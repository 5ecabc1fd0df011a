"""The Mailchimp client against the mock server, over HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

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
from ml_connector.mailchimp.protocol import auth_headers, base_url_of
from ml_connector.model import MemberWrite, Status
from ml_connector.wire.transport import RequestsTransport
from sandbox.mailchimp.app import create_app
from sandbox.running import serving_in_thread
from tests.client_harness import MockServer, Observed

KEY = "sandbox-key-us99"
AUDIENCE = "a1b2c3d4e5"


class Clients(Observed):
    """Clients of the mock server; what they slept and sent is in view."""

    def __init__(self, standin: MockServer) -> None:
        super().__init__()
        self.standin = standin

    def client(
        self,
        *,
        key: str = KEY,
        host: str | None = None,
        audience: str = AUDIENCE,
        timeout: float = 10.0,
        page_size: int = 1000,
        pages_at_a_time: int = 1,
    ) -> MailchimpClient:
        url = f"{self.standin.url}/3.0" if host is None else host
        return MailchimpClient(
            transport=RequestsTransport(
                requests.Session(), system="Mailchimp", timeout=(2.0, timeout)
            ),
            base_url=base_url_of(key, url),
            audience_id=audience,
            auth=auth_headers(key),
            pace=self.pace,
            retries=self.retries(tries=3),
            calls=self.calls,
            page_size=page_size,
            pages_at_a_time=pages_at_a_time,
        )


@pytest.fixture(scope="module")
def served() -> Iterator[MockServer]:
    with serving_in_thread({"mailchimp": create_app()}) as urls:
        yield MockServer(urls["mailchimp"])


@pytest.fixture
def world(served: MockServer) -> Clients:
    served.control("POST", "reset")
    return Clients(served)


def status_of(world: Clients, email: str) -> str:
    return str(world.standin.control("GET", f"members/{email}")["status"])


def row(email: str = "ada@firm-mail.net", **changes: Any) -> MemberWrite:
    values: dict[str, Any] = {
        "merge_fields": {"FNAME": "Ada"},
        "status_if_new": Status.TRANSACTIONAL,
        **changes,
    }
    return MemberWrite(email_address=email, **values)


def test_account_audience_and_merge_fields_are_read(world: Clients) -> None:
    client = world.client()
    assert client.account()["account_id"]
    assert client.audience()["id"] == AUDIENCE
    assert {"FNAME", "LNAME"} <= {field.tag for field in client.merge_fields()}
    assert client.create_merge_field("PLACE", "Place", "text").tag == "PLACE"
    assert "PLACE" in {field.tag for field in client.merge_fields()}


def test_members_are_created_updated_and_refused_row_by_row(world: Clients) -> None:
    client = world.client()
    first = client.upsert_batch([row(), row("not-an-address"), row("x@example.com")])
    assert [member.status for member in first.created] == [Status.TRANSACTIONAL]
    assert [refused.code for refused in first.refused] == ["invalid_email", "fake_email"]
    assert first.request_id
    second = client.upsert_batch([row(merge_fields={"FNAME": "Augusta"}, tags=("QuickBooks",))])
    assert [member.merge_fields["FNAME"] for member in second.updated] == ["Augusta"]
    member = client.get("Ada@Firm-Mail.net")
    assert member is not None
    assert member.tags == ("QuickBooks",)
    assert member.last_changed is not None


def test_a_member_who_opted_out_is_updated_and_stays_out(world: Clients) -> None:
    world.standin.control(
        "POST", "members", {"email_address": "ada@firm-mail.net", "status": "unsubscribed"}
    )
    result = world.client().upsert_batch([row(status_if_new=Status.SUBSCRIBED)])
    assert [member.status for member in result.updated] == [Status.UNSUBSCRIBED]


def test_single_calls_do_what_they_say(world: Clients) -> None:
    client = world.client()
    assert client.get("ada@firm-mail.net") is None
    assert client.put(row()).status is Status.TRANSACTIONAL
    assert client.patch("ada@firm-mail.net", {"LNAME": "Byron"}).merge_fields["LNAME"] == "Byron"
    client.add_tags("ada@firm-mail.net", ["Inactive"])
    found = client.get("ada@firm-mail.net")
    assert found is not None
    assert found.tags == ("Inactive",)
    client.archive("ada@firm-mail.net")
    client.archive("ada@firm-mail.net")
    assert status_of(world, "ada@firm-mail.net") == "archived"
    assert client.restore(row(status=Status.TRANSACTIONAL)).status is Status.TRANSACTIONAL


def test_what_is_refused_has_a_code(world: Clients) -> None:
    client = world.client()
    with pytest.raises(RecordRefused) as raised:
        client.patch("nobody@firm-mail.net", {"FNAME": "x"})
    assert raised.value.code == "not_found"
    world.standin.control(
        "POST", "members", {"email_address": "ada@firm-mail.net", "status": "pending"}
    )
    with pytest.raises(RecordRefused) as raised:
        client.archive("ada@firm-mail.net")
    assert raised.value.code == "method_not_allowed"


@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_the_batch_contract_is_found_out_and_creates_nobody(world: Clients, contract: str) -> None:
    world.standin.control("PUT", "settings", {"batch_contract": contract})
    try:
        assert contract == world.client().batch_contract()
    finally:
        world.standin.control("PUT", "settings", {"batch_contract": "current"})
    assert world.standin.control("GET", "members")["total_items"] == 0


def test_a_listing_moves_on_by_time_and_misses_nobody(world: Clients) -> None:
    world.standin.control("POST", "members/generate", {"count": 2500})
    client = world.client(pages_at_a_time=3)
    pages = list(client.iter_members(since=None))
    assert len({member.email_address for page in pages for member in page}) == 2500
    assert world.calls["mailchimp.members"] == 3
    recent = datetime.now(UTC) - timedelta(seconds=300)
    assert 290 <= sum(map(len, client.iter_members(since=recent))) <= 310
    assert list(client.iter_members(since=None, archived=True)) == []


def test_a_listing_within_one_second_misses_nobody_while_members_change(world: Clients) -> None:
    client = world.client(page_size=10)
    emails = [f"member{n}@firm-mail.net" for n in range(55)]
    client.upsert_batch([row(email) for email in emails])
    seen: set[str] = set()
    for turn, page in enumerate(client.iter_members(since=None)):
        seen.update(member.email_address for member in page)
        if turn < 5:
            client.patch(emails[turn], {"FNAME": f"Changed{turn}"})
    assert seen == set(emails)


def test_archived_members_are_listed_apart(world: Clients) -> None:
    client = world.client()
    client.upsert_batch([row(), row("bob@firm-mail.net")])
    client.archive("ada@firm-mail.net")
    listed = [
        [
            m.email_address
            for page in client.iter_members(since=None, archived=archived)
            for m in page
        ]
        for archived in (False, True)
    ]
    assert listed == [["bob@firm-mail.net"], ["ada@firm-mail.net"]]


@pytest.mark.parametrize(
    "action",
    [
        {"kind": "status", "status": 429, "headers": {"Retry-After": "3"}},
        {"kind": "html", "status": 403},
        {"kind": "html", "status": 503},
        {"kind": "status", "status": 500, "body": {"title": "Internal Server Error"}},
        {"kind": "malformed"},
    ],
)
def test_d4_a_passing_failure_is_waited_out(world: Clients, action: dict[str, Any]) -> None:
    world.standin.fault(action, times=1)
    world.client().upsert_batch([row()])
    assert status_of(world, "ada@firm-mail.net") == "transactional"
    assert len(world.slept) == 1
    if "headers" in action:
        assert world.slept[0] >= 3


def test_d4_a_block_that_lasts_stops_the_run_which_is_resumable(world: Clients) -> None:
    world.standin.fault({"kind": "html", "status": 403})
    with pytest.raises(QuotaExhausted, match="nothing is lost"):
        world.client().account()
    assert world.calls["mailchimp.account"] == 3


def test_d5_an_answer_lost_after_the_write_is_replayed_without_harm(world: Clients) -> None:
    world.standin.fault({"kind": "drop", "when": "after"}, times=1)
    result = world.client().upsert_batch([row()])
    assert [member.status for member in result.updated] == [Status.TRANSACTIONAL]
    assert world.standin.control("GET", "members")["total_items"] == 1


def test_d6_a_call_without_an_answer_times_out_and_counts_as_lost(world: Clients) -> None:
    world.standin.fault({"kind": "delay", "seconds": 2}, match={"method": "POST"})
    with pytest.raises(ResponseLost):
        world.client(timeout=0.2).upsert_batch([row()])
    assert all(slept >= 5 for slept in world.slept)
    assert status_of(world, "ada@firm-mail.net") == "transactional"


def test_d8_wrong_settings_stop_the_run_with_one_message_that_says_what_to_change(
    world: Clients,
) -> None:
    with pytest.raises(CredentialsError, match="password"):
        world.client(key="wrong-us99").account()
    with pytest.raises(AudienceNotReady, match="audience_id"):
        world.client(audience="ffffffffff").audience()
    with pytest.raises(Unavailable, match="host"):
        world.client(host="http://127.0.0.1:9/3.0").account()
    assert world.calls["mailchimp.account"] == 1 + 3


def test_a26_a_batch_that_breaks_the_schema_is_refused_as_a_whole(world: Clients) -> None:
    with pytest.raises(CallRefused):
        world.client().upsert_batch([row(), row("bob@firm-mail.net", status_if_new=None)])
    assert world.standin.control("GET", "members")["total_items"] == 0
