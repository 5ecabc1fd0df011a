"""docs/reference/behaviour.md, section B: what members do, on the QuickBooks customer."""

from datetime import timedelta

import pytest
from sqlalchemy import text


@pytest.fixture
def amy(company) -> str:
    """A customer with a contact, everything at rest."""
    amy = company.customer(
        "Amy", "amy@birds-sanctuary.com", Notes="Likes parrots.\r\n\tCall after 5."
    )
    settle(company)
    return amy


def settle(company) -> None:
    """Sync until what our own writes left behind is known as well."""
    company.sync()
    company.sync()
    company.clear_journals()


def notes(company, customer_id: str) -> str:
    return company.record_of(customer_id).get("Notes", "")


def events(company) -> list[tuple[str, str, str | None]]:
    with company.database.begin() as connection:
        rows = connection.execute(
            text("""SELECT kind, source, CASE WHEN written_to_quickbooks_at IS NULL THEN NULL
                           ELSE 'written' END FROM ml_connector.member_events ORDER BY id""")
        ).all()
    return [tuple(row) for row in rows]


def batches(company) -> list[dict]:
    return [call for call in company.calls("quickbooks") if call["path"].endswith("/batch")]


def reads(company) -> list[dict]:
    return [call for call in company.calls("quickbooks") if not call["path"].endswith("/batch")]


