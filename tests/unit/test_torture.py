"""The table of long tests: it is the one in the documentation, and its commands exist."""

import importlib.util

import pytest

from bench.torture import PAGE, PASSED, PROOFS, ROOT, Proof, lines


def test_the_page_has_the_table_that_the_command_prints():
    assert PAGE.read_text(encoding="utf-8").endswith("\n".join(lines()) + "\n")


@pytest.mark.parametrize("name", PROOFS)
def test_what_a_long_test_runs_exists(name):
    _, module, *arguments = PROOFS[name].command
    assert importlib.util.find_spec(module)
    for each in arguments:
        assert not each.startswith("tests/") or (ROOT / each).exists(), each


def test_the_figure_is_what_the_output_says_last():
    proof = Proof(tried="", command=(), not_shown="", figures=(PASSED, r"^(\d+ kills)$"))
    assert (
        proof.result("1 passed\n3 kills\n12 kills\n=== 7 passed in 3 s\n") == "7 passed; 12 kills"
    )
    assert proof.result("no tests ran") == ""
