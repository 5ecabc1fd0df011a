"""Pages that are right at a glance: colours, counts, order and words agree."""

import re
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import text

from ml_connector.console import words
from ml_connector.console.links import Apps, mailchimp_app, quickbooks_app
from ml_connector.errors import QuotaExhausted
from ml_connector.sync import guard, names, targets
from ml_connector.sync.undo import find_run, plan_undo
from tests.integration.test_console import FakeOutside, Visitor, words_of
from tests.integration.undoing import last_run


def beat(html: str) -> str:
    """The colour of the overview's first line."""
    return re.search(r'class="beat (\w+)"', html)[1]


def sql(company, statement: str, **values) -> None:
    with company.database.begin() as connection:
        connection.execute(text(statement), values)


def test_a_plan_that_waits_turns_the_overview_amber_and_counts_as_on_its_page(company):
    company.settings["first_run"] = "ask"
    for number in range(3):
        company.customer(f"Amy {number}", f"amy{number}@birds-sanctuary.com")
    scope = company.scope()
    plan_id = company.decide(scope).plan_id
    guard.hold_plan(scope, plan_id=plan_id)
    visitor = Visitor(company, "viewer")
    html = visitor.get("/main").text
    assert beat(html) == "warn"
    assert "Waiting for your approval of 3 changes." in words_of(html)
    assert f'/main/plans/{plan_id}">Review' in html
    latest = words_of(html).partition("Latest runs")[2]
    assert "Daily sync waits for approval 3" in latest
    assert "Daily sync waits for approval" in visitor.page("/main/plans")
    assert beat(Visitor(company, "viewer").get("/main").text) == "warn"


class Paused(FakeOutside):
    """An Airflow in which the sync's DAG is switched off."""

    def paused(self, sync):
        return True


def test_a_paused_sync_says_so_although_its_plan_waits(company):
    company.settings["first_run"] = "ask"
    company.customer("Amy", "amy@birds-sanctuary.com")
    scope = company.scope()
    guard.hold_plan(scope, plan_id=company.decide(scope).plan_id)
    page = Visitor(company, "viewer", outside=Paused()).page("/main")
    assert "The sync is paused." in page
    assert "Waiting for your approval of 1 change" in page


def test_an_undo_that_waits_hides_no_failed_run_and_counts_what_it_will_write(company):
    for name in ("amy", "bo"):
        company.customer(name, f"{name}@birds-sanctuary.com")
    company.sync()
    company.person("amy@birds-sanctuary.com", "unsubscribe")
    with company.database.begin() as connection:
        undone = find_run(connection, last_run(company))
    company.settings["guard"] = {"max_archives": 0}
    scope = company.scope()
    undo = plan_undo(scope, company.mailchimp_client(scope.calls), undone=undone)
    held = guard.hold_plan(scope, plan_id=undo)
    assert held is not None
    sql(company, "UPDATE ml_connector.plans SET state = 'failed' WHERE kind = 'sync'")
    html = Visitor(company, "viewer").get("/main").text
    assert beat(html) == "bad"
    page = words_of(html)
    assert "The last run failed." in page
    assert "Waiting for your approval of 1 change " in page, "and leaves the one that was changed"


def test_the_overview_is_green_until_something_needs_a_person(company):
    company.customer("Amy", "amy@birds-sanctuary.com")
    company.sync()
    assert beat(Visitor(company, "viewer").get("/main").text) == "good"
    company.told_by_quickbooks(("updated", "1"))
    sql(company, "UPDATE ml_connector.webhook_inbox SET state = 'dead', reason = 'not_found'")
    html = Visitor(company, "viewer").get("/main").text
    assert beat(html) == "warn"
    assert "1 thing needs attention." in words_of(html)
    assert "1 webhook was dead-lettered" in words_of(html)


