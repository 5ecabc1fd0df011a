"""The processes of a run: each in a session of its own, so that all of it can be found and ended.

Airflow's children outlive a parent that is killed, and its task processes leave their parent's
process group. None of them leaves its session, so the session is what we hold on to.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local.errors import LocalError
from local.forks import ForkServer, Process
from local.logs import reason_of

GRACE = 2.0  # seconds a process may take to stop in an orderly way
FORCED = 5.0  # seconds the operating system may take to end a killed one

STEADY = 10.0  # seconds; what stops sooner after its start would stop again


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is started: its name, command, environment and working directory.

    Attributes:
        restart: Whether it can go on where it was, so that it may be started again.
        entry: Where the fork server runs it, as ``module:function``; empty for a new interpreter.
    """

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    restart: bool = False
    entry: str = ""


@dataclass(frozen=True)
class Component:
    """A started program and its log."""

    program: Program
    process: Process
    log: Path
    started: float = field(default_factory=time.monotonic)


class Processes:
    """What a run has started, in the order of starting."""

    def __init__(self, logs: Path, *, steady: float = STEADY) -> None:
        self._logs = logs
        self._steady = steady
        self._components: list[Component] = []
        self._forks: ForkServer | None = None

    @property
    def forking(self) -> bool:
        """Return whether components with an entry are forks."""
        return self._forks is not None

    @property
    def sessions(self) -> dict[int, float]:
        """Return session ids with the time their first process was created."""
        found: dict[int, float] = {}
        for component in self._components:
            with contextlib.suppress(psutil.Error):
                pid = component.process.pid
                found[pid] = psutil.Process(pid).create_time()
        return found

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        folder: Path,
        restart: bool = False,
        entry: str = "",
    ) -> Component:
        """Start a program with its output in ``<logs>/<name>.log``.

        With an ``entry`` and a fork server it is a fork, with the fork server's environment.
        """
        program = Program(
            name=name,
            command=command,
            environment=environment,
            folder=folder,
            restart=restart,
            entry=entry,
        )
        return self._start(program)

    def start_fork_server(self, *, environment: Mapping[str, str], folder: Path) -> ForkServer:
        """Start the process that later components are forks of."""
        program = Program(
            name="fork-server",
            command=[sys.executable, "-m", "local.fork_server"],
            environment=environment,
            folder=folder,
        )
        log = self._log(program)
        with log.open("ab") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own module
                list(program.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        self._components.append(Component(program, process, log))
        self._forks = ForkServer(process, log)
        return self._forks

    def _log(self, program: Program) -> Path:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self._logs / f"{program.name}.log"

    def _start(self, program: Program) -> Component:
        log = self._log(program)
        if self._forks and program.entry:
            argv = [str(word) for word in program.command]
            process: Process = self._forks.start(
                program.entry, argv, log=log, folder=program.folder
            )
        else:
            process = self._spawn(program, log)
        component = Component(program, process, log)
        self._components.append(component)
        return component

    def _spawn(self, program: Program, log: Path) -> Process:
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own programs and options
                list(program.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(program.environment),
                cwd=program.folder,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise LocalError if anything that should be running has stopped."""
        for component in self._components:
            if component.process.poll() is not None:
                raise _stopped(component)

    def revive(self) -> Iterator[str]:
        """Start again what has stopped and can go on; yield a sentence for each.

        Raises:
            LocalError: Something stopped that cannot go on, or soon after its start.
        """
        for component in list(self._components):
            if component.process.poll() is None:
                continue
            steady = time.monotonic() - component.started > self._steady
            if not (component.program.restart and steady):
                raise _stopped(component)
            end_sessions([component.process.pid])  # its children outlive it
            self._components.remove(component)
            self._start(component.program)
            yield f"{_reason(component)}; started again"

    def stop(self, *, grace: float = GRACE) -> None:
        """Stop everything and leave nothing of any session behind.

        Raises:
            LocalError: A process could not be ended.
        """
        children = [component.process for component in self._components]
        sessions = {child.pid for child in children}
        left: list[int] = []
        if self._forks:  # last, since it reaps the others
            sessions.remove(self._forks.process.pid)
            left += end_sessions(sessions, grace=grace, children=children)
            sessions = {self._forks.process.pid}
            self._forks = None
        left += end_sessions(sessions, grace=grace, children=children)
        self._components.clear()
        if left:
            raise LocalError(f"these processes could not be stopped: {_listed(left)}")


def end_sessions(
    sessions: Collection[int],
    *,
    grace: float = GRACE,
    children: Sequence[Process] = (),
) -> list[int]:
    """Ask every process of the sessions to stop, then kill the rest; return who resisted.

    All are asked at once: Airflow's scheduler, asked alone, waits for children that got no signal
    (10 s and more measured with 3.3.2).
    """
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, FORCED)):
        for pid in _members(sessions):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if _gone_within(seconds, sessions, children):
            return []
    return list(_members(sessions))


def _gone_within(seconds: float, sessions: Collection[int], children: Sequence[Process]) -> bool:
    """Wait until no process of the sessions is left, and say whether that came true in time."""
    deadline = time.monotonic() + seconds
    while any(_members(sessions)):
        if time.monotonic() > deadline:
            return False
        for child in children:
            child.poll()  # reaps it, else it would stay a zombie
        time.sleep(0.05)
    return True


def stale_sessions(recorded: Mapping[int, float]) -> list[int]:
    """Return those sessions of an earlier, killed run that still have processes.

    A session id is not given away again while the session lives. If its first process is alive,
    its creation time shows whether it is still ours.
    """
    stale = []
    for session, created in recorded.items():
        try:
            same = abs(psutil.Process(session).create_time() - created) < 1
        except psutil.NoSuchProcess:
            same = True
        except psutil.Error:
            same = False
        if same and any(_members([session])):
            stale.append(session)
    return stale


def _members(sessions: Collection[int]) -> Iterator[int]:
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) in sessions and _alive(pid):
                yield pid


def _alive(pid: int) -> bool:
    return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def _stopped(component: Component) -> LocalError:
    reason = reason_of(component.log)
    return LocalError(f"{_reason(component)}: {reason}", log=component.log)


def _reason(component: Component) -> str:
    code = component.process.returncode or 0
    return f"{component.program.name} stopped by itself ({_how(code)})"


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _listed(pids: Sequence[int]) -> str:
    names = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            names.append(f"{pid} ({psutil.Process(pid).name()})")
    return ", ".join(names)
