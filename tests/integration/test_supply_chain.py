"""What we build on is what its makers published: hashes in the locks, known vulnerabilities named."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from local import advisories

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "include/ml_connector/console/static/vendor"
DECISION = ROOT / "docs/decisions/0014-htmx-and-chart-js-served-by-us.md"
DIGEST = "0" * 64


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "deploy/requirements.txt"]
)
def test_every_package_of_a_lock_has_one_version_and_its_hashes(name):
    entries = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in entries if re.match(r"[a-z0-9]", line)]
    assert len(packages) > 150
    for line in packages:
        assert re.match(r"\S+==\S+ ", line), line[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), f"no hash: {line[:80]}"


def test_htmx_and_chart_js_are_the_published_files():
    table = re.findall(
        r"^\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|$", DECISION.read_text(), re.MULTILINE
    )
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")
    }
    assert found == dict(table)


class Osv:
    """OSV's query API, of which we know what each package is vulnerable to."""

    def __init__(self, known: dict[str, dict]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = query["package"]["name"]
                outer.asked.append(f"{name}=={query['version']}")
                answer = json.dumps({"vulns": [known[name]]} if name in known else {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/query"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def osv():
    pytest.importorskip("pip_audit", reason="pip-audit comes with `make install-dev`")
    fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}
    affected = {"package": {"name": "beta", "ecosystem": "PyPI"}, "ranges": [fixed]}
    known = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "summary": "bad", "affected": [affected]}
    osv = Osv({"beta": known})
    yield osv
    osv.server.shutdown()
    osv.server.server_close()


def lock_of(folder: Path, *packages: str) -> Path:
    lock = folder / "requirements.txt"
    lock.write_text("".join(f"{each} --hash=sha256:{DIGEST}\n" for each in packages))
    return lock


def asked_of_osv(lock, osv, **allowed):
    allowed = {name.replace("_", "-"): reason for name, reason in allowed.items()}
    return advisories.check(lock, allowed, services=["osv"], osv_url=osv.url)


def test_packages_without_known_vulnerabilities_are_counted_and_pass(tmp_path, osv):
    outcome = asked_of_osv(lock_of(tmp_path, "alpha==1.0", "gamma==3.1"), osv)
    assert sorted(osv.asked) == ["alpha==1.0", "gamma==3.1"]
    assert outcome.lines == ("osv: 2 packages looked at, 0 not",)
    assert outcome.code == advisories.NOTHING_KNOWN


def test_a_known_vulnerability_fails_and_says_where_it_is_fixed(tmp_path, osv):
    outcome = asked_of_osv(lock_of(tmp_path, "alpha==1.0", "beta==1.5"), osv)
    assert outcome.code == advisories.KNOWN
    assert "osv: beta 1.5: PYSEC-1; fixed in 2.0" in outcome.lines


def test_an_allowed_vulnerability_passes_with_its_reason_under_any_of_its_names(tmp_path, osv):
    outcome = asked_of_osv(lock_of(tmp_path, "beta==1.5"), osv, CVE_2026_1="not reachable")
    assert outcome.code == advisories.NOTHING_KNOWN
    assert "osv: beta 1.5: PYSEC-1; allowed: not reachable" in outcome.lines


def test_what_is_allowed_and_no_longer_there_is_told(tmp_path, osv):
    outcome = asked_of_osv(lock_of(tmp_path, "alpha==1.0"), osv, CVE_2026_1="not reachable")
    assert "osv: CVE-2026-1 is allowed but no longer found" in outcome.lines


def test_a_service_that_does_not_answer_is_not_taken_for_good_news(tmp_path, osv):
    osv.server.shutdown()
    osv.server.server_close()
    outcome = asked_of_osv(lock_of(tmp_path, "alpha==1.0"), osv)
    assert outcome.code == advisories.NOT_LOOKED_AT
    assert outcome.lines[0] == "osv: no response"


@pytest.mark.parametrize("seen", [(), (advisories.Package(name="b", version="1"),)])
def test_packages_that_pip_audit_skips_are_named_and_not_taken_for_good_news(seen):
    skipped = advisories.Package(name="a", skip_reason="not found on PyPI")
    outcome = advisories.judge(advisories.Report(dependencies=(skipped, *seen)), {})
    assert outcome.code == advisories.NOT_LOOKED_AT
    assert outcome.lines == (f"{len(seen)} packages looked at, 1 not", "Not looked at: a")


def test_every_allowed_advisory_has_a_reason():
    assert all(reason.strip() for reason in advisories.allowed_advisories().values())
