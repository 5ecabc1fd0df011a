"""All rooms: temporary files in memory, examples by profile, the longest files first, what a run takes.

``tests/durations.json`` has the seconds of a case of every test function whose cases take half a
second together. ``make test TEST_ARGS=--store-durations`` measures them anew.
"""

import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
DURATIONS = HERE / "durations.json"
MEMORY = Path("/dev/shm")
ROOM_NEEDED = 4 << 30
"""Bytes that must be free in memory: a database server of each worker, and copies of databases."""
WORTH_LISTING = 0.5
"""Seconds of all cases of a test function from which on the file lists it."""
SHORT = 0.01
"""Seconds of a case that the file does not list."""
START = 12.0
"""Seconds until every worker has imported and collected."""


def _use_memory() -> None:
    """Put temporary files into memory where there is enough: databases are created and dropped."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    flags = os.statvfs(MEMORY).f_flag
    writable = os.access(MEMORY, os.W_OK) and not flags & (os.ST_RDONLY | os.ST_NOEXEC)
    if writable and shutil.disk_usage(MEMORY).free >= ROOM_NEEDED:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


_use_memory()
# Time says nothing on a busy machine: no example has a deadline.
settings.register_profile("few", max_examples=30, deadline=None)
settings.register_profile("many", max_examples=300, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "few"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store-durations", action="store_true", help="write tests/durations.json anew"
    )
    parser.addoption(
        "--share", type=int, default=1, metavar="N", help="an Nth of the tests, others each day"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Workers inherit it: each has to choose the same tests, at midnight as well.
    os.environ.setdefault("TESTS_DAY", str(datetime.now(UTC).date().toordinal()))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Clock(config), "clock")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Mark tests/e2e. For workers, longest files first: none is left alone with one at the end."""
    for item in items:
        if item.path.is_relative_to(HERE / "e2e"):
            item.add_marker("e2e")
    yield
    if (parts := config.getoption("--share")) > 1:
        kept = _share(items, parts, int(os.environ["TESTS_DAY"]))
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    if not hasattr(config, "workerinput"):
        return
    seconds = _seconds(item.nodeid for item in items)
    total: dict[Path, float] = defaultdict(float)
    for item in items:
        total[item.path] += seconds[item.nodeid]
    items.sort(key=lambda item: -total[item.path])


def _share(items: list[pytest.Item], parts: int, day: int) -> list[pytest.Item]:
    """Return the tests of a day: about an Nth of the time, and those marked ``always``."""
    seconds = _seconds(item.nodeid for item in items)
    total: dict[str, float] = defaultdict(float)
    for item in items:
        total[_function(item.nodeid)] += seconds[item.nodeid]
    longest_first = sorted(total, key=lambda name: (-total[name], name))
    today = set(longest_first[day % parts :: parts])
    return [
        item
        for item in items
        if _function(item.nodeid) in today
        or any(mark.kwargs.get("always") for mark in item.iter_markers("endurance"))
    ]


class Clock:
    """Says how many tests run and how long that takes; stores what it took when asked to."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._workers = config.getoption("numprocesses", None) or 0
        self._announced = False
        self._measured: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not self._workers:
            self._announce([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        if not self._announced:
            self._announce(ids)

    def _announce(self, ids: list[str]) -> None:
        self._announced = True
        seconds = START * bool(self._workers) + sum(_seconds(ids).values()) / (self._workers or 1)
        about = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{max(seconds, 1):.0f} s"
        cores = f"{self._workers} idle cores" if self._workers else "one idle core"
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter:
            reporter.write_line(f"{len(ids):,} tests, about {about} on {cores}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._measured[_function(report.nodeid)][report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        if self._config.getoption("--store-durations"):
            known = {name: each for name, each in _known().items() if name not in self._measured}
            for name, cases in self._measured.items():
                if sum(cases.values()) >= WORTH_LISTING:
                    known[name] = round(sum(cases.values()) / len(cases), 2)
            known = {name: each for name, each in known.items() if _exists(name)}
            DURATIONS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _function(nodeid: str) -> str:
    """Return a test's id without its parameters."""
    return nodeid.split("[", 1)[0]


def _exists(name: str) -> bool:
    file, _, function = name.partition("::")
    path = HERE.parent / file
    return path.exists() and f"def {function}(" in path.read_text(encoding="utf-8")


def _seconds(ids: Iterable[str]) -> dict[str, float]:
    """Return what each test takes."""
    known = _known()
    return {nodeid: known.get(_function(nodeid), SHORT) for nodeid in ids}


def _known() -> dict[str, float]:
    found: dict[str, float] = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    return found
