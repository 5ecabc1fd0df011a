"""The Mailchimp mock server: listing members, their tags, and how quickly a large audience answers."""

import time

import pytest

from tests.contract.test_mailchimp_fixtures import LIST, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA = "ada@abel.net"
STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived")


def emails(answer):
    return [each["email_address"] for each in answer["members"]]


@pytest.fixture
def three(remote):
    """Three members, changed on the first of January, February and March, not in this order."""
    for month in (2, 1, 3):
        remote.seed(f"m{month}@abel.net", last_changed=f"2026-0{month}-01T00:00:00Z")


def test_ten_members_are_listed_unless_more_are_asked_for(remote, lists, http):
    remote.generate(1200)
    listed = lists.get_list_members_info(LIST)
    assert (len(listed["members"]), listed["total_items"]) == (10, 1200)
    assert len(lists.get_list_members_info(LIST, count=1000)["members"]) == 1000
    assert http("GET", "/members?count=1001").status_code == 400


def test_pages_cover_everyone_once_and_end_in_an_empty_one(remote, lists):
    remote.generate(25)
    pages = [emails(lists.get_list_members_info(LIST, offset=offset)) for offset in (0, 10, 20, 30)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert len({email for page in pages for email in page}) == 25


def test_archived_members_are_listed_only_on_request(remote, lists):
    for status in STATUSES:
        remote.seed(f"{status}@abel.net", status)
    default = lists.get_list_members_info(LIST, count=100)
    assert default["total_items"] == 5
    assert "archived@abel.net" not in emails(default)
    since = lists.get_list_members_info(LIST, since_last_changed="2020-01-01T00:00:00Z")
    assert "archived@abel.net" not in emails(since)
    for status in STATUSES:
        assert emails(lists.get_list_members_info(LIST, status=status)) == [f"{status}@abel.net"]


@pytest.mark.usefixtures("three")
def test_since_and_before_exclude_the_second_named(lists):
    def between(**query):
        return emails(lists.get_list_members_info(LIST, sort_field="last_changed", **query))

    assert between(since_last_changed="2026-02-01T00:00:00Z") == ["m3@abel.net"]
    assert between(before_last_changed="2026-02-01T00:00:00+00:00") == ["m1@abel.net"]
    assert between(
        since_last_changed="2026-01-31T23:59:59Z", before_last_changed="2026-02-01T00:00:01Z"
    ) == ["m2@abel.net"]


@pytest.mark.usefixtures("three")
def test_members_are_sorted_by_last_change_in_either_direction(remote, lists):
    def sorted_emails(direction):
        query = {"sort_field": "last_changed", "sort_dir": direction}
        return emails(lists.get_list_members_info(LIST, **query))

    assert sorted_emails("ASC") == ["m1@abel.net", "m2@abel.net", "m3@abel.net"]
    assert sorted_emails("DESC") == ["m3@abel.net", "m2@abel.net", "m1@abel.net"]
    lists.update_list_member(LIST, "m1@abel.net", {"vip": True})
    assert sorted_emails("DESC")[0] == "m1@abel.net"


def test_a_change_made_after_the_clock_was_set_back_sorts_first(remote, lists):
    remote.seed("m1@abel.net")
    remote.seed("m2@abel.net")
    remote.clock(-3600)
    lists.update_list_member(LIST, "m2@abel.net", {"vip": True})
    listed = lists.get_list_members_info(LIST, sort_field="last_changed")
    assert emails(listed) == ["m2@abel.net", "m1@abel.net"]


def test_fields_cut_members_down(remote, lists):
    remote.seed(ADA, merge_fields={"FNAME": "Ada"})
    fields = ["total_items", "members.email_address", "members.merge_fields.FNAME"]
    expected = {"email_address": ADA, "merge_fields": {"FNAME": "Ada"}}
    assert lists.get_list_members_info(LIST, fields=fields) == {
        "members": [expected],
        "total_items": 1,
    }
    cut = lists.get_list_members_info(LIST, exclude_fields=["members.merge_fields", "_links"])
    assert "_links" not in cut
    assert "merge_fields" not in cut["members"][0]


def test_unsubscribed_since_finds_opt_outs_and_wants_no_other_status(remote, lists):
    remote.seed(ADA)
    remote.seed("ben@baker.net")
    remote.act(ADA, "unsubscribe")
    since = {"unsubscribed_since": "2026-01-01T00:00:00Z"}
    assert emails(lists.get_list_members_info(LIST, **since)) == [ADA]
    refused = problem(lambda: lists.get_list_members_info(LIST, status="subscribed", **since))
    assert refused["status"] == 400


def test_a_plus_sign_that_became_a_blank_is_no_time(http):
    answer = http("GET", "/members?since_last_changed=2026-01-01T00:00:00+00:00")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "since_last_changed")


