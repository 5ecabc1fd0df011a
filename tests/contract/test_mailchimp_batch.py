"""The Mailchimp mock server: batch subscribe."""

import pytest

from tests.contract.test_mailchimp_fixtures import LIST, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA, BEN = "ada@abel.net", "ben@baker.net"


def batch(lists, *members, **settings):
    return lists.batch_list_members(LIST, {"members": list(members)} | settings)


def new(email, **more):
    return {"email_address": email, "status_if_new": "subscribed"} | more


def tags_of(lists, email):
    return [each["name"] for each in lists.get_list_member_tags(LIST, email)["tags"]]


def test_new_members_are_created_with_fields_and_tags(lists):
    answer = batch(lists, new(ADA, merge_fields={"FNAME": "Ada"}, tags=["QuickBooks"]), new(BEN))
    assert (answer["total_created"], answer["total_updated"], answer["error_count"]) == (2, 0, 0)
    shown = answer["new_members"][0]
    assert (shown["merge_fields"]["FNAME"], "contact_id" in shown) == ("Ada", False)
    assert tags_of(lists, ADA) == ["QuickBooks"]


def test_known_members_are_refused_untouched_without_update_existing(remote, lists):
    remote.seed(ADA)
    answer = batch(lists, new(ADA, merge_fields={"FNAME": "Ada"}), new(BEN))
    assert (answer["total_created"], answer["error_count"]) == (1, 1)
    assert answer["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"
    assert lists.get_list_member(LIST, ADA)["full_name"] == ""


@pytest.mark.parametrize(
    "status", ["subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived"]
)
def test_status_if_new_leaves_any_known_status_alone(remote, lists, status):
    remote.seed(ADA, status, origin="self")
    answer = batch(lists, new(ADA, merge_fields={"FNAME": "Ada"}), update_existing=True)
    assert answer["total_updated"] == 1
    member = lists.get_list_member(LIST, ADA)
    assert (member["status"], member["full_name"]) == (status, "Ada")


def test_status_overwrites_but_not_an_opt_out_by_the_person(remote, lists):
    remote.seed(ADA, "unsubscribed", origin="marketer")
    remote.seed(BEN, "unsubscribed", origin="self")
    members = [{"email_address": each, "status": "subscribed"} for each in (ADA, BEN)]
    answer = batch(lists, *members, update_existing=True)
    assert lists.get_list_member(LIST, ADA)["status"] == "subscribed"
    assert lists.get_list_member(LIST, BEN)["status"] == "unsubscribed"
    [error] = answer["errors"]
    assert (error["email_address"], error["error_code"]) == (BEN, "ERROR_GENERIC")
    assert "compliance state" in error["error"]


def test_status_revives_an_archived_member(remote, lists):
    remote.seed(ADA, "archived")
    batch(lists, {"email_address": ADA, "status": "subscribed"}, update_existing=True)
    assert lists.get_list_member(LIST, ADA)["status"] == "subscribed"


def test_tags_are_added_and_sync_tags_replaces_them(remote, lists):
    remote.seed(ADA, tags=["Marketer"])
    batch(lists, new(ADA, tags=["QuickBooks"]), update_existing=True)
    assert tags_of(lists, ADA) == ["Marketer", "QuickBooks"]
    batch(lists, new(ADA, tags=["QuickBooks"]), update_existing=True, sync_tags=True)
    assert tags_of(lists, ADA) == ["QuickBooks"]


def test_a_bad_member_comes_back_in_errors_and_the_others_go_through(remote, lists):
    remote.seed("gone@abel.net")
    remote.act("gone@abel.net", "forget")
    remote.settings(throttled=["often@abel.net"])
    lists.add_list_merge_field(LIST, {"name": "N", "type": "number"})
    bad = ["AAAAA", "foo@example.com", "gone@abel.net", "often@abel.net"]
    wrong_value = new("num@abel.net", merge_fields={"N": "many"})
    answer = batch(lists, *[new(each) for each in bad], wrong_value, new(ADA))
    assert (answer["total_created"], answer["error_count"]) == (1, 5)
    assert [each["email_address"] for each in answer["errors"]] == [*bad, "num@abel.net"]
    assert {each["error_code"] for each in answer["errors"]} == {"ERROR_GENERIC"}
    last = answer["errors"][-1]
    assert (last["field"], last["field_message"]) == ("N", "Please enter a number")


def test_the_second_of_two_equal_addresses_is_an_error_unless_skipped(lists):
    answer = batch(lists, new(ADA), new(ADA.upper()))
    assert (answer["total_created"], answer["error_count"]) == (1, 1)
    members = {"members": [new(BEN), {"email_address": BEN, "status": "pending"}]}
    answer = lists.batch_list_members(LIST, members, skip_duplicate_check=True)
    assert (answer["total_created"], answer["error_count"]) == (1, 0)
    assert lists.get_list_member(LIST, BEN)["status"] == "subscribed"


def test_a_replay_changes_nothing(remote, lists):
    member = new(ADA, merge_fields={"FNAME": "Ada"}, tags=["QuickBooks"])
    batch(lists, member, update_existing=True)
    before = lists.get_list_member(LIST, ADA)
    remote.clock(60)
    assert batch(lists, member, update_existing=True)["total_updated"] == 1
    assert lists.get_list_member(LIST, ADA) == before


def test_five_hundred_members_are_taken_and_one_more_refuses_them_all(lists):
    members = [new(f"n{number}@abel.net") for number in range(501)]
    assert problem(lambda: batch(lists, *members))["status"] == 400
    assert lists.get_list_members_info(LIST)["total_items"] == 0
    assert batch(lists, *members[:500])["total_created"] == 500


@pytest.mark.parametrize(
    "bad",
    [
        {"status_if_new": "subscribed"},
        {"email_address": BEN},
        {"email_address": 5, "status": "subscribed"},
        new(BEN, merge_fields={"FNAME": True}),
        new(BEN, tags="QuickBooks"),
        {"email_address": BEN, "status": "archived"},
        "ben@baker.net",
    ],
)
def test_a_member_that_breaks_the_schema_refuses_the_whole_chunk(lists, bad):
    refused = problem(lambda: batch(lists, new(ADA), bad))
    assert refused["detail"].startswith("The resource submitted could not be validated.")
    assert refused["errors"][0]["field"].startswith("members.item:1")
    assert lists.get_list_members_info(LIST)["total_items"] == 0


def test_null_counts_as_absent_in_a_batch(lists):
    assert batch(lists, new(ADA, merge_fields=None, tags=None, vip=None))["total_created"] == 1


def test_skip_merge_validation_lets_wrong_values_in(lists):
    member = new(ADA, merge_fields={"ADDRESS": {"addr1": "1 Main Street"}})
    assert batch(lists, member)["error_count"] == 1
    answer = lists.batch_list_members(LIST, {"members": [member]}, skip_merge_validation=True)
    assert answer["new_members"][0]["merge_fields"]["ADDRESS"] == {"addr1": "1 Main Street"}


class TestTheOlderContract:
    """`batch_contract: status_required`, as documented up to 3.0.55."""

    @pytest.fixture(autouse=True)
    def older(self, remote):
        remote.settings(batch_contract="status_required")

    def test_a_member_without_status_refuses_the_whole_chunk(self, lists):
        good = {"email_address": BEN, "status": "subscribed"}
        refused = problem(lambda: batch(lists, good, new(ADA), update_existing=True))
        message = "Required fields were not provided: status"
        assert refused["errors"] == [{"field": "members.item:1", "message": message}]

    def test_status_overwrites_and_status_if_new_is_unknown(self, remote, lists):
        remote.seed(ADA, "unsubscribed")
        members = [new(each, status="transactional") for each in (ADA, BEN)]
        batch(lists, *members, update_existing=True)
        for email in (ADA, BEN):
            assert lists.get_list_member(LIST, email)["status"] == "transactional"

    def test_an_opt_out_by_the_person_is_refused_in_errors(self, remote, lists):
        remote.seed(ADA, "unsubscribed", origin="self")
        members = [{"email_address": ADA, "status": "subscribed"}]
        assert batch(lists, *members, update_existing=True)["error_count"] == 1
        assert lists.get_list_member(LIST, ADA)["status"] == "unsubscribed"
