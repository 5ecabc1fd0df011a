"""The sentences that say why a contact has its status."""

import pytest

from ml_connector.console import words
from ml_connector.console.difference import compare
from ml_connector.console.queries.customer_list import REASONS


def test_every_member_event_has_a_sentence():
    assert set(words.HAPPENED) == set(words.EVENT)


@pytest.mark.parametrize("said", words.HAPPENED.values())
def test_a_sentence_names_its_actor_and_needs_a_date_alone(said):
    assert said.startswith(("The person ", "The contact was ", "A user ", "Mail to it "))
    assert said.count("Mailchimp") <= 1
    assert " on " not in said


@pytest.mark.parametrize("reason", words.BECAUSE)
def test_a_clause_replaces_a_reason_that_exists(reason):
    assert reason in words.REASON


def test_every_reason_of_the_filter_reads_without_names_of_ours():
    for reason in REASONS:
        assert reason in words.REASON
    for said in (*map(words.in_short, REASONS), words.reason("customer.updated")):
        assert "_" not in said
        assert "mailchimp" not in said
    assert words.in_short("no_email") == "no e-mail address"
    assert words.reason("profile_changed") == "changed their details in Mailchimp"


def test_a_state_is_compared_in_the_words_of_the_products():
    before = {"status": "transactional", "observed_at": "2026-11-30T09:12:00+00:00"}
    after = {
        "kept": {"FNAME": "changed_in_mailchimp"},
        "notes": "x",
        "merge_fields": {"FNAME": "A"},
    }
    shown = {each.name: each.after for each in compare(before, after, {"FNAME": "First Name"})}
    assert shown == {
        "First Name": "A",
        "First Name: not overwritten": "a person changed it in Mailchimp",
        "Notes": "x",
        "Read from Mailchimp": "2026-11-30 09:12 UTC",
        "Status": "Non-subscribed",
    }
