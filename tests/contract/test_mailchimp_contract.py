"""The official client's tour of the Mailchimp mock server breaks the published contract nowhere."""

import pytest
import requests

from tests.contract.test_mailchimp_fixtures import KEY, LIST, official_client

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA, BEN, EVA = "ada@abel.net", "ben@baker.net", "eva@evans.net"
HOME = {"addr1": "1 Main Street", "city": "Springfield", "state": "IL", "zip": "62701"}


@pytest.fixture
def proxied(remote, prism_proxy):
    return official_client(prism_proxy.url)


def broken_by(prism_proxy, call):
    before = prism_proxy.violations()
    call()
    return prism_proxy.violations()[len(before) :]


def forget(client, email):
    """Delete for ever without the body `null` that the client sends and the contract forbids."""
    url = f"{client.api_client.host}/lists/{LIST}/members/{email}/actions/delete-permanent"
    assert requests.post(url, auth=("x", KEY)).status_code == 204


def tour(client):
    """Every call the mock server knows, as a sync makes them."""
    lists = client.lists
    client.ping.get()
    client.root.get_root()
    lists.get_all_lists(count=100)
    lists.get_list(LIST)
    shoe = lists.add_list_merge_field(LIST, {"name": "Shoe size", "type": "number"})
    lists.get_list_merge_fields(LIST, count=1000)
    lists.update_list_merge_field(LIST, shoe["merge_id"], {"name": "Size"})
    lists.get_list_merge_field(LIST, shoe["merge_id"])
    fields = {"FNAME": "Ada", "ADDRESS": HOME, "PHONE": "", shoe["tag"]: 39}
    members = [
        {"email_address": email, "status_if_new": "subscribed", "merge_fields": fields}
        for email in (ADA, BEN)
    ]
    lists.batch_list_members(LIST, {"members": members, "update_existing": True})
    lists.batch_list_members(LIST, {"members": members, "update_existing": False})
    body = {"email_address": EVA, "status_if_new": "transactional", "tags": ["QuickBooks"]}
    lists.set_list_member(LIST, EVA, body)
    lists.update_list_member(LIST, EVA, {"status": "unsubscribed"})
    lists.update_list_member(LIST, EVA, {"email_address": "eva@fox.net"})
    body = {"email_address": "new@fox.net", "status": "pending"}
    lists.add_list_member(LIST, body)
    body = {"tags": [{"name": "QuickBooks", "status": "active"}], "is_syncing": True}
    lists.update_list_member_tags(LIST, ADA, body)
    lists.get_list_member_tags(LIST, ADA, count=1000)
    (tag,) = lists.tag_search(LIST, name="Quick")["tags"]
    body = {"members_to_add": [BEN], "members_to_remove": [ADA, "nobody@fox.net"]}
    lists.batch_segment_members(body, LIST, str(tag["id"]))
    lists.delete_list_member(LIST, ADA)
    forget(client, BEN)
    lists.get_list_member(LIST, ADA)
    since = {"since_last_changed": "2020-01-01T00:00:00Z", "sort_field": "last_changed"}
    assert len(lists.get_list_members_info(LIST, count=1000, **since)["members"]) == 2
    lists.get_list_members_info(LIST, status="archived", sort_dir="ASC", **since)
    lists.get_list_members_info(LIST, fields=["total_items", "members.id", "members.status"])
    lists.delete_list_merge_field(LIST, shoe["merge_id"])


def test_the_official_client_s_tour_breaks_no_contract(proxied, prism_proxy):
    assert broken_by(prism_proxy, lambda: tour(proxied)) == []


@pytest.mark.parametrize(
    ("status", "path"), [(404, "/members/nobody@abel.net"), (400, "/members?since_last_changed=x")]
)
def test_refusals_keep_the_contract_too(remote, prism_proxy, status, path):
    url = f"{prism_proxy.url}/3.0/lists/{LIST}{path}"
    answer = requests.get(url, auth=("x", KEY))
    assert (answer.status_code, "sl-violations" in answer.headers) == (status, False)


def test_a_wrong_key_passes_the_contract_and_is_refused_by_the_mock_server(remote, prism_proxy):
    answer = requests.get(f"{prism_proxy.url}/3.0/ping", auth=("x", "wrong"))
    assert (answer.status_code, answer.json()["title"]) == (401, "API Key Invalid")


def test_prism_notices_a_request_that_breaks_the_contract(remote, prism_proxy):
    def neither_status_nor_status_if_new():
        url = f"{prism_proxy.url}/3.0/lists/{LIST}"
        body = {"members": [{"email_address": ADA}]}
        assert requests.post(url, json=body, auth=("x", KEY)).status_code == 422

    assert len(broken_by(prism_proxy, neither_status_nor_status_if_new)) == 1


def test_a_body_without_type_is_what_mailchimp_sends_and_the_contract_forbids(remote, prism_proxy):
    """Remove this, and the note on `problems.exists`, when the contract drops `type`."""
    remote.seed(ADA)

    def add_again():
        url = f"{prism_proxy.url}/3.0/lists/{LIST}/members"
        body = {"email_address": ADA, "status": "subscribed"}
        answer = requests.post(url, json=body, auth=("x", KEY))
        assert "required property 'type'" in answer.headers["sl-violations"]

    assert len(broken_by(prism_proxy, add_again)) == 1