def test_tags_are_switched_on_and_off_on_archived_members_too(remote, lists):
    remote.seed(ADA, "archived", tags=["Old"])
    tags = [{"name": "New", "status": "active"}, {"name": "old", "status": "inactive"}]
    body = {"tags": tags, "is_syncing": True}
    assert lists.update_list_member_tags(LIST, ADA, body).status_code == 204
    listed = lists.get_list_member_tags(LIST, ADA)
    assert ([each["name"] for each in listed["tags"]], listed["total_items"]) == (["New"], 1)


def test_a_tag_keeps_its_first_spelling(remote, lists):
    remote.seed(ADA, tags=["QuickBooks"])
    remote.seed("ben@baker.net")
    body = {"tags": [{"name": "QUICKBOOKS", "status": "active"}]}
    lists.update_list_member_tags(LIST, "ben@baker.net", body)
    [tag] = lists.tag_search(LIST, name="quick")["tags"]
    assert tag["name"] == "QuickBooks"
    [shown] = lists.get_list_member(LIST, "ben@baker.net")["tags"]
    assert shown == tag


def test_a_tag_that_is_there_already_does_not_move_last_changed(remote, lists):
    remote.seed(ADA, tags=["Old"])
    before = lists.get_list_member(LIST, ADA)["last_changed"]
    remote.clock(60)
    for name, moved in (("Old", False), ("New", True)):
        body = {"tags": [{"name": name, "status": "active"}]}
        lists.update_list_member_tags(LIST, ADA, body)
        assert (lists.get_list_member(LIST, ADA)["last_changed"] > before) is moved


def test_tags_of_strangers_are_not_found_and_malformed_tags_refused(remote, lists):
    body = {"tags": [{"name": "A", "status": "active"}]}
    assert problem(lambda: lists.update_list_member_tags(LIST, ADA, body))["status"] == 404
    remote.seed(ADA)
    body = {"tags": ["A"]}
    assert problem(lambda: lists.update_list_member_tags(LIST, ADA, body))["status"] == 400


@pytest.mark.endurance
def test_a_hundred_thousand_members_are_read_and_written_without_waiting(remote, lists):
    """The mock server serves benchmarks: it must never be what is measured.

    Ten times the work that was measured is allowed (10 ms and 20 ms).
    """
    remote.generate(100_000)

    def fastest(call):
        def timed():
            start = time.process_time()  # the mock server is a thread of this process
            call()
            return time.process_time() - start

        return min(timed() for _ in range(5))

    def page():
        fields = ["total_items", "members.email_address", "members.status", "members.last_changed"]
        query = {"since_last_changed": "2020-01-01T00:00:00Z", "sort_field": "last_changed"}
        answer = lists.get_list_members_info(
            LIST, count=1000, offset=50_000, fields=fields, **query
        )
        assert (len(answer["members"]), answer["total_items"] >= 100_000) == (1000, True)

    def chunk():
        members = [
            {"email_address": f"n{number}@abel.net", "status_if_new": "subscribed"}
            for number in range(500)
        ]
        lists.batch_list_members(LIST, {"members": members, "update_existing": True})

    assert fastest(page) < 0.1
    assert fastest(chunk) < 0.2
    remote.reset()
