"""What Mailchimp refuses: rows A22 to A24, A26 and A27 of docs/behaviour.md."""

from datetime import timedelta

import pytest

from ml_connector.errors import AudienceNotReady, ConsentRaised
from tests.integration.firm import AUDIENCE

AMY = "amy@finch.org"


def outcomes(firm):
    return [entry["outcome"] for entry in firm.audit()]


def test_a22_forgotten_address_is_marked_and_not_tried_again(firm, contract):
    firm.seed(AMY)
    firm.person(AMY, "forget")
    amy = firm.customer("Amy", AMY)
    firm.sync()
    assert firm.decisions() == {amy: ("skipped", "forgotten", None)}
    assert firm.told(amy) == [("create", "new_customer", "failed")]
    firm.clear_journals()
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert firm.writes() == []
    assert firm.statuses() == {AMY: "forgotten"}


def test_a22_forgotten_person_who_signs_up_again_is_adopted(firm, contract):
    firm.seed(AMY)
    firm.person(AMY, "forget")
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "subscribe")
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}
    assert firm.fields(AMY) == {"FNAME": "Amy"}
    assert firm.decisions()[amy][0] == "contact"


def test_a22_compliance_state_is_terminal(firm):
    words = f"{AMY} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
    error = {"email_address": AMY, "error": words, "error_code": "ERROR_GENERIC"}
    answer = {"new_members": [], "updated_members": [], "errors": [error]}
    firm.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "body", "body": answer}
    )
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.clear_journals()
    firm.sync()
    assert firm.writes() == []
    assert firm.told(amy)[0] == ("create", "new_customer", "failed")
    assert AMY not in firm.audit()[0]["error"]


def test_a23_address_that_looks_fake_fails_alone_until_the_customer_changes(firm, contract):
    firm.customer("Ben", "ben@finch.org")
    amy = firm.customer("Amy", "amy@fake-domain.org")
    firm.sync()
    assert firm.statuses() == {"ben@finch.org": "subscribed"}
    assert firm.decisions()[amy] == ("skipped", "fake_email", None)
    firm.clear_journals()
    firm.sync()
    assert firm.writes() == []
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert len(firm.writes()) == 1
    firm.move(amy, AMY)
    firm.sync()
    assert firm.statuses() == {"ben@finch.org": "subscribed", AMY: "subscribed"}


def test_a23_refused_contact_is_not_tried_again_for_others_at_its_address(firm):
    firm.customer("Amy", "amy@fake-domain.org")
    firm.sync()
    firm.clear_journals()
    ben = firm.customer("Ben", "amy@fake-domain.org")
    firm.sync()
    assert firm.writes() == []
    assert firm.decisions()[ben] == ("skipped", "fake_email", None)


def test_a23_refused_merge_field_fails_alone_until_the_customer_changes(firm, contract):
    fields = [{"tag": "FNAME"}, {"tag": "BORN", "type": "birthday"}]
    firm.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": fields})
    firm.settings["fields"] = {"FNAME": "GivenName", "BORN": "ResaleNum"}
    firm.customer("Ben", "ben@finch.org", ResaleNum="12/24")
    amy = firm.customer("Amy", AMY, ResaleNum="Christmas")
    firm.sync()
    assert firm.statuses() == {"ben@finch.org": "subscribed"}
    assert firm.decisions()[amy] == ("skipped", "merge_fields", None)
    firm.clear_journals()
    firm.sync()
    assert firm.writes() == []
    firm.edit(amy, ResaleNum="12/25")
    firm.sync()
    assert firm.fields(AMY) == {"FNAME": "Amy", "BORN": "12/25"}


def test_a23_contact_whose_update_was_refused_can_still_be_archived(firm):
    fields = [{"tag": "FNAME"}, {"tag": "BORN", "type": "birthday"}]
    firm.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": fields})
    firm.settings["fields"] = {"FNAME": "GivenName", "BORN": "ResaleNum"}
    amy = firm.customer("Amy", AMY, ResaleNum="12/24")
    firm.sync()
    firm.edit(amy, ResaleNum="Christmas")
    firm.sync()
    assert outcomes(firm) == ["applied", "failed"]
    firm.edit(amy, Active=False)
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}


