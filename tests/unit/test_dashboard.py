"""The Grafana dashboard shows every metric of docs/reference/metrics.md, and no other."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOARD = json.loads((ROOT / "deploy/grafana/customer-sync.json").read_text("utf-8"))
ROWS = [
    line.split("|")
    for line in (ROOT / "docs/reference/metrics.md").read_text("utf-8").splitlines()
    if line.startswith("| `ml_connector.")
]
LISTED = {
    re.split("<", name)[0].strip(".").replace(".", "_"): kind.strip()
    for _, names, kind, *_ in ROWS
    for name in re.findall(r"`(ml_connector\.[^`]+)`", names)
}
"""Each metric as Prometheus names it, up to the part that varies, with its kind."""


def expressions() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def test_every_metric_of_the_docs_has_a_panel_and_every_panel_a_metric():
    assert len(LISTED) >= 11
    shown = {
        found.rstrip("_")
        for each in expressions()
        for found in re.findall(r"\$\{prefix\}_(ml_connector[a-z_]*)", each)
    }
    assert shown == set(LISTED)


def test_counters_are_shown_by_their_increase_and_gauges_as_they_are():
    for each in expressions():
        (name,) = set(re.findall(r"\$\{prefix\}_(ml_connector[a-z_]*)", each))
        assert ("increase(" in each) is LISTED[name.rstrip("_")].startswith("counter"), each


def test_panels_do_not_overlap_and_ask_the_chosen_source():
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
