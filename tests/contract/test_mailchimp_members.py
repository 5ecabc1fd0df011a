"""The Mailchimp mock server: writing, finding, archiving and deleting one member."""

import hashlib

import pytest

from tests.contract.test_mailchimp_fixtures import LIST, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA = "ada@abel.net"


def md5(email):
    return hashlib.md5(email.lower().encode()).hexdigest()


def put(lists, email=ADA, **body):
    return lists.set_list_member(LIST, md5(email), {"email_address": email} | body)


def test_put_creates_with_status_if_new(remote, lists):
    made = put(lists, status_if_new="transactional", merge_fields={"FNAME": "Ada"}, tags=["A"])
    assert (made["id"], made["status"]) == (md5(ADA), "transactional")
    assert made["merge_fields"]["FNAME"] == "Ada"
    assert [each["name"] for each in made["tags"]] == ["A"]
    assert remote.member(ADA)["status_changed_by"] == "api"


def test_put_without_a_status_creates_nobody(lists):
    refused = problem(lambda: put(lists))
    assert "status_if_new" in refused["errors"][0]["message"]


def test_put_with_status_if_new_leaves_a_known_status_alone(remote, lists):
    remote.seed(ADA, "unsubscribed", origin="self")
    changed = put(lists, status_if_new="subscribed", merge_fields={"FNAME": "Ada"})
    assert (changed["status"], changed["merge_fields"]["FNAME"]) == ("unsubscribed", "Ada")


def test_put_ignores_tags_of_a_known_member(remote, lists):
    remote.seed(ADA, tags=["Old"])
    assert [each["name"] for each in put(lists, tags=["New"])["tags"]] == ["Old"]


def test_put_and_patch_take_a_known_member_without_an_address(remote, lists):
    remote.seed(ADA)
    body = {"merge_fields": {"LNAME": "Abel"}}
    assert lists.set_list_member(LIST, md5(ADA), body)["full_name"] == "Abel"
    body = {"merge_fields": {"FNAME": "Ada"}}
    assert lists.update_list_member(LIST, md5(ADA), body)["full_name"] == "Ada Abel"


def test_patch_of_a_stranger_is_not_found(lists):
    assert problem(lambda: lists.update_list_member(LIST, md5(ADA), {}))["status"] == 404


def test_post_of_a_known_member_is_refused_without_a_type(remote, lists):
    remote.seed(ADA)
    body = {"email_address": ADA, "status": "subscribed"}
    refused = problem(lambda: lists.add_list_member(LIST, body))
    assert refused["title"] == "Member Exists"
    assert refused["detail"] == (
        f"{ADA} is already a list member. Use PUT to insert or update list members."
    )
    assert "type" not in refused


def test_post_needs_address_and_status(lists):
    refused = problem(lambda: lists.add_list_member(LIST, {}))
    message = "Required fields were not provided: email_address, status"
    assert [{"field": "", "message": message}] == refused["errors"]


@pytest.mark.parametrize("handle", [md5(ADA), md5(ADA).upper(), ADA, "ADA@Abel.net"])
def test_a_member_is_found_by_hash_or_address(remote, lists, handle):
    remote.seed(ADA)
    assert lists.get_list_member(LIST, handle)["email_address"] == ADA


def test_a_member_is_found_by_contact_id(remote, lists):
    remote.seed(ADA)
    contact_id = remote.member(ADA)["contact_id"]
    assert lists.get_list_member(LIST, contact_id)["email_address"] == ADA
    assert lists.update_list_member(LIST, contact_id, {"vip": True})["vip"] is True


def test_letter_case_does_not_make_a_second_member(lists):
    put(lists, status_if_new="subscribed")
    put(lists, "Ada@Abel.NET", status_if_new="subscribed")
    assert lists.get_list_members_info(LIST)["total_items"] == 1


def test_what_is_not_set_is_an_empty_string(remote, lists):
    remote.seed(ADA, "transactional")
    member = lists.get_list_member(LIST, ADA)
    assert member["merge_fields"] == dict.fromkeys(member["merge_fields"], "")
    for key in ("timestamp_signup", "timestamp_opt", "ip_signup", "language", "full_name"):
        assert member[key] == ""
    assert "unsubscribe_reason" not in member


def test_an_address_change_moves_the_member_to_a_new_hash(remote, lists):
    remote.seed(ADA, tags=["Keep"], merge_fields={"FNAME": "Ada"})
    before = lists.get_list_member(LIST, ADA)
    after = lists.update_list_member(LIST, md5(ADA), {"email_address": "ada@baker.net"})
    assert after["id"] == md5("ada@baker.net")
    for key in ("contact_id", "web_id", "tags", "merge_fields"):
        assert before[key] == after[key]
    assert problem(lambda: lists.get_list_member(LIST, ADA))["status"] == 404


def test_an_address_change_to_a_known_address_is_refused(remote, lists):
    remote.seed(ADA)
    remote.seed("ben@baker.net")
    body = {"email_address": "ben@baker.net"}
    refused = problem(lambda: lists.set_list_member(LIST, md5(ADA), body))
    assert refused["title"] == "Member Exists"


