"""Mailchimp's wire format, read from recorded answers."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from ml_connector.errors import (
    CallRefused,
    CredentialsError,
    NeedsReauth,
    RateLimited,
    RecordRefused,
    SettingsError,
    Unavailable,
)
from ml_connector.mailchimp import problems, protocol
from ml_connector.model import Member, MemberWrite, Status, Unreadable
from ml_connector.wire.formats import impersonal
from ml_connector.wire.transport import Response

SAMPLES = Path(__file__).parent / "samples"
REQUEST_ID = "a1b2c3d4-0000-4000-8000-000000000001"


def answer(status: int, sample: str, **headers: str) -> Response:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    body = (SAMPLES / f"mailchimp_{sample}").read_bytes() if sample else b""
    return Response(status=status, headers={"x-request-id": REQUEST_ID, **found}, body=body)


@pytest.mark.parametrize(
    ("error", "status", "sample"),
    [
        (NeedsReauth, 401, "key_invalid.json"),
        (NeedsReauth, 401, ""),
        (CredentialsError, 403, "forbidden.json"),
        (RateLimited, 403, "edge_block.html"),
        (RateLimited, 403, ""),
        (RateLimited, 503, "edge_block.html"),
        (RateLimited, 429, "edge_block.html"),
        (RateLimited, 429, ""),
        (RateLimited, 429, "too_many_requests.json"),
        (RecordRefused, 404, "not_found.json"),
        (RecordRefused, 405, "cannot_archive.json"),
        (CallRefused, 400, "schema.json"),
        (CallRefused, 400, "too_many_members.json"),
        (Unavailable, 500, "server_error.json"),
        (Unavailable, 503, "server_error.json"),
        (Unavailable, 502, "edge_block.html"),
        (Unavailable, 200, "edge_block.html"),
        (SettingsError, 404, "edge_block.html"),
        (SettingsError, 302, ""),
    ],
)
def test_d4_every_recorded_problem_is_understood_and_carries_the_request_id(
    error: type[Exception], status: int, sample: str
) -> None:
    with pytest.raises(error) as raised:
        protocol.read(answer(status, sample))
    assert type(raised.value) is error
    assert raised.value.request_id == REQUEST_ID


@pytest.mark.parametrize(
    ("code", "status", "sample"),
    [
        ("compliance", 400, "compliance.json"),
        ("forgotten", 400, "forgotten.json"),
        ("member_exists", 400, "member_exists.json"),
        ("member_exists", 400, "member_exists_old.json"),
        ("invalid_email", 400, "invalid_email.json"),
        ("fake_email", 400, "fake_email.json"),
        ("merge_fields", 400, "merge_number.json"),
        ("merge_fields", 400, "merge_address.json"),
        ("signup_throttled", 400, "signup_throttled.json"),
        ("not_found", 404, "not_found.json"),
        ("method_not_allowed", 405, "cannot_archive.json"),
    ],
)
def test_a22_a23_a24_what_is_wrong_with_a_member_has_a_code_and_no_address(
    code: str, status: int, sample: str
) -> None:
    with pytest.raises(RecordRefused) as raised:
        protocol.read(answer(status, sample))
    assert (type(raised.value), raised.value.code) == (RecordRefused, code)
    assert "@" not in str(raised.value)


def test_a_refused_merge_field_is_named() -> None:
    with pytest.raises(RecordRefused, match=r"ADDRESS: Please enter a complete address"):
        protocol.read(answer(400, "merge_address.json"))


def test_d8_a_wrong_key_and_a_wrong_data_centre_say_what_to_change() -> None:
    with pytest.raises(CredentialsError, match=r"password.*host.*data centre"):
        protocol.read(answer(401, "key_invalid.json"))


def test_an_edge_block_keeps_its_reference_for_the_support_ticket() -> None:
    with pytest.raises(RateLimited, match=r"reference 18\.2d351ab8\.1557333295\.a4e16ab"):
        protocol.read(answer(403, "edge_block.html"))


@pytest.mark.parametrize(
    ("wait", "header"), [(None, ""), (7.0, "7"), (None, "soon"), (3600.0, "604800")]
)
def test_retry_after_is_honoured_if_present(wait: float | None, header: str) -> None:
    with pytest.raises(RateLimited) as raised:
        protocol.read(answer(429, "too_many_requests.json", retry_after=header))
    assert wait == raised.value.retry_after


def told(body: bytes, status: int = 200) -> Response:
    return Response(status=status, headers={}, body=body)


def test_of_a_batch_nothing_is_decoded_but_what_is_read() -> None:
    body = b'{"new_members": [{"status": "cleaned", "vip": true}], "updated_members": null, "x": 1}'
    read = protocol.read(told(body), protocol.BatchDocument)
    assert read == {"new_members": [{"status": "cleaned"}], "updated_members": None}


def test_an_answer_of_another_shape_is_none() -> None:
    with pytest.raises(Unavailable):
        protocol.read(told(b'{"members": {"0": {}}}'), protocol.MembersPage)


def test_a_problem_is_read_whatever_shape_was_expected() -> None:
    response = answer(400, "schema.json")
    with pytest.raises(CallRefused):
        protocol.read(response, protocol.BatchDocument)


def test_an_empty_success_is_an_empty_document() -> None:
    assert protocol.read(answer(204, "")) == {}


@pytest.mark.parametrize(
    ("code", "words", "error_code", "field"),
    [
        ("member_exists", "x@y.test is already a list member", "ERROR_CONTACT_EXISTS", ""),
        ("member_exists", "anything", "ERROR_CONTACT_EXISTS", ""),
        ("compliance", "x@y.test is in a compliance state due to ...", "ERROR_GENERIC", ""),
        ("forgotten", "x@y.test was permanently deleted and cannot", "ERROR_GENERIC", ""),
        ("fake_email", "x@example.com looks fake or invalid, please", "ERROR_GENERIC", ""),
        ("signup_throttled", "x@y.test has signed up to a lot of lists", "ERROR_GENERIC", ""),
        ("invalid_email", "Please provide a valid email address.", "ERROR_GENERIC", ""),
        ("invalid_email", "An email address must contain a single @", "ERROR_GENERIC", ""),
        ("invalid_email", "This value should not be blank.", "ERROR_GENERIC", "email_address"),
        ("merge_fields", "Please enter a number", "ERROR_GENERIC", "LTV"),
        ("merge_fields", "Your merge fields were invalid.", "ERROR_GENERIC", ""),
        ("invalid", "Something new", "ERROR_GENERIC", ""),
        ("invalid", "", "", ""),
    ],
)
def test_rows_of_a_batch_get_the_same_codes(
    code: str, words: str, error_code: str, field: str
) -> None:
    assert code == problems.classify_row_error(words, error_code, field)


@pytest.mark.parametrize(
    ("expected", "text", "email"),
    [
        ("the address is odd", "a.b+c@d.test is odd", ""),
        ('"the address" is odd, the address.', '"a@b" is odd, c@d.test.', ""),
        ("the address is odd", "Not-An-Address is odd", "not-an-address"),
    ],
)
def test_addresses_are_taken_out_of_vendor_words(expected: str, text: str, email: str) -> None:
    assert expected == impersonal(text, email)


def rows(*emails: str) -> list[MemberWrite]:
    return [MemberWrite(email_address=email, merge_fields={}) for email in emails]


def test_every_row_of_a_batch_ends_in_exactly_one_of_three_ways() -> None:
    sent = rows(
        "new@firm.test", "ada@firm.test", "gone@firm.test", "odd@firm.test", "hush@firm.test"
    )
    result = protocol.parse_batch(protocol.read(answer(200, "batch.json")), sent, REQUEST_ID)
    assert [member.email_address for member in result.created] == ["new@firm.test"]
    assert [member.status for member in result.updated] == [Status.UNSUBSCRIBED]
    assert [(row.email_address, row.code) for row in result.refused] == [
        ("gone@firm.test", "forgotten"),
        ("odd@firm.test", "merge_fields"),
        ("hush@firm.test", "unanswered"),
    ]
    assert all("@" not in row.message for row in result.refused)
    assert "ADDRESS: Please enter a complete address" in result.refused[1].message


@pytest.mark.parametrize(
    "errors",
    [
        [{"email_address": ""}],
        [{"email_address": None}],
        [{}],
        [{"email_address": 7, "error": "no"}],
        [None, "text", 3, []],
        [{"email_address": "ben@firm.test"}, {"email_address": "ben@firm.test"}],
        None,
    ],
)
def test_a24a_a_row_that_no_answer_can_be_matched_to_is_unanswered_alone(errors) -> None:
    document = {
        "new_members": [{"email_address": " AMY@Firm.test", "status": "subscribed"}],
        "updated_members": [{"email_address": "cat@firm.test", "status": "dormant"}],
        "errors": errors,
    }
    response = told(msgspec.json.encode(document))
    read = protocol.read(response, protocol.BatchDocument)
    sent = rows("amy@firm.test", "ben@firm.test", "cat@firm.test")
    result = protocol.parse_batch(read, sent, REQUEST_ID)
    assert [each.email_address for each in result.created] == ["amy@firm.test"]
    assert [(each.email_address, each.code) for each in result.refused] == [
        ("ben@firm.test", "unanswered"),
        ("cat@firm.test", "unanswered"),
    ]


def test_a24a_an_answer_is_matched_however_it_spells_the_address() -> None:
    document = {"updated_members": [{"email_address": "Amy@BÜCHER.de ", "status": "pending"}]}
    result = protocol.parse_batch(document, rows("amy@xn--bcher-kva.de"))
    assert [each.email_address for each in result.updated] == ["amy@xn--bcher-kva.de"]


def test_a_row_whose_text_is_broken_costs_no_other_row() -> None:
    rows = [
        rb'{"email_address": "a@b.test", "merge_fields": {"FNAME": "Bo\ud83d"}}',
        b'{"email_address": "c@d.test", "merge_fields": {"FNAME": "\xff\xfeCy"}}',
        b"7",
    ]
    body = b'{"members": [' + b",".join(rows) + b"]}"
    read = protocol.read(told(body), protocol.MembersPage)
    assert read["members"][0]["merge_fields"] == {"FNAME": "Bo"}
    assert read["members"][1]["merge_fields"] == {"FNAME": "Cy"}


def test_a_member_is_read_with_an_aware_time() -> None:
    member = protocol.parse_member(protocol.read(answer(200, "member.json")))
    assert isinstance(member, Member)
    assert member.status is Status.UNSUBSCRIBED
    assert member.last_changed == datetime(2021, 12, 3, 1, 2, 3, tzinfo=UTC)
    assert member.merge_fields == {"FNAME": "Ada", "LTV": 3, "ADDRESS": ""}
    assert (member.contact_id, member.tags) == ("c0ffee", ("QuickBooks",))


def test_a55_a_member_of_an_unknown_status_is_not_read_and_not_quoted() -> None:
    member = protocol.parse_member({"email_address": "a@b.test", "status": "dormant"})
    assert isinstance(member, Unreadable)
    assert member.reason == "this version does not know its status"
    assert member.email_address == "a@b.test"
    assert "a@b" not in repr(member)


def test_a_row_mentions_only_what_is_set() -> None:
    bare = MemberWrite(email_address="a@b.test", merge_fields={})
    full = MemberWrite(
        email_address="a@b.test",
        merge_fields={"FNAME": ""},
        tags=("QuickBooks",),
        status_if_new=Status.TRANSACTIONAL,
    )
    assert protocol.member_body(bare) == {"email_address": "a@b.test"}
    assert protocol.member_body(full) == {
        "email_address": "a@b.test",
        "merge_fields": {"FNAME": ""},
        "tags": ["QuickBooks"],
        "status_if_new": "transactional",
    }


def test_a_batch_updates_the_known_and_never_replaces_tags_or_skips_validation() -> None:
    assert protocol.batch_body(rows("a@b.test")) == {
        "members": [{"email_address": "a@b.test"}],
        "update_existing": True,
    }
    with pytest.raises(ValueError, match="500"):
        protocol.batch_body(rows(*["a@b.test"] * 501))


def test_members_are_asked_for_in_order_of_change_and_by_the_thousand() -> None:
    since = datetime(2026, 10, 1, tzinfo=UTC)
    params = protocol.members_params(since=since, archived=True, offset=0)
    assert params["since_last_changed"] == "2026-10-01T00:00:00Z"
    assert (params["sort_field"], params["sort_dir"]) == ("last_changed", "ASC")
    assert (params["count"], params["status"]) == ("1000", "archived")
    assert "members.last_changed" in params["fields"].split(",")
    listing = protocol.members_params(since=None, archived=False, offset=0)
    assert not {"since_last_changed", "status"} & set(listing)


@pytest.mark.parametrize(
    ("expected", "key", "host"),
    [
        ("https://us19.api.mailchimp.com/3.0", "0123456789abcdef-us19", ""),
        ("http://127.0.0.1:9420/3.0", "k-us19", "http://127.0.0.1:9420/3.0/"),
        ("https://us6.api.mailchimp.com/3.0", "token", "us6.api.mailchimp.com/3.0"),
        ("https://us6.api.mailchimp.com/3.0", "token", "us6.api.mailchimp.com/"),
        ("http://127.0.0.1:9420/proxied", "token", "http://127.0.0.1:9420/proxied"),
    ],
)
def test_the_base_url_comes_from_the_host_or_the_key(expected: str, key: str, host: str) -> None:
    assert expected == protocol.base_url_of(key, host)


@pytest.mark.parametrize("key", ["", "abcdef", "abc-", "abc-us19.evil.test", "abc-US19", "abc-us"])
def test_d8_a_key_without_a_data_centre_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(CredentialsError, match="data centre") as raised:
        protocol.base_url_of(key)
    assert not key or key not in str(raised.value)


def test_keys_go_as_basic_and_tokens_as_bearer() -> None:
    assert protocol.auth_headers("abc-us19")["Authorization"].startswith("Basic ")
    assert protocol.auth_headers("abc")["Authorization"] == "Bearer abc"


def test_members_are_known_by_the_md5_of_the_lower_cased_address() -> None:
    known = "5d41402abc4b2a76b9719d911017c592"
    assert known == protocol.subscriber_hash("HELLO")


def test_a_request_has_an_absolute_url_and_a_json_body() -> None:
    request = protocol.request("PUT", "https://us19.test/3.0/", "lists/l", body={"a": 1})
    assert request.url == "https://us19.test/3.0/lists/l"
    assert msgspec.json.decode(request.body or b"") == {"a": 1}
    assert request.headers["Content-Type"] == "application/json"
