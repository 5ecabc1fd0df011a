"""What a user would run instead, against the same sandbox: each in an environment of its own.

The environments are made on first use under ``.bench`` from PyPI; nothing of them is a dependency.
None of these stages, looks at consent or keeps an audit: they read, or write, or both.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.controls import calls_of, forget_calls, set_latency
from bench.daily_sync import REALM
from sandbox.running import RunningSandbox, running_as_process

ENVIRONMENTS = Path(".bench")
SCRIPTS = Path(__file__).with_name("peers")
AUDIENCE = "a1b2c3d4e5"
PACKAGES = {
    "tap": ["tap-quickbooks==2.5.0"],
    "writer": ["mailchimp-marketing==3.0.80"],
    "airbyte": ["airbyte-source-quickbooks==4.0.4"],
    "drt": ["drt-core==1.2.1"],
}
_LOGIN = {
    "client_id": "sandbox-client",
    "client_secret": "sandbox-secret",
    "refresh_token": "sandbox-refresh-token",
    "realm_id": REALM,
    "user_agent": "bench",
    "sandbox": True,
}
_CATALOG = """
import json
from tap_quickbooks.discover import do_discover
catalog = do_discover().to_dict()
catalog["streams"] = [s for s in catalog["streams"] if s["tap_stream_id"] == "customers"]
for entry in catalog["streams"][0]["metadata"]:
    if not entry["breadcrumb"]:
        entry["metadata"]["selected"] = True
print(json.dumps(catalog))
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """One line of the table."""

    name: str
    does: str
    figures: dict[str, Any]


def measure(customers: int, latency: int) -> Generator[Peer]:
    """Yield each peer's figures: wall and CPU seconds, calls to each API, peak memory of a process."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_as_process(company=str(customers)) as sandbox,
    ):
        bench = _Bench(sandbox, Path(folder), latency)
        tap = [*bench.program("tap", "run_tap.py"), sandbox.quickbooks_url]
        tap += ["--config", bench.file("tap.json", _LOGIN | {"start_date": "2000-01-01T00:00:00Z"})]
        tap += ["--catalog", bench.file("catalog.json", _catalog())]
        writer = [*bench.program("writer", "batch_writer.py"), sandbox.mailchimp_url, AUDIENCE]
        yield bench.run(
            "tap-quickbooks 2.5.0, piped into mailchimp-marketing's batches",
            "reads and writes",
            [*tap, "--pipe", *writer],
        )
        yield bench.run("airbyte-source-quickbooks 4.0.4", "reads only", bench.airbyte())
        yield bench.run("drt-core 1.2.1", "writes only", bench.drt(customers))


class _Bench:
    def __init__(self, sandbox: RunningSandbox, folder: Path, latency: int) -> None:
        self._sandbox, self._folder, self._latency = sandbox, folder, latency

    def program(self, name: str, script: str) -> list[str]:
        return [str(environment(name)), str(SCRIPTS / script)]

    def file(self, name: str, content: object) -> str:
        path = self._folder / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    def airbyte(self) -> list[str]:
        kept = json.loads((self._folder / "tap.json").read_text("utf-8"))  # rotated by the tap
        expired = "2020-01-01T00:00:00Z"
        config = kept | {"access_token": "x", "token_expiry_date": expired, "start_date": expired}
        stream = {
            "name": "customers",
            "json_schema": {},
            "supported_sync_modes": ["full_refresh", "incremental"],
        }
        modes = {"sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}
        return [
            *(*self.program("airbyte", "run_airbyte.py"), self._sandbox.quickbooks_url, "read"),
            *("--config", self.file("airbyte.json", config)),
            *("--catalog", self.file("streams.json", {"streams": [{"stream": stream, **modes}]})),
        ]

    def drt(self, customers: int) -> list[str]:
        members = self._folder / "members.jsonl"
        with members.open("w", encoding="utf-8") as file:
            for number in range(customers):
                fields = {"FNAME": "D", "LNAME": str(number)}
                member = {"email_address": f"d{number}@drt-firm.com", "merge_fields": fields}
                file.write(json.dumps(member | {"status_if_new": "subscribed"}) + "\n")
        return [
            *(*self.program("drt", "run_drt.py"), self._sandbox.mailchimp_url, AUDIENCE),
            str(members),
        ]

    def run(self, name: str, does: str, command: list[str]) -> Peer:
        forget_calls(self._sandbox)
        set_latency(self._sandbox, self._latency)
        done = subprocess.run(
            [sys.executable, "-I", str(Path(__file__).with_name("measured.py")), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
        return Peer(name, does, json.loads(done.stdout) | {"calls": calls_of(self._sandbox)})


def environment(name: str) -> Path:
    """Return the Python of a peer's environment; make it if it is not there."""
    folder = ENVIRONMENTS / name
    ready, python = folder / "ready", folder / "bin" / "python"
    if not ready.exists():
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--python", sys.executable, "--clear", folder], check=True)
        install = [*uv, "pip", "install", "--python", python, *PACKAGES[name]]
        subprocess.run(install, check=True)
        ready.touch()
    return python.absolute()


def _catalog() -> Any:
    done = subprocess.run(
        [environment("tap"), "-c", _CATALOG], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)
