"""docs/behaviour.md, section B: what members do, on the QuickBooks customer."""

from datetime import timedelta

import pytest
from sqlalchemy import text


@pytest.fixture
def amy(firm) -> str:
    """A customer with a contact, everything at rest."""
    amy = firm.customer("Amy", "amy@birds-sanctuary.com", Notes="Likes parrots.\r\n\tCall after 5.")
    settle(firm)
    return amy


def settle(firm) -> None:
    """Sync until what our own writes left behind is known as well."""
    firm.sync()
    firm.sync()
    firm.clear_journals()


def notes(firm, customer_id: str) -> str:
    return firm.record_of(customer_id).get("Notes", "")


def events(firm) -> list[tuple[str, str, str | None]]:
    with firm.database.begin() as connection:
        rows = connection.execute(
            text("""SELECT kind, source, CASE WHEN written_to_quickbooks_at IS NULL THEN NULL
                           ELSE 'written' END FROM ml_connector.member_events ORDER BY id""")
        ).all()
    return [tuple(row) for row in rows]


def batches(firm) -> list[dict]:
    return [call for call in firm.calls("quickbooks") if call["path"].endswith("/batch")]


def reads(firm) -> list[dict]:
    return [call for call in firm.calls("quickbooks") if not call["path"].endswith("/batch")]


