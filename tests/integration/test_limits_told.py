"""Limits of an account told as what they are: one stop with one sentence (A56)."""

import hashlib

import pytest

from ml_connector.errors import CreationRefused, CredentialsError, QueryRefused, UpdatesRefused
from ml_connector.mailchimp.problems import _REFUSALS, classify_row_error
from ml_connector.model import Kind
from ml_connector.sync.bisect import PROBES
from ml_connector.sync.calls import EveryOneRefused
from ml_connector.sync.push import THREADS
from ml_connector.sync.room import Room

AMY = "amy@finch.org"


def test_a56_a_full_plan_is_one_sentence_and_known_contacts_are_kept_up_to_date(company, contract):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.mailchimp_control("PUT", "settings", {"contact_limit": 1})
    company.edit(amy, GivenName="Amelia")
    names = [f"c{number}" for number in range(5)]
    for name in names:
        company.customer(name, f"{name}@finch.org")
    with pytest.raises(CreationRefused) as raised:
        company.sync()
    assert str(raised.value).startswith(
        "The Mailchimp plan allows 1 contacts; this run needs 5 more."
    )
    assert company.fields(AMY) == {"FNAME": "Amelia"}
    assert list(company.statuses()) == [AMY]
    assert [entry for entry in company.audit() if entry["outcome"] == "failed"] == []
    company.mailchimp_control("PUT", "settings", {"contact_limit": 0})
    company.sync()
    assert company.statuses() == dict.fromkeys(
        [AMY, *(f"{name}@finch.org" for name in names)], "subscribed"
    )


def test_a56_a_plan_with_room_for_some_takes_those(company, contract):
    company.mailchimp_control("PUT", "settings", {"contact_limit": 2})
    for number in range(4):
        company.customer(f"c{number}", f"c{number}@finch.org")
    with pytest.raises(CreationRefused, match="needs 2 more"):
        company.sync()
    assert len(company.statuses()) == 2
    company.mailchimp_control("PUT", "settings", {"contact_limit": 0})
    company.pass_time(hours=2)
    company.sync()
    assert len(company.statuses()) == 4


@pytest.mark.parametrize("status", [400, 403])
def test_a56_a_full_plan_told_by_refusing_the_whole_call_is_not_bisected(company, status):
    problem = {
        "title": "Limit",
        "status": status,
        "detail": "Your plan allows 500 contacts. Upgrade your plan.",
    }
    action = {
        "kind": "status",
        "status": status,
        "body": problem,
        "content_type": "application/problem+json",
    }
    company.fault("mailchimp", match={"method": "POST", "path": "/lists/[^/]+$"}, action=action)
    for number in range(9):
        company.customer(f"c{number}", f"c{number}@finch.org")
    company.clear_journals()
    with pytest.raises(CreationRefused, match="allows 500 contacts; this run needs 9 more"):
        company.sync()
    assert len([call for call in company.calls("mailchimp") if call["method"] == "POST"]) <= 3


def refusing(company, pattern):
    """Refuse every batch that holds a row like ``pattern``, in words that nobody knows."""
    problem = {"title": "Invalid Resource", "status": 400, "detail": "The moon is wrong."}
    action = {"kind": "status", "status": 400, "body": problem}
    match = {"method": "POST", "path": "/lists/[^/]+$", "body": pattern}
    company.fault("mailchimp", match=match, action=action)


def posts(company):
    return [call for call in company.calls("mailchimp") if call["method"] == "POST"]


def test_a56_creations_refused_for_one_unknown_reason_are_one_stop_and_not_bisected(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, GivenName="Amelia")
    names = [f"c{number:02}@finch.org" for number in range(40)]
    for name in names:
        company.customer(name[:3], name)
    refusing(company, "c[0-9]{2}@")
    company.clear_journals()
    with pytest.raises(CreationRefused) as raised:
        company.sync()
    assert str(raised.value) == (
        "Mailchimp refuses every new contact for one reason: Mailchimp refused: The moon is wrong."
        " 40 wait. Fix it in Mailchimp, then run the sync again"
    )
    assert len(posts(company)) <= PROBES + THREADS
    assert company.fields(AMY) == {"FNAME": "Amelia"}
    assert [entry for entry in company.audit() if entry["outcome"] == "failed"] == []
    company.clear_faults(company.mailchimp)
    company.sync()
    assert company.statuses() == dict.fromkeys([AMY, *names], "subscribed")


def test_a56_updates_refused_for_one_unknown_reason_are_one_stop_and_wait(company):
    ids = [company.customer(f"c{number}", f"c{number}@finch.org") for number in range(20)]
    company.sync()
    for each in ids:
        company.edit(each, FamilyName="Finch")
    company.customer("Amy", AMY)
    refusing(company, "c[0-9]+@")
    company.clear_journals()
    with pytest.raises(UpdatesRefused, match=r"every update .* The moon is wrong\. 20 wait"):
        company.sync()
    assert len(posts(company)) <= PROBES + THREADS
    assert company.statuses()[AMY] == "subscribed"
    company.clear_faults(company.mailchimp)
    company.sync()
    assert {company.fields(each).get("LNAME") for each in company.statuses()} == {"Finch", None}
    assert [entry for entry in company.audit() if entry["outcome"] == "failed"] == []


