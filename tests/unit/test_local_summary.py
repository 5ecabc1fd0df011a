"""The counts that a local run prints at its end."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from local import summary
from local.settings import load

CLIENT = Path(__file__).resolve().parents[2] / "include/ml_connector/mailchimp/client.py"
CALLS = set(re.findall(r'"(\w+)",\s+"(GET|POST|PUT|PATCH|DELETE)"', CLIENT.read_text("utf-8")))


def test_the_calls_of_the_client_are_found():
    assert len({call for call, method in CALLS if method == "GET"}) > 9
    assert len({call for call, method in CALLS if method != "GET"}) > 9


@pytest.mark.parametrize(("call", "method"), sorted(CALLS))
def test_a_call_counts_as_a_read_if_it_reads_and_as_a_write_if_it_writes(call, method):
    counts = summary.by_system({}, {f"mailchimp.{call}": 2})
    assert counts == {"Mailchimp": {"reads" if method == "GET" else "writes": 2}}


@pytest.mark.parametrize(
    ("staying", "next_step"),
    [(True, "Approve or reject it: http://127.0.0.1:8080/"), (False, "make run ONCE=1 APPROVE=1")],
)
def test_a_plan_is_approved_on_its_page_while_airflow_stays_up(tmp_path, staying, next_step):
    (tmp_path / ".env").write_text("")
    settings = load({"PATH": "/bin"}, dotenv=tmp_path / ".env")
    held = summary.HeldPlan(7, "this is the first run of the sync", ["25 new contacts"])
    console = Console(record=True, file=io.StringIO(), width=200)
    summary.show_held(console, settings, held, password="word", staying=staying)
    printed = console.export_text()
    assert next_step in printed
    assert ("APPROVE=1" in printed) is not staying
    assert "/plans/7 " in printed