def test_an_event_that_waits_for_its_planned_retry_is_not_reported_as_stuck(company):
    company.told_by_quickbooks(("updated", "1"))
    sql(
        company,
        """UPDATE ml_connector.webhook_inbox SET received_at = received_at - interval '2 hours',
           next_try_at = :at""",
        at=company.clock() + timedelta(minutes=20),
    )
    page = Visitor(company, "viewer").page("/main")
    assert "waiting for long" not in page
    assert re.search(r"next retry in (19|20) min", page)
    company.ahead += timedelta(hours=1)
    page = Visitor(company, "viewer").page("/main")
    assert "Webhook events have been waiting for long" in page
    assert re.search(r"oldest due (39|40) min ago", page)


def test_an_inactive_customer_has_no_badge_twice(company):
    ed = company.customer("Ed", "ed@birds-sanctuary.com")
    company.sync()
    company.edit(ed, Active=False)
    company.sync()
    found = Visitor(company, "viewer").post("/main/customers", {"wanted": "ed@birds-sanctuary.com"})
    badges = re.findall(r'class="badge[^"]*">([^<]*)<', found.text.partition("people")[2])
    assert badges == ["inactive in QuickBooks"]


def test_one_day_of_data_is_told_in_figures_not_in_a_chart_of_one_point(company):
    company.customer("Amy", "amy@birds-sanctuary.com")
    company.sync()
    html = Visitor(company, "viewer").get("/main").text
    first = html.partition("Contacts by status")[2].partition("</section>")[0]
    assert "The chart starts on the second day." in first
    assert "Subscribed 1" in words_of(first)
    assert "<canvas" not in first


def test_filters_list_their_values_by_meaning(company):
    amy = company.customer("Amy", "amy@birds-sanctuary.com")
    company.customer("Di")
    company.sync()
    company.edit(amy, Active=False)
    company.sync()
    html = Visitor(company, "viewer").get("/main/audit").text
    options = re.findall(r'<option value="(\w+)"', html.partition('name="action"')[2])
    actions = [name for name in options if name in words.ACTION]
    assert actions[:3] == ["create", "archive", "skip"]
    assert "Create contact" in words_of(html)


# ── both systems one click away ──────────────────────────────────────────────────────────────


def test_customer_and_contact_are_one_click_away_in_both_systems(company):
    amy = company.customer("Amy", "amy@birds-sanctuary.com")
    company.seed("amy@birds-sanctuary.com")
    company.sync()
    html = Visitor(company, "viewer").get(f"/main/customers/{amy}").text
    with company.database.begin() as connection:
        web_id = connection.execute(text("SELECT web_id FROM ml_connector.contacts")).scalar_one()
    assert f"https://app.qbo.intuit.com/app/customerdetail?nameId={amy}" in html
    assert f"https://us19.admin.mailchimp.com/lists/members/view?id={web_id}" in html
    key = company.vault.email_key("amy@birds-sanctuary.com").hex()
    assert (
        f"/lists/members/view?id={web_id}"
        in Visitor(company, "viewer").get(f"/main/contacts/{key}").text
    )


def test_a_contact_that_the_sync_created_has_its_link_once_it_was_read(company):
    company.customer("Amy", "amy@birds-sanctuary.com")
    company.sync()
    company.sync()
    with company.database.begin() as connection:
        assert connection.execute(text("SELECT web_id FROM ml_connector.contacts")).scalar_one()


def test_both_accounts_are_called_by_their_names_and_fields_as_mailchimp_shows_them(company):
    amy = company.customer("Amy", "amy@birds-sanctuary.com", FamilyName="Finch")
    company.sync()
    names.learn_audience(company.scope(), company.mailchimp_client(Counter()))
    visitor = Visitor(company, "admin")
    page = visitor.page(f"/main/customers/{amy}")
    assert f"QuickBooks customer {amy} of Sandbox Company_US_1" in page
    assert "Last Name Finch" in page
    assert "LNAME" not in page
    assert "Last Name LNAME" in visitor.page("/main/setup")
    with company.database.begin() as connection:
        known = names.names_of(company.sync_settings(), connection)
    assert known.audience
    assert f"Audience {known.audience}" in page
    assert f"{known.audience} ({company.sync_settings().audience_id})" in visitor.page(
        "/main/setup"
    )
    company.edit(amy, FamilyName="Falcon")
    company.sync()
    (row,) = [each for each in company.audit() if each["action"] == "update"]
    changed = visitor.page(f"/main/audit/{row['id']}")
    assert "Last Name Finch Falcon" in changed


