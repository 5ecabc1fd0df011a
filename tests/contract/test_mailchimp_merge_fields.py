"""The Mailchimp mock server: merge fields and the values they take."""

import pytest

from tests.contract.test_mailchimp_fixtures import LIST, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA = "ada@abel.net"
HOME = {"addr1": "1 Main Street", "city": "Springfield", "state": "IL", "zip": "62701"}


def write(lists, values, **query):
    body = {"email_address": ADA, "status_if_new": "subscribed", "merge_fields": values}
    return lists.set_list_member(LIST, ADA, body, **query)["merge_fields"]


def test_a_field_is_added_changed_and_removed(lists):
    body = {"name": "Shoe size", "type": "number", "tag": "SHOE"}
    added = lists.add_list_merge_field(LIST, body)
    assert (added["tag"], added["required"], added["list_id"]) == ("SHOE", False, LIST)
    changed = lists.update_list_merge_field(LIST, added["merge_id"], {"name": "Size"})
    assert (changed["name"], changed["type"]) == ("Size", "number")
    assert lists.get_list_merge_field(LIST, added["merge_id"])["name"] == "Size"
    assert lists.delete_list_merge_field(LIST, added["merge_id"]).status_code == 204
    assert problem(lambda: lists.get_list_merge_field(LIST, added["merge_id"]))["status"] == 404


def test_the_sample_fields_have_the_options_mailchimp_gives_them(lists):
    fields = {each["tag"]: each for each in lists.get_list_merge_fields(LIST)["merge_fields"]}
    assert fields["PHONE"]["options"] == {"phone_format": "none"}
    assert fields["ADDRESS"]["options"] == {"default_country": 164}


def test_fields_are_listed_ten_at_a_time_unless_more_are_asked_for(lists):
    for number in range(8):
        lists.add_list_merge_field(LIST, {"name": f"F{number}", "type": "text"})
    listed = lists.get_list_merge_fields(LIST)
    assert (len(listed["merge_fields"]), listed["total_items"]) == (10, 13)
    assert len(lists.get_list_merge_fields(LIST, count=1000)["merge_fields"]) == 13


def test_fields_can_be_listed_by_type_and_by_need(lists):
    lists.add_list_merge_field(LIST, {"name": "Born", "type": "date", "required": True})
    for query in ({"type": "date"}, {"required": True}):
        [found] = lists.get_list_merge_fields(LIST, **query)["merge_fields"]
        assert found["tag"] == "BORN"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "X", "type": "text", "tag": "ELEVENCHARS"},
        {"name": "X", "type": "text", "tag": "fname"},
        {"name": "X", "type": "colour"},
        {"type": "text"},
    ],
)
def test_a_field_with_a_long_or_taken_tag_or_without_name_or_type_is_refused(lists, body):
    assert problem(lambda: lists.add_list_merge_field(LIST, body))["status"] == 400


def test_removing_a_field_removes_the_values(lists):
    write(lists, {"COMPANY": "Abel Ltd"})
    company = lists.get_list_merge_fields(LIST)["merge_fields"][4]
    lists.delete_list_merge_field(LIST, company["merge_id"])
    lists.add_list_merge_field(LIST, {"name": "Company", "type": "text"})
    assert lists.get_list_member(LIST, ADA)["merge_fields"]["COMPANY"] == ""


def test_a_renamed_tag_takes_its_values_along(lists):
    write(lists, {"COMPANY": "Abel Ltd"})
    company = lists.get_list_merge_fields(LIST)["merge_fields"][4]
    lists.update_list_merge_field(LIST, company["merge_id"], {"tag": "FIRM"})
    assert lists.get_list_member(LIST, ADA)["merge_fields"]["FIRM"] == "Abel Ltd"


def test_unknown_tags_are_dropped_in_silence(lists):
    values = write(lists, {"NONSENSE": "1", "FNAME": "Ada"})
    assert ("NONSENSE" in values, values["FNAME"]) == (False, "Ada")


def test_an_empty_string_clears(lists):
    write(lists, {"FNAME": "Ada", "ADDRESS": HOME})
    values = write(lists, {"FNAME": "", "ADDRESS": ""})
    assert (values["FNAME"], values["ADDRESS"]) == ("", "")


def test_an_address_is_stored_whole_with_a_country(lists):
    assert write(lists, {"ADDRESS": HOME})["ADDRESS"] == HOME | {"addr2": "", "country": "US"}


@pytest.mark.parametrize("missing", ["addr1", "city", "state", "zip"])
def test_an_incomplete_address_is_refused(lists, missing):
    refused = problem(lambda: write(lists, {"ADDRESS": HOME | {missing: ""}}))
    assert refused["detail"] == "Your merge fields were invalid."
    message = "Please enter a complete address"
    assert refused["errors"] == [{"field": "ADDRESS", "message": message}]


def test_an_incomplete_address_stored_before_fails_every_later_write(remote, lists):
    remote.seed(ADA, merge_fields={"ADDRESS": {"addr1": "1 Main Street"}})
    refused = problem(lambda: write(lists, {"FNAME": "Ada"}))
    assert [each["field"] for each in refused["errors"]] == ["ADDRESS"]
    values = write(lists, {"FNAME": "Ada"}, skip_merge_validation=True)
    assert (values["FNAME"], values["ADDRESS"]) == ("Ada", {"addr1": "1 Main Street"})
    assert write(lists, {"ADDRESS": ""})["ADDRESS"] == ""


def test_a_field_required_later_fails_writes_that_lack_it(remote, lists):
    remote.seed(ADA)
    company = lists.get_list_merge_fields(LIST)["merge_fields"][4]
    lists.update_list_merge_field(LIST, company["merge_id"], {"required": True})
    refused = problem(lambda: write(lists, {"FNAME": "Ada"}))
    assert [each["field"] for each in refused["errors"]] == ["COMPANY"]
    assert write(lists, {"FNAME": "Ada"}, skip_merge_validation=True)["FNAME"] == "Ada"
    assert write(lists, {"COMPANY": "Abel Ltd"})["COMPANY"] == "Abel Ltd"


@pytest.mark.parametrize(
    ("kind", "sent", "stored"),
    [
        ("number", "12", 12),
        ("number", 1.5, 1.5),
        ("date", "2026-01-31", "2026-01-31"),
        ("date", "01/31/2026", "2026-01-31"),
        ("birthday", "01/31", "01/31"),
        ("url", "https://abel.net/", "https://abel.net/"),
        ("zip", "62701", "62701"),
        ("phone", "ask for Ada", "ask for Ada"),
        ("text", 5, "5"),
    ],
)
def test_a_value_is_stored_as_its_type_is_shown(lists, kind, sent, stored):
    lists.add_list_merge_field(LIST, {"name": "X", "type": kind, "tag": "X"})
    assert write(lists, {"X": sent})["X"] == stored


@pytest.mark.parametrize(
    ("kind", "options", "sent"),
    [
        ("number", {}, "many"),
        ("date", {}, "soon"),
        ("birthday", {}, "1980-01-31"),
        ("url", {}, "abel"),
        ("zip", {}, "W1A 1AA"),
        ("phone", {"phone_format": "US"}, "12345"),
        ("dropdown", {"choices": ["A", "B"]}, "C"),
        ("text", {}, "x" * 256),
    ],
)
def test_a_value_its_type_does_not_take_is_refused(lists, kind, options, sent):
    body = {"name": "X", "type": kind, "tag": "X", "options": options}
    lists.add_list_merge_field(LIST, body)
    refused = problem(lambda: write(lists, {"X": sent}))
    assert [each["field"] for each in refused["errors"]] == ["X"]
