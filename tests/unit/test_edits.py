"""Whose value a merge field shows when another sync of the audience has written the contact."""

import pytest

from ml_connector.rules.edits import sent_elsewhere

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
