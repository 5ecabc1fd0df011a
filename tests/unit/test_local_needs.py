"""The programs of the tests: named, installed where that is possible, never missed in silence."""

import contextlib
import subprocess

import pytest

from local.needs import (
    MISSING,
    PROGRAMS,
    THERE,
    Program,
    missing,
    provide,
    services_kept_off,
)


class Machine:
    """Programs by name, and an apt-get that installs what it can."""

    def __init__(self, *programs: str, can_install: bool = True) -> None:
        self.programs = set(programs)
        self.can_install = can_install
        self.ran: list[str] = []

    def find(self, name: str) -> str | None:
        return name if name in self.programs else None

    def execute(self, command) -> tuple[int, str]:
        self.ran.append(" ".join(command))
        if "install" not in command:
            return 0, ""
        if not self.can_install:
            return 100, "first\nE: Unable to locate package"
        packages = {program.package: program.names[0] for program in PROGRAMS}
        self.programs |= {packages[word] for word in command if word in packages}
        return 0, ""


ALL = ("redis-server", "caddy", "google-chrome", "node", "npm")


def test_a_program_counts_under_any_of_its_names():
    assert missing(Machine(*ALL).find) == []
    assert [one.package for one in missing(Machine("chromium", "node", "npm").find)] == [
        "redis-server",
        "caddy",
    ]


def test_nothing_is_run_where_nothing_is_missing():
    machine = Machine(*ALL, "apt-get")
    code, lines = provide(root=True, find=machine.find, execute=machine.execute)
    assert (code, machine.ran) == (THERE, [])
    assert lines == ["All programs of the tests are installed."]


def test_root_gets_the_missing_programs_installed_after_they_are_named():
    machine = Machine("node", "npm", "caddy", "apt-get")
    code, lines = provide(root=True, find=machine.find, execute=machine.execute)
    assert code == THERE
    assert machine.ran == [
        "apt-get update",
        "apt-get install --yes --no-install-recommends redis-server chromium",
    ]
    assert lines[0].startswith("missing: redis-server, for ")
    assert lines[1].startswith("missing: chromium, for ")
    assert lines[-1] == "installed"


def test_another_user_is_told_the_command_and_which_tests_are_skipped():
    machine = Machine("caddy", "chromium", "node", "npm", "apt-get")
    code, lines = provide(root=False, find=machine.find, execute=machine.execute)
    assert (code, machine.ran) == (MISSING, [])
    assert lines[-1] == (
        "Tests that need redis-server are SKIPPED. Install: sudo apt-get update && "
        "sudo apt-get install --yes --no-install-recommends redis-server"
    )


def test_an_installation_that_fails_says_why():
    machine = Machine("caddy", "chromium", "node", "npm", "apt-get", can_install=False)
    code, lines = provide(root=True, find=machine.find, execute=machine.execute)
    assert code == MISSING
    assert "E: Unable to locate package" in lines


def test_other_tests_name_their_own_programs_and_a_package_is_installed_once():
    machine = Machine("apt-get")
    two = [Program(names=(name,), package="engine", purpose="it") for name in ("server", "client")]
    code, _ = provide(root=True, find=machine.find, execute=machine.execute, programs=two)
    assert code == MISSING
    assert machine.ran[-1].endswith("--no-install-recommends engine")


@pytest.mark.parametrize("own", ["#!/bin/sh\nexit 0\n", None])
def test_an_installation_starts_no_service_and_leaves_the_machines_policy_as_it_was(tmp_path, own):
    policy = tmp_path / "policy-rc.d"
    if own:
        policy.write_text(own)
        policy.chmod(0o700)
    with contextlib.suppress(KeyboardInterrupt), services_kept_off(policy):
        assert subprocess.run([policy, "redis-server", "start"], check=False).returncode == 101
        raise KeyboardInterrupt
    kept = {file.name: (file.read_text(), file.stat().st_mode) for file in tmp_path.iterdir()}
    assert kept == ({"policy-rc.d": (own, 0o100700)} if own else {})
