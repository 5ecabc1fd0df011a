"""The sentences that say why a contact has its status."""

import pytest

from ml_connector.console import words


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
