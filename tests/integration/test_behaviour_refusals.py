"""What Mailchimp refuses: rows A22 to A24, A26 and A27 of docs/reference/behaviour.md."""

from datetime import timedelta

import pytest

from ml_connector.errors import AudienceNotReady, ConsentRaised
from tests.integration.company import AUDIENCE

AMY = "amy@finch.org"


def outcomes(company):
    return [entry["outcome"] for entry in company.audit()]


def test_a22_forgotten_address_is_marked_and_not_tried_again(company, contract):
    company.seed(AMY)
    company.person(AMY, "forget")
    amy = company.customer("Amy", AMY)
    company.sync()
    assert company.decisions() == {amy: ("skipped", "forgotten", None)}
    assert company.told(amy) == [("create", "new_customer", "failed")]
    company.clear_journals()
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.writes() == []
    assert company.statuses() == {AMY: "forgotten"}


def test_a22_forgotten_person_who_signs_up_again_is_adopted(company, contract):
    company.seed(AMY)
    company.person(AMY, "forget")
    amy = company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "subscribe")
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert company.fields(AMY) == {"FNAME": "Amy"}
    assert company.decisions()[amy][0] == "contact"


def test_a22_compliance_state_is_terminal(company):
    words = f"{AMY} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
    error = {"email_address": AMY, "error": words, "error_code": "ERROR_GENERIC"}
    answer = {"new_members": [], "updated_members": [], "errors": [error]}
    company.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "body", "body": answer}
    )
    amy = company.customer("Amy", AMY)
    company.sync()
    company.clear_journals()
    company.sync()
    assert company.writes() == []
    assert company.told(amy)[0] == ("create", "new_customer", "failed")
    assert AMY not in company.audit()[0]["error"]


def test_a23_address_that_looks_fake_fails_alone_until_the_customer_changes(company, contract):
    company.customer("Ben", "ben@finch.org")
    amy = company.customer("Amy", "amy@fake-domain.org")
    company.sync()
    assert company.statuses() == {"ben@finch.org": "subscribed"}
    assert company.decisions()[amy] == ("skipped", "fake_email", None)
    company.clear_journals()
    company.sync()
    assert company.writes() == []
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert len(company.writes()) == 1
    company.move(amy, AMY)
    company.sync()
    assert company.statuses() == {"ben@finch.org": "subscribed", AMY: "subscribed"}


def test_a23_refused_contact_is_not_tried_again_for_others_at_its_address(company):
    company.customer("Amy", "amy@fake-domain.org")
    company.sync()
    company.clear_journals()
    ben = company.customer("Ben", "amy@fake-domain.org")
    company.sync()
    assert company.writes() == []
    assert company.decisions()[ben] == ("skipped", "fake_email", None)


def test_a23_refused_merge_field_fails_alone_until_the_customer_changes(company, contract):
    fields = [{"tag": "FNAME"}, {"tag": "BORN", "type": "birthday", "required": True}]
    company.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": fields})
    company.settings["fields"] = {"FNAME": "GivenName", "BORN": "Title"}
    company.customer("Ben", "ben@finch.org", Title="12/24")
    amy = company.customer("Amy", AMY, Title="Christmas")
    company.sync()
    assert company.statuses() == {"ben@finch.org": "subscribed"}
    assert company.decisions()[amy] == ("skipped", "merge_fields", None)
    company.clear_journals()
    company.sync()
    assert company.writes() == []
    company.edit(amy, Title="12/25")
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Amy", "BORN": "12/25"}


def test_a23_contact_whose_update_was_refused_can_still_be_archived(company):
    fields = [{"tag": "FNAME"}, {"tag": "BORN", "type": "birthday", "required": True}]
    company.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": fields})
    company.settings["fields"] = {"FNAME": "GivenName", "BORN": "Title"}
    amy = company.customer("Amy", AMY, Title="12/24")
    company.sync()
    refusal = {"email_address": AMY, "error": "Your merge fields were invalid.", "field": "BORN"}
    answer = {"kind": "status", "status": 200, "body": {"errors": [refusal]}}
    company.fault("mailchimp", match={"method": "POST", "path": "/lists/"}, times=1, action=answer)
    company.edit(amy, Title="12/25")
    company.sync()
    assert outcomes(company) == ["applied", "failed"]
    company.edit(amy, Active=False)
    company.sync()
    assert company.statuses() == {AMY: "archived"}


def test_a24_throttled_address_waits_an_hour_a_day_three_and_seven_days(company):
    company.mailchimp_control("PUT", "settings", {"throttled": [AMY]})
    amy = company.customer("Amy", AMY)
    waits = [timedelta(hours=1), timedelta(days=1), timedelta(days=3), timedelta(days=7)]
    for tries, wait in enumerate([*waits, timedelta(days=7)], start=1):
        company.sync()
        assert len(company.writes()) == tries
        company.ahead += wait - timedelta(minutes=5)
        company.sync()
        assert len(company.writes()) == tries
        company.ahead += timedelta(minutes=10)
    assert set(outcomes(company)) <= {"parked", "skipped"}
    company.mailchimp_control("PUT", "settings", {"throttled": []})
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert company.decisions()[amy][0] == "contact"


