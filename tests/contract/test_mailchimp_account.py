"""The Mailchimp mock server: keys, the account, audiences, the shape of refusals, connections."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from mailchimp_marketing.api_client import ApiClientError

from tests.contract.test_mailchimp_fixtures import KEY, LIST, official_client, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]


def test_a_ping_answers_that_everything_is_chimpy(client):
    assert client.ping.get() == {"health_status": "Everything's Chimpy!"}


@pytest.mark.parametrize("scheme", ["Bearer", "OAuth"])
def test_a_token_is_as_good_as_a_key(remote, scheme):
    headers = {"Authorization": f"{scheme} {KEY}"}
    assert requests.get(f"{remote.url}/3.0/ping", headers=headers).status_code == 200


def test_a_wrong_key_is_refused_as_a_wrong_data_centre_is(remote):
    refused = problem(official_client(remote.url, "wrong-us99").ping.get)
    assert (refused["status"], refused["title"]) == (401, "API Key Invalid")
    assert "wrong datacenter" in refused["detail"]


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Basic Zm9v", f"Digest {KEY}"])
def test_a_malformed_authorization_is_refused(remote, header):
    answer = requests.get(f"{remote.url}/3.0/ping", headers={"Authorization": header})
    assert answer.status_code == 401


def test_a_revoked_key_stops_working(remote, client):
    remote.settings(api_key="another-key-us99")
    assert problem(client.ping.get)["status"] == 401


def test_the_root_describes_the_account(remote, client):
    remote.seed("ada@abel.net")
    root = client.root.get_root()
    assert root["account_name"] == "Sample Company"
    assert root["total_subscribers"] == 1


def test_the_sample_audience_is_listed_with_its_default_fields_and_company(client):
    [found] = client.lists.get_all_lists()["lists"]
    fields = client.lists.get_list_merge_fields(LIST)["merge_fields"]
    assert (found["id"], found["name"]) == (LIST, "Sample audience")
    assert [each["tag"] for each in fields] == ["FNAME", "LNAME", "ADDRESS", "PHONE", "COMPANY"]


def test_an_audience_may_be_given_any_merge_fields(remote, client):
    remote.add_audience("other12345", [{"tag": "SHOE", "type": "number", "required": True}])
    [field] = client.lists.get_list_merge_fields("other12345")["merge_fields"]
    assert (field["tag"], field["type"], field["required"]) == ("SHOE", "number", True)


def test_an_audience_s_counters_are_cached_for_five_minutes(remote, lists):
    assert lists.get_list(LIST)["stats"]["member_count"] == 0
    remote.seed("ada@abel.net")
    assert lists.get_list(LIST)["stats"]["member_count"] == 0
    remote.clock(301)
    assert lists.get_list(LIST)["stats"]["member_count"] == 1


def test_answers_can_be_cut_down_to_some_fields(lists):
    assert lists.get_list(LIST, fields=["id", "stats.member_count"]) == {
        "id": LIST,
        "stats": {"member_count": 0},
    }
    assert "stats" not in lists.get_list(LIST, exclude_fields=["stats"])


def test_an_unknown_audience_is_not_found(lists):
    refused = problem(lambda: lists.get_list("nosuchlist"))
    assert refused["detail"] == "The requested resource could not be found."


def test_an_unknown_path_is_not_found(remote):
    answer = requests.get(f"{remote.url}/3.0/nonsense", auth=("x", KEY))
    assert (answer.status_code, answer.json()["title"]) == (404, "Resource Not Found")


def test_a_wrong_method_is_refused_and_the_right_ones_are_named(http):
    answer = http("POST", "/members/ada@abel.net")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, PUT, PATCH, DELETE"


def test_a_refusal_is_problem_json_whose_instance_is_the_request_id(http):
    answer = http("GET", "/members/nobody@abel.net")
    assert answer.headers["Content-Type"] == "application/problem+json; charset=utf-8"
    assert answer.json()["type"] == "https://mailchimp.com/developer/marketing/docs/errors/"
    assert answer.json()["instance"] == answer.headers["X-Request-Id"]


def test_every_answer_has_its_own_request_id(http):
    ids = {http("GET", "").headers["X-Request-Id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_body_that_is_not_json_is_refused(http):
    answer = http("PUT", "/members/ada@abel.net", data="{")
    assert (answer.status_code, answer.json()["title"]) == (400, "JSON Parse Error")


def _statuses_of_eleven_at_once(client):
    def ping(_):
        try:
            client.ping.get()
        except ApiClientError as error:
            return error.status_code
        return 200

    with ThreadPoolExecutor(11) as pool:
        return sorted(pool.map(ping, range(11)))


def test_the_eleventh_connection_at_once_is_refused(remote, client):
    requests.put(f"{remote.url}/_sandbox/latency", json={"ms": 200}).raise_for_status()
    assert _statuses_of_eleven_at_once(client) == [200] * 10 + [429]
    assert client.ping.get()


def test_the_connection_limit_can_be_switched_off(remote, client):
    remote.settings(connection_limit=0)
    requests.put(f"{remote.url}/_sandbox/latency", json={"ms": 200}).raise_for_status()
    assert _statuses_of_eleven_at_once(client) == [200] * 11


def test_the_journal_names_calls_without_their_ids(remote, lists):
    lists.get_list_members_info(LIST)
    summary = requests.get(f"{remote.url}/_sandbox/journal/summary").json()
    assert summary["by_path"] == {"GET /3.0/lists/{list_id}/members": 1}


def test_a_setting_that_does_not_exist_is_refused(remote):
    with pytest.raises(ValueError, match="unknown settings: nonsense"):
        remote.settings(nonsense=True)


def test_a_reset_forgets_members_and_settings(remote, lists):
    remote.seed("ada@abel.net")
    remote.settings(batch_contract="status_required")
    remote.reset()
    assert lists.get_list_members_info(LIST)["total_items"] == 0
    answer = requests.get(f"{remote.url}/_sandbox/settings")
    assert answer.json()["batch_contract"] == "current"
