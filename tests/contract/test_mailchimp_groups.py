"""Groups and marketing permissions of the Mailchimp mock server, through the vendor's client."""

import pytest

from tests.contract.test_mailchimp_fixtures import LIST, problem
from tests.contract.test_mailchimp_members import ADA, md5, put

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

GROUPS = {"Customer type": ["Retail", "Wholesale"]}


@pytest.fixture
def ids(remote):
    """The ids of the groups by name."""
    return {name: each for each, name in remote.set_groups(GROUPS)["Customer type"].items()}


def test_categories_and_their_groups_are_listed_and_made(lists, ids):
    category = lists.get_list_interest_categories(LIST)["categories"][0]
    assert (category["title"], category["type"]) == ("Customer type", "checkboxes")
    found = lists.list_interest_category_interests(LIST, category["id"])["interests"]
    assert {each["name"]: each["id"] for each in found} == ids
    made = lists.create_list_interest_category(LIST, {"title": "Topics", "type": "hidden"})
    added = lists.create_interest_category_interest(LIST, made["id"], {"name": "Birds"})
    assert added["name"] == "Birds"
    topics = {"title": "Topics", "type": "hidden"}
    again = problem(lambda: lists.create_list_interest_category(LIST, topics))
    assert again["status"] == 400


def test_groups_are_set_by_id_and_others_stay(lists, ids):
    put(lists, status_if_new="subscribed", interests={ids["Retail"]: True})
    body = {"interests": {ids["Wholesale"]: True}}
    changed = lists.update_list_member(LIST, md5(ADA), body)
    assert changed["interests"] == {ids["Retail"]: True, ids["Wholesale"]: True}
    row = {"email_address": ADA, "status_if_new": "subscribed", "interests": {ids["Retail"]: False}}
    lists.batch_list_members(LIST, {"members": [row], "update_existing": True})
    assert lists.get_list_member(LIST, md5(ADA))["interests"][ids["Retail"]] is False


def test_a_group_that_there_is_not_is_refused(lists, ids):
    body = {"status_if_new": "subscribed", "interests": {"0000000000": True}}
    refused = problem(lambda: put(lists, **body))
    assert "Invalid interest ID" in refused["detail"]


def test_members_of_an_audience_without_groups_or_gdpr_fields_show_none(lists):
    made = put(lists, status_if_new="subscribed")
    assert not {"interests", "marketing_permissions"} & made.keys()
    assert lists.get_list(LIST)["marketing_permissions"] is False


def test_permissions_are_shown_on_members_and_set_one_by_one_only(remote, lists):
    email, direct = remote.ask_permissions("Email", "Direct mail")
    assert lists.get_list(LIST)["marketing_permissions"] is True
    given = [{"marketing_permission_id": email, "enabled": True}]
    made = put(lists, status_if_new="subscribed", marketing_permissions=given)
    assert made["marketing_permissions"] == [
        {"marketing_permission_id": email, "text": "Email", "enabled": True},
        {"marketing_permission_id": direct, "text": "Direct mail", "enabled": False},
    ]
    row = {"email_address": "bo@abel.net", "status_if_new": "subscribed"}
    lists.batch_list_members(LIST, {"members": [row | {"marketing_permissions": given}]})
    shown = lists.get_list_member(LIST, md5("bo@abel.net"))["marketing_permissions"]
    assert [each["enabled"] for each in shown] == [False, False]