def test_b1_an_opt_out_shows_on_the_customer_and_their_notes_stay_as_they_are(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe", reason="Too many mails")
    company.sync()
    held = notes(company, amy)
    assert held.startswith("Likes parrots.\r\n\tCall after 5.\n--- Mailchimp main [")
    assert "Unsubscribed from the newsletter since 20" in held
    assert "unsubscribed: Too many mails" in held
    assert events(company) == [("unsubscribed", "poll", "written")]
    assert ("write_notes", "unsubscribed", "applied") in company.told(amy, "quickbooks")


@pytest.mark.parametrize(
    ("action", "kind", "said"),
    [
        ("clean", "cleaned", "mail bounced permanently"),
        ("archive", "archived", "archived in Mailchimp"),
        ("unsubscribe", "unsubscribed", "unsubscribed"),
    ],
)
def test_b1_what_happens_to_a_contact_is_an_event_and_shown(company, amy, action, kind, said):
    company.person("amy@birds-sanctuary.com", action)
    company.sync()
    assert events(company) == [(kind, "poll", "written")]
    assert said in notes(company, amy)


def test_b1_a_changed_profile_names_the_fields_that_differ(company, amy):
    company.person("amy@birds-sanctuary.com", "profile", merge_fields={"FNAME": "Amelie"})
    company.sync()
    assert events(company) == [("profile_changed", "poll", "written")]
    said = "changed their details in Mailchimp: First Name from Amy to Amelie"
    assert said in notes(company, amy)
    assert company.fields("amy@birds-sanctuary.com")["FNAME"] == "Amelie"


def test_our_own_writes_are_no_events(company):
    amy = company.customer("Amy", "amy@birds-sanctuary.com", PrimaryPhone={"FreeFormNumber": "555"})
    settle(company)
    company.edit(amy, GivenName="Amelie", BillAddr={"Line1": "1 Main St", "City": "X",
              "CountrySubDivisionCode": "CA", "PostalCode": "94000"})  # fmt: skip
    settle(company)
    company.edit(amy, Active=False)
    settle(company)
    company.edit(amy, Active=True)
    settle(company)
    assert events(company) == []
    assert notes(company, amy) == ""


def test_b2_the_same_opt_out_read_twice_is_one_event(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync()
    company.sync(full_sync=True)
    company.sync()
    assert events(company) == [("unsubscribed", "poll", "written")]


def test_b3_an_event_of_someone_who_is_no_customer_is_recorded_only(company, amy):
    company.seed("stranger@elsewhere.org")
    settle(company)
    company.person("stranger@elsewhere.org", "unsubscribe")
    company.sync()
    assert events(company) == [("subscribed", "poll", None), ("unsubscribed", "poll", None)]
    assert batches(company) == []


def test_b4_an_event_is_written_to_every_active_customer_at_the_address(company):
    first = company.customer("First", "shared@birds-sanctuary.com")
    second = company.customer("Second", "shared@birds-sanctuary.com")
    gone = company.customer("Gone", "shared@birds-sanctuary.com", Active=False)
    settle(company)
    company.person("shared@birds-sanctuary.com", "unsubscribe")
    company.sync()
    assert "Unsubscribed" in notes(company, first)
    assert "Unsubscribed" in notes(company, second)
    assert notes(company, gone) == ""
    assert len(batches(company)) == 1


def test_b5_the_newest_events_stand_first_and_the_oldest_give_way(company, amy):
    company.edit(amy, Notes="x" * 1600)
    settle(company)
    for number in range(12):
        company.ahead += timedelta(days=1)
        company.mailchimp_control("PUT", "clock", {"offset_seconds": company.ahead.total_seconds()})
        company.person("amy@birds-sanctuary.com", "profile", merge_fields={"FNAME": f"Amy{number}"})
        company.sync()
    held = notes(company, amy)
    assert len(held) <= 2000
    assert held.startswith("x" * 1600 + "\n--- Mailchimp")
    shown = [line for line in held.split("\n") if "changed their details" in line]
    assert 1 < len(shown) < 12
    assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("length", [2000, 1990])
def test_b5_where_no_line_fits_a_note_is_attached_instead(company, amy, length):
    company.edit(amy, Notes="y" * length)
    settle(company)
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync()
    assert notes(company, amy) == "y" * length
    (attached,) = company.quickbooks_control("GET", "attachables")["attachables"]
    assert "Unsubscribed from the newsletter" in attached["Note"]
    company.person("amy@birds-sanctuary.com", "archive")
    company.sync()
    (attached,) = company.quickbooks_control("GET", "attachables")["attachables"]
    assert attached["Note"].index("archived") < attached["Note"].index("unsubscribed")


def test_b6_what_someone_wrote_inside_the_block_is_rendered_afresh_and_outside_it_stays(
    company, amy
):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync()
    held = notes(company, amy)
    company.edit(amy, Notes=held.replace("Unsubscribed", "Loves us") + "\nAfter.\r\n")
    settle(company)
    assert "Loves us" in notes(company, amy)
    company.person("amy@birds-sanctuary.com", "archive")
    company.sync()
    held = notes(company, amy)
    assert "Loves us" not in held
    assert held.startswith("Likes parrots.\r\n\tCall after 5.\n--- Mailchimp")
    assert held.endswith("\nAfter.\r\n")
    assert held.count("--- end of Mailchimp") == 1


def test_b7_a_customer_written_by_somebody_else_meanwhile_is_read_and_written_again(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync(before_write_back=lambda: company.edit(amy, Notes="By hand.", CompanyName="Birds"))
    assert notes(company, amy).startswith("By hand.\n--- Mailchimp")
    assert company.record_of(amy)["CompanyName"] == "Birds"
    assert len(batches(company)) == 2
    told = [each for each in company.told(amy, "quickbooks") if each[0] == "write_notes"]
    assert [outcome for _, _, outcome in told] == ["conflict", "applied"]


def test_b7_after_five_conflicts_it_waits_for_the_next_run(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    stale = {"Fault": {"type": "ValidationFault", "Error": [{"code": "5010", "Message": "Stale"}]}}
    body = {"BatchItemResponse": [{"bId": "0", **stale}]}
    company.fault("quickbooks", match={"path": "/batch$"}, action={"kind": "body", "body": body})
    company.sync()
    assert len(batches(company)) == 5
    assert notes(company, amy) == "Likes parrots.\r\n\tCall after 5."
    assert company.told(amy, "quickbooks")[-1] == ("write_notes", "unsubscribed", "conflict")
    company.clear_faults(company.quickbooks)
    company.sync()
    assert "Unsubscribed" in notes(company, amy)


def test_b8_what_a_customer_who_is_gone_or_inactive_did_is_recorded_not_written(company, amy):
    company.settings["on_inactive"] = "keep"
    company.edit(amy, Active=False)
    settle(company)
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync()
    assert events(company) == [("unsubscribed", "poll", None)]
    assert batches(company) == []
    company.edit(amy, Active=True)
    company.sync()
    assert "Unsubscribed" in notes(company, amy)


def test_b8_a_customer_that_becomes_inactive_just_before_the_write_is_left(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync(before_write_back=lambda: company.edit(amy, Active=False))
    assert "Mailchimp" not in notes(company, amy)
    company.sync()
    assert "Mailchimp" not in notes(company, amy)


def test_b9_our_own_write_coming_back_in_the_delta_costs_nothing(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync()
    company.clear_journals()
    report = company.sync()
    assert len(company.calls("quickbooks")) == 1
    assert company.writes() == []
    assert report.changes == []


def test_b10_opens_clicks_and_soft_bounces_become_engagement_written_when_it_changes(company, amy):
    campaign = company.campaign()
    company.did(campaign, "amy@birds-sanctuary.com", "open")
    company.sync(full_sync=True)
    assert events(company) == [("engaged", "poll", "written")]
    assert "Opens or clicks, last opened 20" in notes(company, amy)
    company.clear_journals()
    company.did(campaign, "amy@birds-sanctuary.com", "click", url="https://example.org")
    company.sync(full_sync=True)
    assert batches(company) == []
    company.pass_time(days=31)
    company.sync()
    assert [kind for kind, _, _ in events(company)] == ["engaged", "quiet"]
    assert "No opens lately" in notes(company, amy)


def test_b10_a_block_with_words_of_a_former_version_stays_until_there_is_news(company, amy):
    campaign = company.campaign()
    company.did(campaign, "amy@birds-sanctuary.com", "open")
    company.sync(full_sync=True)
    former = notes(company, amy).replace("Opens or clicks", "Reads it")
    company.edit(amy, Notes=former)
    company.clear_journals()
    company.sync(full_sync=True)
    assert batches(company) == []
    assert "Reads it" in notes(company, amy)


def test_b10_a_soft_bounce_after_the_last_open_is_bouncing_and_an_open_ends_it(company, amy):
    campaign = company.campaign()
    company.did(campaign, "amy@birds-sanctuary.com", "bounce", type="soft")
    company.sync(full_sync=True)
    assert "Mail bounces for now" in notes(company, amy)
    company.pass_time(hours=13)
    company.did(company.campaign(), "amy@birds-sanctuary.com", "open")
    company.sync()
    assert [kind for kind, _, _ in events(company)] == ["bouncing", "engaged"]


def test_b10_a_hard_bounce_is_the_cleaned_event_and_no_second_one(company, amy):
    company.did(company.campaign(), "amy@birds-sanctuary.com", "bounce", type="hard")
    company.sync(full_sync=True)
    company.sync(full_sync=True)
    assert [kind for kind, _, _ in events(company)] == ["cleaned"]
    assert "Bounced: mail to this address does not arrive" in notes(company, amy)


def test_b10_reports_are_read_from_where_the_last_reading_ended_and_old_campaigns_not(company, amy):
    old = company.campaign(send_time="2020-01-01T00:00:00+00:00")
    recent = company.campaign()
    company.did(recent, "amy@birds-sanctuary.com", "open")
    company.sync(full_sync=True)
    company.clear_journals()
    company.pass_time(hours=13)
    company.sync()
    asked = [call for call in company.calls("mailchimp") if "/reports/" in call["path"]]
    assert [old in call["path"] for call in asked] == [False]
    assert "since" in asked[0]["query"]


def engagement(company, email="amy@birds-sanctuary.com") -> tuple:
    """Return (engagement, campaigns sent, open rate, rating) of a contact as stored."""
    with company.database.begin() as connection:
        row = connection.execute(
            text("""SELECT engagement, mailed, open_rate, member_rating FROM ml_connector.contacts
                    WHERE email_key = :key"""),
            {"key": company.vault.email_key(email)},
        ).one()
    return tuple(row)


def test_b10_whoever_was_only_sent_mail_has_never_opened_it_which_is_no_news(company, amy):
    assert engagement(company)[:2] == (None, 0)
    for _ in range(3):
        company.campaign()
        company.pass_time(hours=13)
        company.sync()
        company.sync(full_sync=True)  # the same reports again count once
    assert engagement(company) == ("never_opened", 3, 0, 2)
    assert events(company) == []
    assert batches(company) == []
    company.person("amy@birds-sanctuary.com", "profile", merge_fields={"FNAME": "Amelie"})
    company.sync()
    assert "never opened" not in notes(company, amy)  # rates may end it without an event


def test_b10_who_opened_before_the_reports_begin_is_quiet_by_mailchimps_rates(company, amy):
    old = company.campaign(send_time="2020-01-01T00:00:00+00:00")
    company.did(old, "amy@birds-sanctuary.com", "open")
    company.sync(full_sync=True)
    assert engagement(company) == ("quiet", 0, 100, 4)
    assert events(company) == []
    company.clear_journals()
    company.did(company.campaign(), "amy@birds-sanctuary.com", "click")
    company.sync(full_sync=True)
    assert [kind for kind, _, _ in events(company)] == ["engaged"]
    assert "Opens or clicks, last clicked 20" in notes(company, amy)


def test_b10_a_complaint_is_an_engagement_of_its_own(company, amy):
    company.person("amy@birds-sanctuary.com", "clean", abuse=True)
    company.sync()
    company.sync(full_sync=True)
    assert engagement(company)[0] == "complained"
    assert [kind for kind, _, _ in events(company)] == ["complained"]


def test_b10_mail_of_a_journey_counts_and_is_read_again_only_if_its_figures_changed(company, amy):
    company.customer("Ben", "ben@birds-sanctuary.com")
    settle(company)
    journey = company.campaign(type="automation", recipients=["amy@birds-sanctuary.com"],
                               send_time="2020-01-01T00:00:00+00:00")  # fmt: skip
    company.did(journey, "amy@birds-sanctuary.com", "open")

    def read() -> list[str]:
        company.clear_journals()
        company.sync(full_sync=True)
        calls = company.calls("mailchimp")
        return ["since" in each["query"] for each in calls if "/reports/" in each["path"]]

    assert read() == [False]
    assert engagement(company)[:2] == ("engaged", 1)
    assert read() == []
    body = {"recipients": ["ben@birds-sanctuary.com"]}
    company.mailchimp_control("POST", f"campaigns/{journey}/recipients", body)
    assert read() == [True]
    assert engagement(company, "ben@birds-sanctuary.com")[0] is None
    company.pass_time(days=8)
    company.did(journey, "amy@birds-sanctuary.com", "click")
    assert read() == [False]
    assert engagement(company, "ben@birds-sanctuary.com")[:2] == ("never_opened", 1)


def test_b13_always_shows_the_first_line_on_every_synced_customer_once(company, amy):
    euro = {"CurrencyRef": {"value": "EUR", "name": "Euro"}}
    ben = company.customer("Ben", "ben@birds-sanctuary.com", **euro)
    nobody = company.customer("Nobody")
    company.seed("cy@birds-sanctuary.com", status="archived")
    archived = company.customer("Cy", "cy@birds-sanctuary.com")
    company.settings["activity"] = {"show": "always"}
    company.sync()
    assert notes(company, archived) == ""
    assert notes(company, amy).split("\n")[-2].startswith("Subscribed to the newsletter since 20")
    assert notes(company, nobody) == ""
    assert len(batches(company)) == 1
    company.clear_journals()
    company.did(company.campaign(), "amy@birds-sanctuary.com", "open")
    company.sync(full_sync=True)
    assert [len(each["body"]["BatchItemRequest"]) for each in batches(company)] == [1]
    company.clear_journals()
    company.settings["exclude"] = {"currency": "EUR"}
    company.sync()
    assert "Archived in Mailchimp" in notes(company, ben)


@pytest.mark.parametrize(("status", "said"), [("unsubscribed", "Unsubscribed"),
                                              ("cleaned", "Bounced")])  # fmt: skip
def test_b10b_who_had_opted_out_when_first_seen_is_shown_so_and_no_event_is_made_up(
    company, status, said
):
    company.seed("amy@birds-sanctuary.com", status=status)
    amy = company.customer("Amy", "amy@birds-sanctuary.com")
    company.sync()
    assert events(company) == []
    assert notes(company, amy).split("\n")[1].startswith(said)


def test_b11_a_day_without_events_makes_no_call_to_quickbooks_but_the_delta(company, amy):
    company.sync()
    assert len(company.calls("quickbooks")) == 1
    assert len(company.calls("mailchimp")) == 2


@pytest.mark.parametrize(
    ("write_to", "in_notes", "attached"),
    [("notes", True, 0), ("attachment", False, 1), ("both", True, 1), ("none", False, 0)],
)
def test_b12_activity_goes_where_the_setting_says(company, amy, write_to, in_notes, attached):
    company.settings["activity"] = {"write_to": write_to}
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync()
    company.sync()
    assert ("Unsubscribed" in notes(company, amy)) == in_notes
    found = company.quickbooks_control("GET", "attachables")["attachables"]
    assert ["Unsubscribed" in each["Note"] for each in found] == [True] * attached
    assert [kind for kind, _, _ in events(company)] == ["unsubscribed"]


def test_b12_another_place_takes_the_block_out_of_the_former_one(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    company.sync()
    company.settings["activity"] = {"write_to": "attachment"}
    company.person("amy@birds-sanctuary.com", "archive")
    company.sync()
    assert notes(company, amy).strip() == "Likes parrots.\r\n\tCall after 5."


def test_a28_the_old_address_is_never_created_again_and_the_new_one_is_shown(company, amy):
    company.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    company.sync()
    company.edit(amy, GivenName="Amelie")
    company.sync()
    company.sync(full_sync=True)
    assert set(company.statuses()) == {"amy@new-home.org"}
    held = notes(company, amy)
    assert "In Mailchimp the address is now amy@new-home.org." in held
    assert company.decisions()[amy][:2] == ("skipped", "address_changed_in_mailchimp")
    company.person("amy@new-home.org", "unsubscribe")
    company.sync()
    assert "Unsubscribed from the newsletter since" in notes(company, amy)


def test_a28_once_the_bookkeeper_takes_over_the_address_the_contact_is_the_customers_again(
    company, amy
):
    company.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    company.sync()
    company.move(amy, "amy@new-home.org")
    company.edit(amy, GivenName="Amelie")
    company.sync()
    assert company.statuses() == {"amy@new-home.org": "subscribed"}
    assert company.fields("amy@new-home.org")["FNAME"] == "Amelie"
    assert company.decisions()[amy][0] == "contact"


def test_a28_consent_follows_a_person_who_left_in_mailchimp_first_and_then_in_quickbooks(
    company, amy
):
    company.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    company.sync()
    company.person("amy@new-home.org", "unsubscribe")
    company.sync()
    company.move(amy, "amy@third.org")
    company.sync()
    assert company.statuses()["amy@third.org"] == "unsubscribed"


def test_a28_a_member_who_returns_to_the_old_address_is_the_customers_contact_again(company, amy):
    company.person("amy@birds-sanctuary.com", "upemail", email_address="amy@new-home.org")
    company.sync()
    company.person("amy@new-home.org", "upemail", email_address="amy@birds-sanctuary.com")
    company.sync()
    company.edit(amy, GivenName="Amelie")
    company.sync()
    assert company.statuses() == {"amy@birds-sanctuary.com": "subscribed"}
    assert company.fields("amy@birds-sanctuary.com")["FNAME"] == "Amelie"


def test_a_customer_who_comes_to_a_contact_with_a_history_shows_it(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    settle(company)
    late = company.customer("Late", "amy@birds-sanctuary.com")
    company.sync()
    assert "Unsubscribed" in notes(company, late)


def test_a_customer_who_moves_on_shows_the_new_contact(company, amy):
    company.person("amy@birds-sanctuary.com", "clean")
    settle(company)
    assert "Bounced" in notes(company, amy)
    company.move(amy, "amy@corrected.org")
    company.sync()
    held = notes(company, amy)
    assert "Bounced" not in held
    assert "Subscribed to the newsletter" in held


def test_a36_after_a_swap_of_audiences_the_customer_shows_the_new_one(company, amy):
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    settle(company)
    fields = [{"tag": tag} for tag in ("FNAME", "LNAME", "COMPANY", "PHONE")]
    fields.append({"tag": "ADDRESS", "type": "address"})
    company.mailchimp_control("POST", "audiences", {"id": "b2c3d4e5f6", "merge_fields": fields})
    company.settings["audience_id"] = "b2c3d4e5f6"
    settle(company)
    assert notes(company, amy).split("\n")[2].startswith("--- Mailchimp main")
    assert "Subscribed to the newsletter" in notes(company, amy)
