"""One name, one thing: class names are unique, function names recur only for the same job."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from ml_connector.rules.decide import RULES

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = {"include/ml_connector": "ml_connector", "plugins/ml_connector_airflow": "airflow"}

# The same job for another table, system or page.
SAME_JOB = {
    "store and inbox": {"claim", "settle", "requeue", "identity", "record", "counts", "newest",
                        "fail", "finish", "erase", "decrypted", "encrypted", "insert", "rows",
                        "count", "queue", "release", "judged"},
    "QuickBooks and Mailchimp": {"parse_time", "read", "signature"},
    "pages and queries of the console": {"page", "replay"},
}  # fmt: skip
# A task or a command wraps the function of the same name, with Airflow's keys.
# They keep names of a former release for one more.
SHIMS = {
    ROOT / "plugins/ml_connector_airflow" / name
    for name in ("former_steps.py", "console.py", "receiving.py")
}
LAYERS = ("tasks", "commands", "mounts")


def modules():
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts and path not in SHIMS:
                yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


def defined(kinds):
    places = defaultdict(list)
    for path, tree in modules():
        for node in tree.body:
            if isinstance(node, kinds) and not node.name.startswith("_"):
                places[node.name].append(path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_class_name_exists_twice():
    assert defined(ast.ClassDef) == {}


def test_a_function_name_recurs_only_for_the_same_job():
    recurring = {
        name
        for name, paths in defined((ast.FunctionDef, ast.AsyncFunctionDef)).items()
        if sum(path.parts[2] not in LAYERS for path in paths) > 1
    }
    assert recurring == set().union(*SAME_JOB.values())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.case}-{rule.when}")
def test_every_rule_names_its_case_in_the_table_of_behaviour(rule):
    table = (ROOT / "docs/reference/behaviour.md").read_text("utf-8")
    assert f"\n| {rule.case} |" in table
