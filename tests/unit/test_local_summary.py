"""The counts that a local run prints at its end."""

import re
from pathlib import Path

import pytest

from local import summary

CLIENT = Path(__file__).resolve().parents[2] / "include/ml_connector/mailchimp/client.py"
CALLS = set(re.findall(r'"(\w+)",\s+"(GET|POST|PUT|PATCH|DELETE)"', CLIENT.read_text("utf-8")))


def test_the_calls_of_the_client_are_found():
    assert len({call for call, method in CALLS if method == "GET"}) > 9
    assert len({call for call, method in CALLS if method != "GET"}) > 9


@pytest.mark.parametrize(("call", "method"), sorted(CALLS))
def test_a_call_counts_as_a_read_if_it_reads_and_as_a_write_if_it_writes(call, method):
    counts = summary.by_system({}, {f"mailchimp.{call}": 2})
    assert counts == {"Mailchimp": {"reads" if method == "GET" else "writes": 2}}