def test_b1_an_opt_out_shows_on_the_customer_and_their_notes_stay_as_they_are(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe", reason="Too many mails")
    firm.sync()
    held = notes(firm, amy)
    assert held.startswith("Likes parrots.\r\n\tCall after 5.\n--- Mailchimp main [")
    assert "Unsubscribed from the newsletter since 20" in held
    assert "unsubscribed: Too many mails" in held
    assert events(firm) == [("unsubscribed", "poll", "written")]
    assert ("write_notes", "unsubscribed", "applied") in firm.told(amy, "quickbooks")


@pytest.mark.parametrize(
    ("action", "kind", "said"),
    [
        ("clean", "cleaned", "mail bounced for good"),
        ("archive", "archived", "archived in Mailchimp"),
        ("unsubscribe", "unsubscribed", "unsubscribed"),
    ],
)
def test_b1_what_happens_to_a_contact_is_an_event_and_shown(firm, amy, action, kind, said):
    firm.person("amy@birds-sanctuary.com", action)
    firm.sync()
    assert events(firm) == [(kind, "poll", "written")]
    assert said in notes(firm, amy)


def test_b1_a_changed_profile_names_the_fields_that_differ(firm, amy):
    firm.person("amy@birds-sanctuary.com", "profile", merge_fields={"FNAME": "Amelie"})
    firm.sync()
    assert events(firm) == [("profile_changed", "poll", "written")]
    assert "changed their details in Mailchimp: FNAME" in notes(firm, amy)
    assert firm.fields("amy@birds-sanctuary.com")["FNAME"] == "Amelie"


def test_our_own_writes_are_no_events(firm):
    amy = firm.customer("Amy", "amy@birds-sanctuary.com", PrimaryPhone={"FreeFormNumber": "555"})
    settle(firm)
    firm.edit(amy, GivenName="Amelie", BillAddr={"Line1": "1 Main St", "City": "X",
              "CountrySubDivisionCode": "CA", "PostalCode": "94000"})  # fmt: skip
    settle(firm)
    firm.edit(amy, Active=False)
    settle(firm)
    firm.edit(amy, Active=True)
    settle(firm)
    assert events(firm) == []
    assert notes(firm, amy) == ""


def test_b2_the_same_opt_out_read_twice_is_one_event(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    firm.sync(full_sync=True)
    firm.sync()
    assert events(firm) == [("unsubscribed", "poll", "written")]


def test_b3_an_event_of_someone_who_is_no_customer_is_recorded_only(firm, amy):
    firm.seed("stranger@elsewhere.org")
    settle(firm)
    firm.person("stranger@elsewhere.org", "unsubscribe")
    firm.sync()
    assert events(firm) == [("subscribed", "poll", None), ("unsubscribed", "poll", None)]
    assert batches(firm) == []


def test_b4_an_event_is_written_to_every_active_customer_at_the_address(firm):
    first = firm.customer("First", "shared@birds-sanctuary.com")
    second = firm.customer("Second", "shared@birds-sanctuary.com")
    gone = firm.customer("Gone", "shared@birds-sanctuary.com", Active=False)
    settle(firm)
    firm.person("shared@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    assert "Unsubscribed" in notes(firm, first)
    assert "Unsubscribed" in notes(firm, second)
    assert notes(firm, gone) == ""
    assert len(batches(firm)) == 1


def test_b5_the_newest_events_stand_first_and_the_oldest_give_way(firm, amy):
    firm.edit(amy, Notes="x" * 1600)
    settle(firm)
    for number in range(12):
        firm.ahead += timedelta(days=1)
        firm.mailchimp_control("PUT", "clock", {"offset_seconds": firm.ahead.total_seconds()})
        firm.person("amy@birds-sanctuary.com", "profile", merge_fields={"FNAME": f"Amy{number}"})
        firm.sync()
    held = notes(firm, amy)
    assert len(held) <= 2000
    assert held.startswith("x" * 1600 + "\n--- Mailchimp")
    shown = [line for line in held.split("\n") if "changed their details" in line]
    assert 1 < len(shown) < 12
    assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("length", [2000, 1990])
def test_b5_where_no_line_fits_a_note_is_attached_instead(firm, amy, length):
    firm.edit(amy, Notes="y" * length)
    settle(firm)
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    assert notes(firm, amy) == "y" * length
    (attached,) = firm.quickbooks_control("GET", "attachables")["attachables"]
    assert "Unsubscribed from the newsletter" in attached["Note"]
    firm.person("amy@birds-sanctuary.com", "archive")
    firm.sync()
    (attached,) = firm.quickbooks_control("GET", "attachables")["attachables"]
    assert attached["Note"].index("archived") < attached["Note"].index("unsubscribed")


def test_b6_what_someone_wrote_inside_the_block_is_rendered_afresh_and_outside_it_stays(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    held = notes(firm, amy)
    firm.edit(amy, Notes=held.replace("Unsubscribed", "Loves us") + "\nAfter.\r\n")
    settle(firm)
    assert "Loves us" in notes(firm, amy)
    firm.person("amy@birds-sanctuary.com", "archive")
    firm.sync()
    held = notes(firm, amy)
    assert "Loves us" not in held
    assert held.startswith("Likes parrots.\r\n\tCall after 5.\n--- Mailchimp")
    assert held.endswith("\nAfter.\r\n")
    assert held.count("--- end of Mailchimp") == 1


def test_b7_a_customer_written_by_somebody_else_meanwhile_is_read_and_written_again(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync(before_write_back=lambda: firm.edit(amy, Notes="By hand.", CompanyName="Birds"))
    assert notes(firm, amy).startswith("By hand.\n--- Mailchimp")
    assert firm.record_of(amy)["CompanyName"] == "Birds"
    assert len(batches(firm)) == 2
    told = [each for each in firm.told(amy, "quickbooks") if each[0] == "write_notes"]
    assert [outcome for _, _, outcome in told] == ["conflict", "applied"]


def test_b7_after_five_conflicts_it_waits_for_the_next_run(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    stale = {"Fault": {"type": "ValidationFault", "Error": [{"code": "5010", "Message": "Stale"}]}}
    body = {"BatchItemResponse": [{"bId": "0", **stale}]}
    firm.fault("quickbooks", match={"path": "/batch$"}, action={"kind": "body", "body": body})
    firm.sync()
    assert len(batches(firm)) == 5
    assert notes(firm, amy) == "Likes parrots.\r\n\tCall after 5."
    assert firm.told(amy, "quickbooks")[-1] == ("write_notes", "unsubscribed", "conflict")
    firm.clear_faults(firm.quickbooks)
    firm.sync()
    assert "Unsubscribed" in notes(firm, amy)


def test_b8_what_a_customer_who_is_gone_or_inactive_did_is_recorded_not_written(firm, amy):
    firm.settings["on_inactive"] = "keep"
    firm.edit(amy, Active=False)
    settle(firm)
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    assert events(firm) == [("unsubscribed", "poll", None)]
    assert batches(firm) == []
    firm.edit(amy, Active=True)
    firm.sync()
    assert "Unsubscribed" in notes(firm, amy)


def test_b8_a_customer_that_becomes_inactive_just_before_the_write_is_left(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync(before_write_back=lambda: firm.edit(amy, Active=False))
    assert "Mailchimp" not in notes(firm, amy)
    firm.sync()
    assert "Mailchimp" not in notes(firm, amy)


def test_b9_our_own_write_coming_back_in_the_delta_costs_nothing(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    firm.clear_journals()
    report = firm.sync()
    assert len(firm.calls("quickbooks")) == 1
    assert firm.writes() == []
    assert report.changes == []


def test_b10_opens_clicks_and_soft_bounces_become_engagement_written_when_it_changes(firm, amy):
    campaign = firm.campaign()
    firm.did(campaign, "amy@birds-sanctuary.com", "open")
    firm.sync(full_sync=True)
    assert events(firm) == [("engaged", "poll", "written")]
    assert "Reads it, last opened or clicked 20" in notes(firm, amy)
    firm.clear_journals()
    firm.did(campaign, "amy@birds-sanctuary.com", "click", url="https://example.org")
    firm.sync(full_sync=True)
    assert batches(firm) == []
    firm.pass_time(days=31)
    firm.sync()
    assert [kind for kind, _, _ in events(firm)] == ["engaged", "quiet"]
    assert "Has not read it lately" in notes(firm, amy)


def test_b10_a_soft_bounce_after_the_last_open_is_bouncing_and_an_open_ends_it(firm, amy):
    campaign = firm.campaign()
    firm.did(campaign, "amy@birds-sanctuary.com", "bounce", type="soft")
    firm.sync(full_sync=True)
    assert "Mail bounces for now" in notes(firm, amy)
    firm.pass_time(hours=13)
    firm.did(firm.campaign(), "amy@birds-sanctuary.com", "open")
    firm.sync()
    assert [kind for kind, _, _ in events(firm)] == ["bouncing", "engaged"]


def test_b10_a_hard_bounce_is_the_cleaned_event_and_no_second_one(firm, amy):
    firm.did(firm.campaign(), "amy@birds-sanctuary.com", "bounce", type="hard")
    firm.sync(full_sync=True)
    firm.sync(full_sync=True)
    assert [kind for kind, _, _ in events(firm)] == ["cleaned"]
    assert "Bounced: mail to this address does not arrive" in notes(firm, amy)


def test_b10_reports_are_read_from_where_the_last_reading_ended_and_old_campaigns_not(firm, amy):
    old = firm.campaign(send_time="2020-01-01T00:00:00+00:00")
    recent = firm.campaign()
    firm.did(recent, "amy@birds-sanctuary.com", "open")
    firm.sync(full_sync=True)
    firm.clear_journals()
    firm.pass_time(hours=13)
    firm.sync()
    asked = [call for call in firm.calls("mailchimp") if "/reports/" in call["path"]]
    assert [old in call["path"] for call in asked] == [False]
    assert "since" in asked[0]["query"]


@pytest.mark.parametrize(("status", "said"), [("unsubscribed", "Unsubscribed"),
                                              ("cleaned", "Bounced")])  # fmt: skip
def test_b10b_who_had_opted_out_when_first_seen_is_shown_so_and_no_event_is_made_up(
    firm, status, said
):
    firm.seed("amy@birds-sanctuary.com", status=status)
    amy = firm.customer("Amy", "amy@birds-sanctuary.com")
    firm.sync()
    assert events(firm) == []
    assert notes(firm, amy).split("\n")[1].startswith(said)


def test_b11_a_day_without_events_makes_no_call_to_quickbooks_but_the_delta(firm, amy):
    firm.sync()
    assert len(firm.calls("quickbooks")) == 1
    assert len(firm.calls("mailchimp")) == 2


@pytest.mark.parametrize(
    ("write_to", "in_notes", "attached"),
    [("notes", True, 0), ("attachment", False, 1), ("both", True, 1), ("none", False, 0)],
)
def test_b12_activity_goes_where_the_setting_says(firm, amy, write_to, in_notes, attached):
    firm.settings["activity"] = {"write_to": write_to}
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    firm.sync()
    assert ("Unsubscribed" in notes(firm, amy)) == in_notes
    found = firm.quickbooks_control("GET", "attachables")["attachables"]
    assert ["Unsubscribed" in each["Note"] for each in found] == [True] * attached
    assert [kind for kind, _, _ in events(firm)] == ["unsubscribed"]


def test_b12_another_place_takes_the_block_out_of_the_former_one(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    firm.sync()
    firm.settings["activity"] = {"write_to": "attachment"}
    firm.person("amy@birds-sanctuary.com", "archive")
    firm.sync()
    assert notes(firm, amy).strip() == "Likes parrots.\r\n\tCall after 5."


def test_a28_the_old_address_is_never_created_again_and_the_new_one_is_shown(firm, amy):
    firm.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    firm.sync()
    firm.edit(amy, GivenName="Amelie")
    firm.sync()
    firm.sync(full_sync=True)
    assert set(firm.statuses()) == {"amy@new-home.org"}
    held = notes(firm, amy)
    assert "In Mailchimp the address is now amy@new-home.org." in held
    assert firm.decisions()[amy][:2] == ("skipped", "address_changed_in_mailchimp")
    firm.person("amy@new-home.org", "unsubscribe")
    firm.sync()
    assert "Unsubscribed from the newsletter since" in notes(firm, amy)


def test_a28_once_the_bookkeeper_takes_over_the_address_the_contact_is_the_customers_again(
    firm, amy
):
    firm.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    firm.sync()
    firm.move(amy, "amy@new-home.org")
    firm.edit(amy, GivenName="Amelie")
    firm.sync()
    assert firm.statuses() == {"amy@new-home.org": "subscribed"}
    assert firm.fields("amy@new-home.org")["FNAME"] == "Amelie"
    assert firm.decisions()[amy][0] == "contact"


def test_a28_consent_follows_a_person_who_left_in_mailchimp_first_and_then_in_quickbooks(firm, amy):
    firm.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    firm.sync()
    firm.person("amy@new-home.org", "unsubscribe")
    firm.sync()
    firm.move(amy, "amy@third.org")
    firm.sync()
    assert firm.statuses()["amy@third.org"] == "unsubscribed"


def test_a28_a_member_who_returns_to_the_old_address_is_the_customers_contact_again(firm, amy):
    firm.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    firm.sync()
    firm.person("amy@new-home.org", "upemail", email_address="amy@birds-sanctuary.com")
    firm.sync()
    firm.edit(amy, GivenName="Amelie")
    firm.sync()
    assert firm.statuses() == {"amy@birds-sanctuary.com": "subscribed"}
    assert firm.fields("amy@birds-sanctuary.com")["FNAME"] == "Amelie"


def test_a_customer_who_comes_to_a_contact_with_a_history_shows_it(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    settle(firm)
    late = firm.customer("Late", "amy@birds-sanctuary.com")
    firm.sync()
    assert "Unsubscribed" in notes(firm, late)


def test_a_customer_who_moves_on_shows_the_new_contact(firm, amy):
    firm.person("amy@birds-sanctuary.com", "clean")
    settle(firm)
    assert "Bounced" in notes(firm, amy)
    firm.move(amy, "amy@corrected.org")
    firm.sync()
    held = notes(firm, amy)
    assert "Bounced" not in held
    assert "Subscribed to the newsletter" in held


def test_a36_after_a_swap_of_audiences_the_customer_shows_the_new_one(firm, amy):
    firm.person("amy@birds-sanctuary.com", "unsubscribe")
    settle(firm)
    fields = [{"tag": tag} for tag in ("FNAME", "LNAME", "COMPANY", "PHONE")]
    fields.append({"tag": "ADDRESS", "type": "address"})
    firm.mailchimp_control("POST", "audiences", {"id": "b2c3d4e5f6", "merge_fields": fields})
    firm.settings["audience_id"] = "b2c3d4e5f6"
    settle(firm)
    assert notes(firm, amy).split("\n")[2].startswith("--- Mailchimp main")
    assert "Subscribed to the newsletter" in notes(firm, amy)