class Unnamed:
    """An account whose name cannot be read."""

    realm_id = "9341450000000001"

    def audience(self):
        raise QuotaExhausted("too many requests")

    company = audience


def test_a_name_that_cannot_be_read_stops_no_run_but_a_country_that_is_needed_does(company):
    scope = company.scope()
    names.learn_audience(scope, Unnamed())
    company.settings["fields"] = {"FNAME": "GivenName"}
    targets.learn_company(company.scope(), Unnamed())
    with company.database.begin() as connection:
        assert names.names_of(scope.sync, connection) == ("", "")
    company.settings["fields"] = {"ADDRESS": "BillAddr"}
    with pytest.raises(QuotaExhausted):
        targets.learn_company(company.scope(), Unnamed())


@pytest.mark.parametrize("status", ["absent", "forgotten"])
def test_a_contact_that_mailchimp_no_longer_has_is_not_opened_there(company, status):
    amy = company.customer("Amy", "amy@birds-sanctuary.com")
    company.seed("amy@birds-sanctuary.com")
    company.sync()
    sql(company, "UPDATE ml_connector.contacts SET status = :status", status=status)
    key = company.vault.email_key("amy@birds-sanctuary.com").hex()
    visitor = Visitor(company, "viewer")
    for path in (f"/main/customers/{amy}", f"/main/contacts/{key}"):
        html = visitor.get(path).text
        assert "In Mailchimp</h2>" in html
        assert "Open in Mailchimp" not in html, path


def test_audit_and_webhooks_name_the_customer_beside_the_id(company):
    amy = company.customer("Amy", "amy@birds-sanctuary.com")
    company.sync()
    company.told_by_quickbooks(("updated", amy))
    visitor = Visitor(company, "viewer")
    row = company.audit()[0]["id"]
    for path in ("/main/audit", f"/main/audit/{row}", "/main/webhooks", "/main/webhooks/1"):
        assert re.search(rf">Amy</a> <span class=\"quiet\">{amy}<", visitor.get(path).text), path
    stranger = Visitor(company, "viewer", outside=Elsewhere())
    assert ">Amy</a>" not in stranger.get("/main/webhooks").text


def test_an_event_about_an_invoice_names_no_customer_of_the_same_id(company):
    amy = company.customer("Amy", "amy@birds-sanctuary.com")
    company.sync()
    company.told_by_quickbooks(("updated", amy))
    sql(company, "UPDATE ml_connector.webhook_inbox SET kind = 'invoice.updated'")
    visitor = Visitor(company, "viewer")
    for path in ("/main/webhooks", "/main/webhooks/1"):
        html = visitor.get(path).text
        assert "nvoice updated" in html
        assert "Amy" not in html
        assert f"/customers/{amy}" not in html


class Elsewhere(FakeOutside):
    """A connection to another company, whose customer of the same id is somebody else."""

    def realm(self, sync):
        return "another"


@pytest.mark.parametrize(
    ("api", "app"),
    [
        ("", "https://app.qbo.intuit.com"),
        ("https://quickbooks.api.intuit.com", "https://app.qbo.intuit.com"),
        ("https://sandbox-quickbooks.api.intuit.com/", "https://app.sandbox.qbo.intuit.com"),
        ("http://127.0.0.1:9410", ""),
    ],
)
def test_links_lead_to_the_pages_of_the_api_in_use(api, app):
    assert quickbooks_app(api) == app


def test_links_to_mailchimp_lead_to_its_data_centre():
    assert mailchimp_app("https://us19.api.mailchimp.com/3.0") == "https://us19.admin.mailchimp.com"
    assert mailchimp_app("http://127.0.0.1:9420/3.0") == ""
    assert Apps().customer("1") == Apps(mailchimp="https://x").contact(None) == ""
