"""Known vulnerabilities of the locked packages: ``python -m local.advisories [--osv-url URL]``.

pip-audit asks OSV, then PyPI where OSV cannot be reached. Through a mirror PyPI's responses may
lack their advisories: pip-audit then skips the package and still exits with 0. So its report is
counted, and what was not looked at is said. Exit codes: 0 nothing known, 1 something known that is
not allowed, 3 not every package could be looked at.

Advisories that do not concern us are in pyproject.toml, ``[tool.ml-connector.allowed-advisories]``,
as ``ID = "reason"``; any of an advisory's names will do.
"""

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

REPOSITORY = Path(__file__).resolve().parent.parent
SERVICES = ("osv", "pypi")
LONGEST = 900
"""Seconds for one service: a call for each package, one after the other."""

NOTHING_KNOWN, KNOWN, NOT_LOOKED_AT = 0, 1, 3


class Vulnerability(msgspec.Struct, frozen=True):
    """One entry of pip-audit's JSON."""

    id: str
    fix_versions: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Return its id in every register."""
        return frozenset((self.id, *self.aliases))


class Package(msgspec.Struct, frozen=True):
    """One package of pip-audit's JSON; skipped ones have no version."""

    name: str
    version: str = ""
    skip_reason: str | None = None
    vulns: tuple[Vulnerability, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """pip-audit's JSON: https://pypi.org/project/pip-audit/, ``--format json``."""

    dependencies: tuple[Package, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found; ``lines`` say it."""

    code: int
    lines: tuple[str, ...]


def ask(lock: Path, service: str, *, osv_url: str | None = None) -> Report | None:
    """Return what pip-audit reports of a lock with hashes, None if the service did not respond."""
    where = ("--osv-url", osv_url) if osv_url and service == "osv" else ()
    # Hashes and exact versions are in the lock, so nothing is resolved and no index is asked.
    options = ("--disable-pip", "--desc", "off", "--progress-spinner", "off", "--format", "json")
    done = subprocess.run(  # noqa: S603 -- our own program and options
        [sys.executable, "-m", "pip_audit", "-r", str(lock), "-s", service, *where, *options],
        capture_output=True,
        check=False,
        timeout=LONGEST,
    )
    try:
        return msgspec.json.decode(done.stdout, type=Report)
    except msgspec.DecodeError:
        return None


def judge(report: Report, allowed: Mapping[str, str]) -> Outcome:
    """Say what a report means."""
    skipped = [package.name for package in report.dependencies if package.skip_reason]
    looked_at = len(report.dependencies) - len(skipped)
    known, lines = 0, [f"{looked_at} packages looked at, {len(skipped)} not"]
    used: set[str] = set()
    for package in report.dependencies:
        for found in package.vulns:
            reasons = found.names & allowed.keys()
            used |= reasons
            known += not reasons
            fixed = ", ".join(found.fix_versions) or "nowhere yet"
            why = f"allowed: {allowed[min(reasons)]}" if reasons else f"fixed in {fixed}"
            lines.append(f"{package.name} {package.version}: {found.id}; {why}")
    if skipped:
        lines.append(f"Not looked at: {', '.join(sorted(skipped))}")
    else:
        lines += [f"{name} is allowed but no longer found" for name in allowed.keys() - used]
    complete = bool(looked_at) and not skipped
    return Outcome(
        code=KNOWN if known else NOTHING_KNOWN if complete else NOT_LOOKED_AT, lines=tuple(lines)
    )


def check(
    lock: Path,
    allowed: Mapping[str, str],
    *,
    services: Sequence[str] = SERVICES,
    osv_url: str | None = None,
) -> Outcome:
    """Query one service after the other until one has checked every package."""
    lines: list[str] = []
    for service in services:
        report = ask(lock, service, osv_url=osv_url)
        if report is None:
            lines.append(f"{service}: no response")
            continue
        outcome = judge(report, allowed)
        lines += (f"{service}: {line}" for line in outcome.lines)
        if outcome.code != NOT_LOOKED_AT:
            return Outcome(code=outcome.code, lines=tuple(lines))
    lines.append("The locked packages were NOT all checked for known vulnerabilities.")
    return Outcome(code=NOT_LOOKED_AT, lines=tuple(lines))


def allowed_advisories() -> dict[str, str]:
    """Return the advisories that do not concern us, with their reasons."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(project["tool"]["ml-connector"]["allowed-advisories"])


def main() -> int:
    """Print what is known of the packages in requirements.txt."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--osv-url", help="where OSV's queries go, if not to its own address")
    arguments = parser.parse_args()
    lock = REPOSITORY / "requirements.txt"
    outcome = check(lock, allowed_advisories(), osv_url=arguments.osv_url)
    sys.stdout.write("\n".join(outcome.lines) + "\n")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
