"""The Mailchimp mock server: who may change a member's status, and who did."""

import pytest

from tests.contract.test_mailchimp_fixtures import LIST, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA = "ada@abel.net"


def subscribe(lists):
    return lists.set_list_member(LIST, ADA, {"email_address": ADA, "status": "subscribed"})


@pytest.mark.parametrize("action", ["unsubscribe", "clean"])
def test_the_api_cannot_subscribe_who_opted_out_or_bounced(remote, lists, action):
    remote.seed(ADA)
    remote.act(ADA, action)
    refused = problem(lambda: subscribe(lists))
    assert refused["title"] == "Member In Compliance State"
    assert "type" not in refused
    assert remote.member(ADA)["compliance"] is True


def test_an_archive_does_not_wash_an_opt_out_off(remote, lists):
    remote.seed(ADA)
    remote.act(ADA, "unsubscribe")
    lists.delete_list_member(LIST, ADA)
    body = {"email_address": ADA, "status": "subscribed"}
    refused = problem(lambda: lists.add_list_member(LIST, body))
    assert refused["title"] == "Member In Compliance State"


def test_the_api_can_silently_undo_an_opt_out_that_an_admin_set(remote, lists):
    remote.seed(ADA)
    remote.act(ADA, "unsubscribe", by="marketer")
    member = lists.get_list_member(LIST, ADA)
    assert member["unsubscribe_reason"] == "N/A (Unsubscribed by admin)"
    assert subscribe(lists)["status"] == "subscribed"


def test_an_opt_out_by_an_admin_becomes_the_person_s_when_they_repeat_it(remote, lists):
    remote.seed(ADA, "unsubscribed", origin="marketer")
    remote.act(ADA, "unsubscribe")
    assert problem(lambda: subscribe(lists))["title"] == "Member In Compliance State"


def test_an_opt_out_by_the_api_can_be_undone_by_the_api(remote, lists):
    remote.seed(ADA)
    lists.update_list_member(LIST, ADA, {"status": "unsubscribed"})
    assert remote.member(ADA)["status_changed_by"] == "api"
    assert subscribe(lists)["status"] == "subscribed"


def test_pending_is_the_only_way_back_by_the_api_and_mails_the_person(remote, lists):
    remote.seed(ADA, "unsubscribed", origin="self")
    body = {"status": "pending"}
    assert lists.update_list_member(LIST, ADA, body)["status"] == "pending"
    assert remote.summary()["confirmation_mails"] == 1
    assert problem(lambda: subscribe(lists))["title"] == "Member In Compliance State"
    remote.act(ADA, "confirm")
    assert remote.member(ADA)["status_changed_by"] == "self"
    assert lists.get_list_member(LIST, ADA)["status"] == "subscribed"


def test_the_person_can_sign_up_again(remote, lists):
    remote.seed(ADA, "unsubscribed", origin="self")
    remote.act(ADA, "subscribe")
    assert remote.member(ADA)["compliance"] is False
    assert subscribe(lists)["status"] == "subscribed"


def test_with_double_opt_in_a_sign_up_waits_and_the_api_does_not(remote, lists):
    remote.settings(double_optin=True)
    assert lists.get_list(LIST)["double_optin"] is True
    assert remote.act("ben@baker.net", "subscribe")["status"] == "pending"
    assert subscribe(lists)["status"] == "subscribed"


def test_every_change_of_status_is_kept_with_its_cause(remote, lists):
    subscribe(lists)
    remote.act(ADA, "unsubscribe", reason="Too many mails")
    assert lists.get_list_member(LIST, ADA)["unsubscribe_reason"] == "Too many mails"
    remote.act(ADA, "archive")
    changes = remote.member(ADA)["status_changes"]
    assert [(each["after"], each["by"]) for each in changes] == [
        ("subscribed", "api"),
        ("unsubscribed", "self"),
        ("archived", "marketer"),
    ]


def test_an_address_changed_by_the_person_moves_the_member(remote, lists):
    remote.seed(ADA)
    remote.act(ADA, "upemail", email_address="ada@baker.net")
    assert problem(lambda: lists.get_list_member(LIST, ADA))["status"] == 404
    assert lists.get_list_member(LIST, "ada@baker.net")["status"] == "subscribed"


def test_a_profile_edited_by_the_person_shows(remote, lists):
    remote.seed(ADA)
    remote.act(ADA, "profile", merge_fields={"FNAME": "Ada"})
    assert lists.get_list_member(LIST, ADA)["full_name"] == "Ada"


def test_an_unknown_action_is_refused(remote):
    remote.seed(ADA)
    with pytest.raises(ValueError, match="actions are subscribe"):
        remote.act(ADA, "promote")
