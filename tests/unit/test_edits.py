"""Whose value a merge field shows: a person's, another sync's, or that of a write without a record."""

import pytest

from ml_connector.rules.edits import explained_by_quickbooks, sent_elsewhere

SHOWN = {"FNAME": "Robert", "PHONE": "1"}


@pytest.mark.parametrize(
    ("others", "theirs"),
    [
        ([], set()),
        ([{"FNAME": "Robert"}], {"FNAME"}),
        ([{"FNAME": "Bob", "PHONE": "1"}], {"PHONE"}),
        ([{"FNAME": "Robert"}, {"PHONE": "1"}], {"FNAME", "PHONE"}),
        # Bob may be the later one: then a person has brought Robert back.
        ([{"FNAME": "Robert"}, {"FNAME": "Bob"}], set()),
        ([{"FNAME": ""}, {"FNAME": "Robert"}], {"FNAME"}),
    ],
)
def test_a_value_is_another_syncs_only_where_all_that_sent_one_agree(others, theirs):
    assert sent_elsewhere(SHOWN, others) == theirs


@pytest.mark.parametrize(
    ("shown", "before", "wanted", "ours"),
    [
        ({"FNAME": "Rob"}, {"FNAME": "Bob"}, {"FNAME": "Rob"}, True),
        ({}, {"FNAME": "Bob"}, {"FNAME": ""}, True),
        ({"FNAME": "Rob"}, {"FNAME": "Bob"}, {"FNAME": "Bob"}, False),
        ({"FNAME": "Rob", "PHONE": "2"}, {"FNAME": "Bob"}, {"FNAME": "Rob"}, False),
        # A person's own value, and then QuickBooks' again, which did not change.
        ({"FNAME": "Bob"}, {"FNAME": "Robert"}, {"FNAME": "Bob"}, False),
        ({"FNAME": "Bob"}, {"FNAME": "Bob"}, {"FNAME": "Rob"}, False),  # a field that is not ours
    ],
)
def test_a_change_is_a_lost_write_of_ours_where_quickbooks_changed_to_the_same(
    shown, before, wanted, ours
):
    assert (
        explained_by_quickbooks(shown, before=before, sent={"FNAME": "Bob"}, wanted=wanted) is ours
    )
