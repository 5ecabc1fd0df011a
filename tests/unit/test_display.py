"""Numbers, shares, plurals and times as people read them."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_connector.display import (
    NOTHING,
    about_seconds,
    counted,
    distance,
    exact_percent,
    grouped,
    percent,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PRODUCT = Path(__file__).resolve().parents[2]


def test_thousands_are_grouped():
    assert [grouped(n) for n in (0, 999, 4000, 1_234_567, None)] == [
        "0", "999", "4,000", "1,234,567", NOTHING,
    ]  # fmt: skip


def test_nouns_and_verbs_agree_with_their_number():
    assert counted(1, "webhook was", "webhooks were") == "1 webhook was"
    assert counted(0, "webhook was", "webhooks were") == "0 webhooks were"
    assert counted(4000, "contact") == "4,000 contacts"
    assert counted(None, "member") == f"{NOTHING} members"


@pytest.mark.parametrize(
    ("expected", "part", "whole"),
    [("10%", 416, 4180), ("<1%", 1, 4000), (">99%", 3999, 4000), ("0%", 0, 4), ("100%", 4, 4), (NOTHING, 0, 0)],
)  # fmt: skip
def test_a_share_is_never_rounded_to_none_or_all(expected, part, whole):
    assert percent(part, whole) == expected


def test_a_share_in_the_settings_is_shown_as_it_was_set():
    shares = (0.005, 0.025, 0.1, 0.995, 1.0)
    assert [exact_percent(n) for n in shares] == ["0.5%", "2.5%", "10%", "99.5%", "100%"]


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [
        ("now", -2), ("22 sec ago", -22), ("22 min ago", -22 * 60), ("59 min ago", -59 * 60),
        ("in 3 hr", 3 * 3600), ("in 1 day", 86_400), ("2 days ago", -2 * 86_400),
        ("1 hr ago", -91 * 60), ("1 day ago", -36 * 3600), ("in 11 days", 11 * 86_400),
        ("in 45 days", int(45.5 * 86_400)), ("2 mo ago", -89 * 86_400), ("1 yr ago", -700 * 86_400),
    ],
)  # fmt: skip
def test_a_distance_is_told_in_the_largest_full_unit(expected, seconds):
    assert distance(NOW + timedelta(seconds=seconds), NOW) == expected


def test_a_duration_is_told_in_words():
    assert [about_seconds(n) for n in (40, 180)] == ["40 seconds", "3 minutes"]


def test_no_other_module_formats_thousands_or_plurals():
    found = [
        f"{path.name}: {line.strip()}"
        for folder in ("include/ml_connector", "plugins")
        for path in sorted((PRODUCT / folder).rglob("*"))
        if path.suffix in (".py", ".html") and path.name != "display.py"
        for line in path.read_text("utf-8").splitlines()
        if ":,}" in line
        or (re.search(r"\{[a-z_.()\[\]0-9]+:%[^}]*[BbH]", line) and "name = f" not in line)
        or ('"1 ' in line and " else " in line)
        or "s' * (" in line
    ]
    assert found == []