def test_a24_old_contact_stays_while_the_new_address_is_parked(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.mailchimp_control("PUT", "settings", {"throttled": ["amelia@finch.org"]})
    company.move(amy, "amelia@finch.org")
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    company.mailchimp_control("PUT", "settings", {"throttled": []})
    company.ahead = timedelta(hours=2)
    company.sync()
    assert company.statuses() == {AMY: "archived", "amelia@finch.org": "subscribed"}


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_a26_refused_batch_is_halved_until_the_bad_row_is_alone(company, contract, bad):
    ids = [company.customer(f"Customer {n:02}", f"c{n:02}@finch.org") for n in range(20)]
    problem = {
        "title": "Invalid Resource",
        "status": 400,
        "detail": "The resource submitted could not be validated. "
        "For field-specific details, see the 'errors' array.",
        "errors": [{"field": "members.item:0.merge_fields", "message": "Schema describes object"}],
    }
    company.fault(
        "mailchimp",
        match={"method": "POST", "body": f"c{bad:02}@"},
        action={
            "kind": "status",
            "status": 400,
            "body": problem,
            "content_type": "application/problem+json",
        },
    )
    company.sync()
    assert {f"c{n:02}@finch.org" for n in range(20)} - set(company.statuses()) == {
        f"c{bad:02}@finch.org"
    }
    decision, reason, _ = company.decisions()[ids[bad]]
    assert (decision, reason != "") == ("skipped", True)
    assert company.told(ids[bad]) == [("create", "new_customer", "failed")]
    assert len([told for told in map(company.told, ids) if told[0][2] == "applied"]) == 19
    company.clear_journals()
    company.sync()
    assert company.writes() == []


def test_a26_row_that_the_answer_does_not_mention_is_parked(company):
    answer = {"new_members": [], "updated_members": [], "errors": []}
    company.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "body", "body": answer}
    )
    company.customer("Amy", AMY)
    company.sync()
    assert outcomes(company) == ["parked"]
    company.ahead = timedelta(hours=2)
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}


NOT_READY = [
    ([{"tag": "FNAME"}], {"FNAME": "GivenName", "LNAME": "FamilyName"}, "LNAME is missing"),
    (
        [{"tag": "FNAME"}, {"tag": "TITLE", "required": True}],
        {"FNAME": "GivenName"},
        "TITLE is required",
    ),
    ([{"tag": "ADDRESS"}], {"ADDRESS": "BillAddr"}, "ADDRESS is of type text"),
]


@pytest.mark.parametrize(("audience", "mapped", "said"), NOT_READY)
def test_a27_audience_that_does_not_fit_fails_the_run_before_its_first_write(
    company, audience, mapped, said
):
    company.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": audience})
    company.settings["fields"] = mapped
    company.customer("Amy", AMY)
    with pytest.raises(AudienceNotReady, match=said) as failure:
        company.sync()
    assert "check --fix" in str(failure.value)
    assert company.writes() == []
    fixed = [{"tag": "FNAME"}, {"tag": "LNAME"}, {"tag": "ADDRESS", "type": "address"}]
    company.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": fixed})
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}


RISES = [
    ("subscribed", "unsubscribe", "subscribe"),
    ("transactional", "profile", "subscribe"),
    ("pending", "profile", "confirm"),
]


@pytest.mark.parametrize(("setting", "before", "meanwhile"), RISES)
def test_referee_stops_the_run_when_a_status_rose_after_our_write(
    company, setting, before, meanwhile
):
    company.settings["new_contact_status"] = setting
    amy = company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, before)
    company.edit(amy, GivenName="Amelia")
    with pytest.raises(ConsentRaised, match=f"customer {amy}"):
        company.sync(before_push=lambda: company.person(AMY, meanwhile))
    assert company.told(amy)[-1] == ("update", "fields_changed", "consent_raised")


def test_referee_keeps_what_was_written_before_and_the_next_run_goes_on(company):
    company.threads = 1
    amy = company.customer("Amy", AMY)
    ben = company.customer("Ben", "ben@finch.org")
    company.sync()
    company.person(AMY, "unsubscribe")
    company.edit(amy, GivenName="Amelia")
    company.edit(ben, Active=False)
    cem = company.customer("Cem", "cem@finch.org")
    with pytest.raises(ConsentRaised):
        company.sync(before_push=lambda: company.person(AMY, "subscribe"))
    assert company.told(cem) == [("create", "new_customer", "applied")]
    assert company.statuses()["ben@finch.org"] == "subscribed"
    company.sync()
    assert company.statuses() == {
        AMY: "subscribed",
        "ben@finch.org": "archived",
        "cem@finch.org": "subscribed",
    }