def test_a24_throttled_address_waits_an_hour_a_day_three_and_seven_days(firm):
    firm.mailchimp_control("PUT", "settings", {"throttled": [AMY]})
    amy = firm.customer("Amy", AMY)
    waits = [timedelta(hours=1), timedelta(days=1), timedelta(days=3), timedelta(days=7)]
    for tries, wait in enumerate([*waits, timedelta(days=7)], start=1):
        firm.sync()
        assert len(firm.writes()) == tries
        firm.ahead += wait - timedelta(minutes=5)
        firm.sync()
        assert len(firm.writes()) == tries
        firm.ahead += timedelta(minutes=10)
    assert set(outcomes(firm)) <= {"parked", "skipped"}
    firm.mailchimp_control("PUT", "settings", {"throttled": []})
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}
    assert firm.decisions()[amy][0] == "contact"


def test_a24_old_contact_stays_while_the_new_address_is_parked(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.mailchimp_control("PUT", "settings", {"throttled": ["amelia@finch.org"]})
    firm.move(amy, "amelia@finch.org")
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}
    firm.mailchimp_control("PUT", "settings", {"throttled": []})
    firm.ahead = timedelta(hours=2)
    firm.sync()
    assert firm.statuses() == {AMY: "archived", "amelia@finch.org": "subscribed"}


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_a26_refused_batch_is_halved_until_the_bad_row_is_alone(firm, contract, bad):
    ids = [firm.customer(f"Customer {n:02}", f"c{n:02}@finch.org") for n in range(20)]
    problem = {
        "title": "Invalid Resource",
        "status": 400,
        "detail": "The resource submitted could not be validated. "
        "For field-specific details, see the 'errors' array.",
        "errors": [{"field": "members.item:0.merge_fields", "message": "Schema describes object"}],
    }
    firm.fault(
        "mailchimp",
        match={"method": "POST", "body": f"c{bad:02}@"},
        action={
            "kind": "status",
            "status": 400,
            "body": problem,
            "content_type": "application/problem+json",
        },
    )
    firm.sync()
    assert {f"c{n:02}@finch.org" for n in range(20)} - set(firm.statuses()) == {
        f"c{bad:02}@finch.org"
    }
    decision, reason, _ = firm.decisions()[ids[bad]]
    assert (decision, reason != "") == ("skipped", True)
    assert firm.told(ids[bad]) == [("create", "new_customer", "failed")]
    assert len([told for told in map(firm.told, ids) if told[0][2] == "applied"]) == 19
    firm.clear_journals()
    firm.sync()
    assert firm.writes() == []


def test_a26_row_that_the_answer_does_not_mention_is_parked(firm):
    answer = {"new_members": [], "updated_members": [], "errors": []}
    firm.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "body", "body": answer}
    )
    firm.customer("Amy", AMY)
    firm.sync()
    assert outcomes(firm) == ["parked"]
    firm.ahead = timedelta(hours=2)
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}


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
    firm, audience, mapped, said
):
    firm.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": audience})
    firm.settings["fields"] = mapped
    firm.customer("Amy", AMY)
    with pytest.raises(AudienceNotReady, match=said) as failure:
        firm.sync()
    assert "check --fix" in str(failure.value)
    assert firm.writes() == []
    mended = [{"tag": "FNAME"}, {"tag": "LNAME"}, {"tag": "ADDRESS", "type": "address"}]
    firm.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": mended})
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}


def test_referee_stops_the_run_when_a_status_rose_after_our_write(firm):
    amy = firm.customer("Amy", AMY)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.edit(amy, GivenName="Amelia")
    with pytest.raises(ConsentRaised, match=f"customer {amy}"):
        firm.sync(before_push=lambda: firm.person(AMY, "subscribe"))
    assert firm.told(amy)[-1] == ("update", "fields_changed", "consent_raised")


def test_referee_keeps_what_was_written_before_and_the_next_run_goes_on(firm):
    firm.threads = 1
    amy = firm.customer("Amy", AMY)
    ben = firm.customer("Ben", "ben@finch.org")
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.edit(amy, GivenName="Amelia")
    firm.edit(ben, Active=False)
    cem = firm.customer("Cem", "cem@finch.org")
    with pytest.raises(ConsentRaised):
        firm.sync(before_push=lambda: firm.person(AMY, "subscribe"))
    assert firm.told(cem) == [("create", "new_customer", "applied")]
    assert firm.statuses()["ben@finch.org"] == "subscribed"
    firm.sync()
    assert firm.statuses() == {
        AMY: "subscribed",
        "ben@finch.org": "archived",
        "cem@finch.org": "subscribed",
    }
