"""Serve both mock servers from one process."""

import asyncio
import functools
import gc
import importlib
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import typer

from sandbox import memory
from sandbox.control import Instrumented
from sandbox.running import Server, bind, make_server


@dataclass(frozen=True)
class Half:
    """One of the two mock servers: its name, where it listens and the app that serves there."""

    name: str
    listener: socket.socket
    app: Instrumented


def serve(
    *,
    host: str,
    quickbooks_port: int,
    mailchimp_port: int,
    company: str = "sample",
    state: Path | None = None,
) -> None:
    """Serve both APIs from this process until SIGTERM or Ctrl-C.

    With ``state``, what an earlier sandbox wrote to that file is there again, and this one writes
    it at its end.

    Raises:
        typer.BadParameter: ``company`` is neither "sample", "empty" nor a number.
        typer.Exit: a port is taken, or the file cannot be read (code 1).
    """
    if company not in {"sample", "empty"} and not company.isdecimal():
        raise typer.BadParameter("--company is 'sample', 'empty' or a number of customers")
    quickbooks_socket = _bind_or_exit("quickbooks", host, quickbooks_port)
    mailchimp_socket = _bind_or_exit("mailchimp", host, mailchimp_port)
    quickbooks = importlib.import_module("sandbox.quickbooks.app").create_app(company=company)
    mailchimp = importlib.import_module("sandbox.mailchimp.app").create_app()
    halves = [
        Half("QuickBooks", quickbooks_socket, quickbooks),
        Half("Mailchimp", mailchimp_socket, mailchimp),
    ]
    remembered = {half.name: half.app.remembers for half in halves}
    if state:
        try:
            memory.load(state, remembered)
        except memory.ForgottenError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
    # A call's thousands of small objects go as it ends, without any cycles to look for; the members
    # among them stay, and the default of 700 would have all of them looked through again and again.
    gc.set_threshold(100_000, 20, 20)
    asyncio.run(_serve_all(halves))
    if state:
        memory.save(state, remembered)


async def _serve_all(halves: list[Half]) -> None:
    servers = [
        make_server(half.app, on_ready=functools.partial(_announce, half)) for half in halves
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, servers)
    await asyncio.gather(
        *(
            server.serve(sockets=[half.listener])
            for server, half in zip(servers, halves, strict=True)
        )
    )


def _announce(half: Half) -> None:
    host, port = half.listener.getsockname()
    typer.echo(f"{half.name} sandbox ready at http://{host}:{port} (control: /_sandbox/)")


def _stop(servers: list[Server]) -> None:
    for server in servers:
        server.should_exit = True


def _bind_or_exit(name: str, host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as error:
        typer.echo(f"cannot listen on {host}:{port}: {error.strerror}; try --{name}-port", err=True)
        raise typer.Exit(1) from error