def test_a_repeated_write_does_not_move_last_changed(remote, lists):
    body = {"status_if_new": "subscribed", "merge_fields": {"FNAME": "Ada", "LNAME": ""}}
    first = put(lists, **body)
    remote.clock(60)
    assert first["last_changed"] == put(lists, **body)["last_changed"]
    assert first["last_changed"] < put(lists, merge_fields={"FNAME": "A."})["last_changed"]


def test_a_given_timestamp_is_kept_in_utc(lists):
    made = put(lists, status_if_new="subscribed", timestamp_opt="2026-01-31 08:00:00")
    assert made["timestamp_opt"] == "2026-01-31T08:00:00+00:00"


def test_delete_archives_and_a_second_delete_is_refused(remote, lists):
    remote.seed(ADA)
    assert lists.delete_list_member(LIST, md5(ADA)).status_code == 204
    assert lists.get_list_member(LIST, md5(ADA))["status"] == "archived"
    refused = problem(lambda: lists.delete_list_member(LIST, md5(ADA)))
    assert refused["status"] == 405
    assert refused["detail"].startswith("This list member cannot be removed.")


@pytest.mark.parametrize("status", ["pending", "cleaned"])
def test_members_who_are_pending_or_bounced_cannot_be_archived(remote, lists, status):
    remote.seed(ADA, status)
    assert problem(lambda: lists.delete_list_member(LIST, md5(ADA)))["status"] == 405


def test_post_revives_an_archived_member_with_everything_it_had(remote, lists):
    remote.seed(ADA, tags=["Old"], merge_fields={"FNAME": "Ada"})
    remote.act(ADA, "archive")
    body = {"email_address": ADA, "status": "subscribed", "tags": ["New"]}
    revived = lists.add_list_member(LIST, body)
    assert (revived["status"], revived["merge_fields"]["FNAME"]) == ("subscribed", "Ada")
    assert {"Old", "New"} == {
        each["name"] for each in lists.get_list_member_tags(LIST, ADA)["tags"]
    }


def test_put_revives_an_archived_member_by_status_only(remote, lists):
    remote.seed(ADA)
    remote.act(ADA, "archive")
    assert put(lists, status_if_new="subscribed", vip=True)["status"] == "archived"
    assert put(lists, status="transactional")["status"] == "transactional"


def test_a_member_deleted_for_ever_is_not_found_and_cannot_be_imported(remote, lists):
    remote.seed(ADA)
    assert lists.delete_list_member_permanent(LIST, md5(ADA)).status_code == 204
    assert problem(lambda: lists.get_list_member(LIST, md5(ADA)))["status"] == 404
    for status in ("subscribed", "pending"):
        refused = problem(lambda status=status: put(lists, status_if_new=status))
        assert refused["title"] == "Forgotten Email Not Subscribed"
        assert "type" not in refused
    assert remote.member(ADA)["status"] == "forgotten"


def test_only_the_person_comes_back_from_being_deleted_for_ever(remote, lists):
    remote.seed(ADA)
    remote.act(ADA, "forget")
    remote.act(ADA, "subscribe")
    assert lists.get_list_member(LIST, ADA)["status"] == "subscribed"


@pytest.mark.parametrize("email", ["AAAAA", "a b@abel.net", "ada@abel", "a@b.net,c@d.net"])
def test_a_malformed_address_is_refused(lists, email):
    body = {"email_address": email, "status": "subscribed"}
    refused = problem(lambda: lists.add_list_member(LIST, body))
    assert refused["detail"] == "Please provide a valid email address."


@pytest.mark.parametrize("domain", ["example.com", "example.org", "test.com", "fakemail.net"])
def test_a_made_up_domain_is_refused_unless_switched_off(remote, lists, domain):
    email = f"foo@{domain}"
    refused = problem(lambda: put(lists, email, status_if_new="subscribed"))
    assert refused["detail"] == (
        f"{email} looks fake or invalid, please enter a real email address."
    )
    remote.settings(refuse_fake_domains=False)
    assert put(lists, email, status_if_new="subscribed")["email_address"] == email


def test_an_address_that_signed_up_too_often_is_refused(remote, lists):
    remote.settings(throttled=[ADA])
    refused = problem(lambda: put(lists, status_if_new="subscribed"))
    assert refused["detail"].startswith(f"{ADA} has signed up to a lot of lists very recently")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "archived"}, "status"),
        ({"status_if_new": 1}, "status_if_new"),
        ({"merge_fields": {"FNAME": True}}, "merge_fields"),
        ({"merge_fields": {"FNAME": None}}, "merge_fields"),
        ({"tags": [{"name": "A", "status": "active"}]}, "tags"),
        ({"vip": "yes"}, "vip"),
        ({"timestamp_opt": "yesterday"}, "timestamp_opt"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_field(lists, body, field):
    refused = problem(lambda: put(lists, **body))
    assert refused["detail"].startswith("The resource submitted could not be validated.")
    assert [field] == [each["field"] for each in refused["errors"]]