@pytest.mark.parametrize("bad", [range(20), range(0, 20, 2)], ids=["all", "some"])
def test_a56_updates_refused_call_by_call_are_one_stop_only_if_all_are(company, bad):
    company.mailchimp_control("PUT", "settings", {"batch_contract": "status_required"})
    names = [f"c{number:02}@finch.org" for number in range(20)]
    ids = [company.customer(name[:3], name) for name in names]
    company.sync()
    for each in ids:
        company.edit(each, FamilyName="Finch")
    wrong = [names[number] for number in bad]
    hashes = "|".join(hashlib.md5(name.encode()).hexdigest() for name in wrong)
    problem = {"title": "Invalid Resource", "status": 400, "detail": "The moon is wrong."}
    company.fault(
        "mailchimp",
        match={"method": "PATCH", "path": hashes},
        action={"kind": "status", "status": 400, "body": problem},
    )
    company.clear_journals()
    if len(wrong) == len(names):
        with pytest.raises(UpdatesRefused, match=r"every update .* The moon is wrong\. 20 wait"):
            company.sync()
        patches = [call for call in company.calls("mailchimp") if call["method"] == "PATCH"]
        assert len(patches) <= PROBES + THREADS
    else:
        company.sync()
    failed = [entry for entry in company.audit() if entry["outcome"] == "failed"]
    assert len(failed) == (0 if len(wrong) == len(names) else len(wrong))
    written = {each for each in names if company.fields(each).get("LNAME") == "Finch"}
    assert written == set(names) - set(wrong)
    company.clear_faults(company.mailchimp)
    for each in ids if failed else []:
        company.edit(each, FamilyName="Wren")
    company.sync()
    assert len({company.fields(each)["LNAME"] for each in names}) == 1


def test_a23_updates_refused_alike_in_one_call_fail_alone_and_stop_no_other_call(company):
    names = [f"c{number}@finch.org" for number in range(3)]
    ids = [company.customer(name[:2], name) for name in names]
    company.sync()
    errors = [{"email_address": name, "error": "The audience is frozen."} for name in names]
    company.fault(
        "mailchimp", match={"method": "POST"}, action={"kind": "body", "body": {"errors": errors}}
    )
    for each in ids:
        company.edit(each, FamilyName="Finch")
    company.sync()
    failed = [entry["error"] for entry in company.audit() if entry["outcome"] == "failed"]
    assert failed == ["The audience is frozen."] * 3


