"""Custom fields of the customer: row A52 of docs/reference/behaviour.md."""

import json

import pytest
from sqlalchemy import text

from ml_connector.activity.use_edit import use_in_quickbooks
from ml_connector.errors import SettingsError
from ml_connector.store import customers
from ml_connector.sync.fetch_members import fetch_members
from tests.integration.company import AUDIENCE

AMY, BEN = "amy@finch.org", "ben@finch.org"
SECRET = "owes 12,345.67"


def custom(**fields):
    """Custom fields as QuickBooks sends them."""
    return {
        "CustomField": [
            {"DefinitionId": str(number), "Name": name, "Type": "StringType", "StringValue": value}
            for number, (name, value) in enumerate(fields.items(), 1)
        ]
    }


@pytest.fixture
def regional(company):
    """A company that maps the custom field Region to a merge field and a tag."""
    fields = [{"tag": "FNAME"}, {"tag": "REGION"}]
    company.mailchimp_control("POST", "audiences", {"id": AUDIENCE, "merge_fields": fields})
    company.settings["fields"] = {
        "FNAME": "GivenName",
        "REGION": ["{CustomField[Region]} ({GivenName})"],
    }
    company.settings["tags"] = {"from": {"CustomField[region]": "Region {value}"}}
    return company


def test_a52_a_custom_field_reaches_a_field_a_template_and_a_tag_and_so_does_its_change(
    regional, contract
):
    amy = regional.customer("Amy", AMY, **custom(Region="North", Credit=SECRET))
    regional.customer("Ben", BEN)
    regional.sync()
    assert regional.fields(AMY) == {"FNAME": "Amy", "REGION": "North (Amy)"}
    assert regional.tags(AMY) == {"Region North"}
    assert regional.fields(BEN) == {"FNAME": "Ben", "REGION": "(Ben)"}
    regional.edit(amy, **custom(Region="South", Credit=SECRET))
    regional.sync()
    assert regional.fields(AMY)["REGION"] == "South (Amy)"
    assert regional.tags(AMY) == {"Region South"}
    regional.edit(amy, **custom(Region="West"))
    regional.told_by_quickbooks(("updated", amy))
    regional.work_off()
    assert regional.tags(AMY) == {"Region West"}


def test_a52_custom_fields_that_the_settings_do_not_name_are_nowhere(regional):
    amy = regional.customer("Amy", AMY, **custom(Region="North", Credit=SECRET))
    regional.sync()
    assert SECRET not in json.dumps([regional.members(), regional.audit()], default=str)
    with regional.database.begin() as connection:
        kept = connection.execute(text("SELECT payload FROM ml_connector.customers")).scalar_one()
    stored = customers.decrypted(kept, sync="main", customer_id=amy, vault=regional.vault)
    assert "North" in str(stored)
    assert SECRET not in str(stored)


def test_a52_custom_fields_are_asked_for_only_if_the_settings_name_one(regional):
    regional.customer("Amy", AMY, **custom(Region="North"))
    regional.sync()
    asked = [call["query"].get("include") for call in regional.calls("quickbooks")]
    assert "enhancedAllCustomFields" in asked
    del regional.settings["tags"], regional.settings["fields"]["REGION"]
    regional.clear_journals()
    regional.sync()
    calls = regional.calls("quickbooks")
    assert calls
    assert not any("include" in call["query"] for call in calls)


@pytest.mark.parametrize(
    "rules", [{"include": {"CustomField[Region]": "north"}}, {"exclude": {"CustomField[Region]": ["South", "West"]}}]
)  # fmt: skip
def test_a52_customers_are_left_out_by_a_custom_field(company, rules):
    company.settings |= rules
    amy = company.customer("Amy", AMY, **custom(Region="North"))
    ben = company.customer("Ben", BEN, **custom(Region="South"))
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert company.decisions()[ben] == ("skipped", "custom_field_excluded", None)
    company.edit(amy, **custom(Region="West"))
    company.sync()
    assert company.statuses() == {AMY: "archived"}


def test_a52_a_name_that_no_customer_has_stops_the_run_before_its_plan(regional):
    regional.customer("Amy", AMY, **custom(Area="North", Tier="Gold"))
    with pytest.raises(SettingsError, match=r"custom field 'Region'; they have: Area, Tier"):
        regional.sync()
    assert regional.statuses() == {}


def test_a52_a_company_without_customers_lacks_no_custom_field(regional):
    regional.sync()
    assert regional.statuses() == {}