def test_a56_webhooks_archive_although_the_plan_is_full(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.mailchimp_control("PUT", "settings", {"contact_limit": 1})
    company.edit(amy, Active=False)
    ben = company.customer("Ben", "ben@finch.org")
    company.told_by_quickbooks(("updated", amy), ("created", ben))
    with pytest.raises(CreationRefused):
        company.work_off()
    assert company.statuses() == {AMY: "archived"}


@pytest.mark.parametrize("bad", [[7], [0, 1, 2], [5, 31, 63], [0, 16, 32, 48]])
def test_a26_bad_rows_of_a_batch_cost_calls_by_their_number_and_not_by_its_size(company, bad):
    names = [f"c{number:02}@finch.org" for number in range(64)]
    for name in names:
        company.customer(name[:3], name)
    refusing(company, "|".join(f"c{number:02}@" for number in bad))
    company.clear_journals()
    company.sync()
    wrong = {names[number] for number in bad}
    assert set(company.statuses()) == set(names) - wrong
    halvings = 6
    assert len(posts(company)) <= PROBES + THREADS + 2 * len(bad) * halvings
    failed = [entry for entry in company.audit() if entry["outcome"] == "failed"]
    assert len(failed) == len(bad)


@pytest.mark.parametrize("code", ["", "ERROR_GENERIC"])
def test_a56_one_reason_for_every_creation_is_told_once(company, code):
    names = [f"c{number}@finch.org" for number in range(3)]
    errors = [
        {"email_address": name, "error": "The audience is frozen.", "error_code": code}
        for name in names
    ]
    company.fault(
        "mailchimp", match={"method": "POST"}, action={"kind": "body", "body": {"errors": errors}}
    )
    for name in names:
        company.customer(name[:2], name)
    with pytest.raises(CreationRefused) as raised:
        company.sync()
    assert str(raised.value) == (
        "Mailchimp refuses every new contact for one reason: The audience is frozen. 3 wait."
        " Fix it in Mailchimp, then run the sync again"
    )
    assert company.audit() == []


def test_a56_while_every_creation_is_refused_no_call_under_way_blames_its_rows():
    room = Room()
    room.judge(Kind.CREATE)
    assert room.is_judged(Kind.CREATE)
    room.refuse(Kind.CREATE, EveryOneRefused("The audience is frozen.", code="invalid"))
    assert not room.is_judged(Kind.CREATE)


@pytest.mark.parametrize(
    "words",
    [
        "You've reached the contact limit of your plan.",
        "Your account has exceeded the maximum number of contacts",
        "The limit of 500 subscribers is reached",
        "Please upgrade your plan",
    ],
)
def test_a56_words_about_a_limit(words):
    assert classify_row_error(words) == "contact_limit"


def test_a56_words_about_one_contact_are_about_no_limit():
    for words in (
        "amy@finch.org has signed up to a lot of lists very recently; we're not allowing more signups for now",
        "Your merge fields were invalid.",
        "amy@finch.org is already a list member",
        "Please provide a valid email address.",
    ):
        assert classify_row_error(words) != "contact_limit"


ODD_ADDRESSES = ["contact@limitless.org", "plan@quota.de", "members@quotation.org"]


@pytest.mark.parametrize("address", ODD_ADDRESSES)
def test_a56_no_address_reads_like_a_limit(address):
    for code, phrase, _ in _REFUSALS:
        for words in (f"{address} {phrase}", f"{phrase}: '{address}'.", f"{phrase} <{address}>"):
            assert classify_row_error(words) == code
    assert classify_row_error(f"{address} is not welcome.") == "invalid"
    assert classify_row_error(f"Hm, {address}.", "ERROR_CONTACT_EXISTS") == "member_exists"


@pytest.mark.parametrize(
    ("words", "field", "code"),
    [
        ("CONTACT: Value exceeds the maximum length", "", "invalid"),
        ("Value exceeds the maximum of CONTACT", "CONTACT", "merge_fields"),
        ("Your merge fields were invalid. CONTACT: over the limit", "", "merge_fields"),
        ("Members of quotation marks may be limitless", "", "invalid"),
    ],
)
def test_a56_a_limit_of_a_field_is_no_limit_of_the_plan(words, field, code):
    assert classify_row_error(words, "ERROR_GENERIC", field) == code


@pytest.mark.parametrize("address", ODD_ADDRESSES)
def test_a56_a_deleted_person_with_an_odd_address_stops_nobody_else(company, address):
    company.seed(address)
    company.person(address, "forget")
    company.customer("Odd", address)
    company.customer("Amy", AMY)
    company.sync()
    assert company.statuses()[AMY] == "subscribed"


@pytest.mark.parametrize("code", ["4000", "4001", "4002", "4003"])
def test_a56_a_query_that_quickbooks_refuses_as_a_whole_is_told_with_code_detail_and_remedy(
    company, code
):
    company.customer("Amy", AMY)
    error = {
        "Message": "Error processing query",
        "Detail": "QueryParserError: token 7",
        "code": code,
    }
    fault = {"Fault": {"Error": [error], "type": "ValidationFault"}}
    match = {"path": "/query", "body": "ORDERBY"}
    company.fault(
        "quickbooks", match=match, action={"kind": "status", "status": 400, "body": fault}
    )
    with pytest.raises(QueryRefused) as raised:
        company.sync()
    said = raised.value.message
    assert f"Error processing query: QueryParserError: token 7 (code {code})." in said
    assert "Run the sync again; if it stays so, ask Intuit with the request id" in said
    assert company.statuses() == {}


def test_a_message_that_ends_in_a_full_stop_gets_no_second_one(company):
    problem = {"title": "Forbidden", "status": 403, "detail": "This account has been deactivated."}
    company.fault(
        "mailchimp",
        match={"method": "GET"},
        action={"kind": "status", "status": 403, "body": problem},
    )
    with pytest.raises(CredentialsError) as raised:
        company.sync()
    assert "(403): This account has been deactivated. Check" in str(raised.value)


def test_a42_an_opt_out_on_the_way_is_lowered_although_every_update_is_refused(company):
    company.threads = 1
    ids = [company.customer(f"C{n}", f"c{n}@limits-mail.net") for n in range(20)]
    amy = company.customer("Amy", "amy@limits-mail.net")
    company.sync()
    company.move(amy, "amy@elsewhere-mail.net")
    company.sync()
    company.person("amy@limits-mail.net", "unsubscribe")
    for each in ids:
        company.edit(each, CompanyName="Ltd")
    refusal = {"title": "Bad Request", "status": 400, "detail": "The moon is wrong."}
    company.fault(
        "mailchimp",
        match={"method": "POST", "path": "/3.0/lists/a1b2c3d4e5"},
        times=999,
        action={
            "kind": "status",
            "status": 400,
            "content_type": "application/problem+json",
            "body": refusal,
        },
    )
    with pytest.raises(UpdatesRefused):
        company.sync()
    assert company.statuses()["amy@elsewhere-mail.net"] == "unsubscribed"