@pytest.mark.parametrize("way", ["daily", "webhook", "ids"])
def test_a52_a_field_renamed_in_quickbooks_stops_the_run_and_clears_nothing(regional, way):
    amy = regional.customer("Amy", AMY, **custom(Region="North"))
    ben = regional.customer("Ben", BEN, **custom(Region="South"))
    regional.sync()
    for each in (amy, ben):
        regional.edit(each, GivenName="Other", **custom(Area="North"))
    regional.told_by_quickbooks(("updated", ben))
    runs = {"webhook": regional.work_off, "ids": lambda: regional.sync(ids=[ben])}
    with pytest.raises(SettingsError, match="'Region'"):
        runs.get(way, regional.sync)()
    assert regional.fields(BEN) == {"FNAME": "Ben", "REGION": "South (Ben)"}
    for each in (amy, ben):
        regional.edit(each, **custom(Region="North"))
    regional.make_due()
    regional.work_off()
    regional.sync()
    assert regional.fields(BEN) == {"FNAME": "Other", "REGION": "North (Other)"}


def test_a52_a_field_that_only_the_changed_customers_lack_is_cleared_there(regional):
    amy = regional.customer("Amy", AMY, **custom(Region="North"))
    regional.customer("Ben", BEN, **custom(Region="South"))
    regional.sync()
    regional.edit(amy, CustomField=None)
    regional.clear_journals()
    regional.sync()
    assert regional.fields(AMY)["REGION"] == "(Amy)"
    assert regional.tags(AMY) == set()
    regional.clear_journals()
    regional.sync()
    assert len(regional.calls("quickbooks")) == 1, "a quiet day asks for no witness"


def decide_and_write(company, scope):
    """The tasks of a daily sync after its read of QuickBooks, up to its archives."""
    fetch_members(scope, company.mailchimp_client(scope.calls))
    planned = company.plan(scope)
    company.push(scope, planned)
    company.archive(scope, planned)


def someone_opts_out(company, email):
    """A member opts out; the webhooks' task shows it on the customer."""
    company.person(email, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", action="unsub", email=email)
    company.work_off()


def test_a52_activity_written_between_fetch_and_plan_archives_nobody(company):
    company.settings |= {"include": {"CustomField[Region]": "north"}}
    company.customer("Amy", AMY, **custom(Region="North"))
    ben = company.customer("Ben", BEN, **custom(Region="North"))
    company.sync()
    scope = company.scope()
    company.fetch(scope)
    someone_opts_out(company, BEN)
    assert "Mailchimp" in company.record_of(ben)["Notes"]
    decide_and_write(company, scope)
    assert company.statuses() == {AMY: "subscribed", BEN: "unsubscribed"}
    company.clear_journals()
    company.sync()
    assert company.writes() == []


def test_a52_activity_written_takes_no_field_or_tag_from_another_customer_at_the_address(regional):
    amy = regional.customer("Amy", AMY, **custom(Region="North"))
    job = regional.customer("Amy job", AMY, **custom(Region="North"))
    regional.sync()
    someone_opts_out(regional, AMY)
    assert "Mailchimp" in regional.record_of(amy)["Notes"]
    regional.edit(job, FamilyName="Finch")
    regional.told_by_quickbooks(("updated", job))
    regional.work_off()
    assert regional.fields(AMY)["REGION"] == "North (Amy)"
    assert regional.tags(AMY) == {"Region North"}


def test_a52_activity_written_is_staged_so_that_the_next_write_meets_no_conflict(regional):
    amy = regional.customer("Amy", AMY, **custom(Region="North"))
    regional.sync()
    someone_opts_out(regional, AMY)
    with regional.database.begin() as connection:
        row = connection.execute(
            text("SELECT sync_token, payload, dirty FROM ml_connector.customers")
        ).one()
    staged = customers.decrypted(row.payload, sync="main", customer_id=amy, vault=regional.vault)
    there = regional.record_of(amy)
    assert (row.sync_token, staged.notes) == (there["SyncToken"], there["Notes"])
    assert staged.sync_token == there["SyncToken"]
    assert not row.dirty


def test_a52_a_value_used_in_quickbooks_between_fetch_and_plan_clears_and_archives_nobody(regional):
    regional.settings["include"] = {"CustomField[Region]": "north"}
    amy = regional.customer("Amy", AMY, **custom(Region="North"))
    regional.sync()
    regional.person(AMY, "profile", merge_fields={"FNAME": "Amelia"})
    regional.sync()
    scope = regional.scope()
    regional.fetch(scope)
    client = regional.quickbooks_client(scope.calls)
    use_in_quickbooks(regional.scope(), client, customer_id=amy, tag="FNAME")
    decide_and_write(regional, scope)
    assert regional.statuses() == {AMY: "subscribed"}
    assert regional.fields(AMY) == {"FNAME": "Amelia", "REGION": "North (Amelia)"}
    assert regional.tags(AMY) == {"Region North"}
