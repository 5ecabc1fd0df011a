"""Fuzz of the console and the JSON interface: no 5xx, nothing stored, nothing shown or logged."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.config import (
    CoveragePhaseConfig,
    GenerationConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.specs.openapi.checks import negative_data_rejection
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import ml_connector.console
from ml_connector.console.access import PREFIX, Caller
from ml_connector.console.api.app import API_PREFIX, build_api
from ml_connector.console.api.openapi import describe
from ml_connector.console.app import PAGES, PageRoute, build_console
from ml_connector.console.queries.customer_list import FILTERS
from ml_connector.console.visit import Services, Started
from sandbox.running import serving_in_thread
from tests.integration.fuzzing import (
    INSIDE,
    KEYS,
    MANY,
    PERSONS,
    TEXTS,
    changed,
    found,
    names_read,
    stored,
)
from tests.integration.test_console import OURS, ROLES, FakeOutside, filled, full

__all__ = ["filled", "full"]
WITHIN_A_TEST = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
NAMES = sorted({*names_read(Path(ml_connector.console.__file__).parent, "query", "form"), *FILTERS})
AUDIT = {"audit", "audit_batches"}
STORES = {
    "/customers.csv": AUDIT,
    "/run": AUDIT,
    "/customers/retry/start": {*AUDIT, "customers", "contacts", "activity_blocks"},
    "/webhooks/retry": {"webhook_inbox"},
    "/webhooks/{id:row}/retry": {"webhook_inbox"},
    "/contacts/{key}/restore/{tag}": {*AUDIT, "contacts", "customers"},
}
"""What a route is there to change; every other one only reads."""
TOKEN = "Bearer token-of-a-user"
MARK = "zyprian.quastenflosser"
"""Part of every text that is sent as an address or a search."""


def services(company, role: str, *, token: str = "") -> Services:
    rights = ROLES[role]

    async def identify(request) -> Caller | None:
        if rights is None or (token and request.headers.get("authorization") != token):
            return None
        return Caller(name=role, may=lambda right, _: right in rights)

    started = Started(said="Started.")
    return Services(
        database=company.database,
        vault=company.vault,
        syncs=lambda: {"main": company.sync_settings()},
        identify=identify,
        outside=FakeOutside(),
        clock=company.clock,
        start=lambda *_, **__: started,
        replay=lambda *_, **__: started,
        undo=lambda *_, **__: started,
    )


@pytest.fixture(scope="module")
def browsers(full) -> dict[str, TestClient]:
    """A browser of each role. An exception that leaves the console is raised here."""
    return {
        role: TestClient(
            Starlette(routes=[Mount(PREFIX, build_console(services(full, role)))]),
            base_url="https://airflow.example.com",
            follow_redirects=False,
        )
        for role in ("admin", "viewer", "stranger", "anonymous")
    }


@pytest.fixture
def meant(full) -> Iterator[set[str]]:
    """The tables that a test may change, for it to fill; afterwards the others are as before."""
    before, allowed = stored(full.database), set[str]()
    yield allowed
    assert changed(before, stored(full.database)) <= allowed


FIELDS = st.lists(st.tuples(st.sampled_from(NAMES) | TEXTS, TEXTS), max_size=6)
BODIES = FIELDS.map(lambda fields: encoded([*fields, ("wanted", MARK), ("email", MARK)])) | (
    st.binary(max_size=200) | st.sampled_from([b"wanted=" + b"a" * 70_000, b"a&" * 60])
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "hx-request": st.sampled_from(["true", "false", ""]),
        "content-type": st.sampled_from(
            ["application/x-www-form-urlencoded", "multipart/form-data", "application/json", "\xff"]
        ),
        "cookie": st.sampled_from(
            ["x=\xff", "ml_connector_connect_quickbooks=1", ";;=;", "a" * 4000]
        ),
        "host": st.sampled_from(["localhost", "127.0.0.1:8080", "[::1", "evil.example", "a b"]),
        "accept-language": st.sampled_from(["de-DE", "\xe4", "x" * 300]),
    },
)


def encoded(fields) -> bytes:
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields).encode()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.method} {page.path or '/'}")
@settings(max_examples=150 if MANY else 2, suppress_health_check=WITHIN_A_TEST)
@given(st.data())
def test_no_query_form_or_path_breaks_a_page_stores_anything_or_is_said_elsewhere(
    browsers, meant, capfd, caplog, page: PageRoute, data
):
    meant |= STORES.get(page.path, set())
    path = re.sub(r"{\w+(:row)?}", lambda part: part_of(part[0], data), page.path)
    query = encoded(data.draw(FIELDS)).decode()
    headers = {**data.draw(HEADERS), **(OURS if page.method == "POST" else {})}
    body = data.draw(BODIES) if page.method == "POST" else b""
    address = f"{PREFIX}/main{path}?{query}"
    for role in ("admin", data.draw(st.sampled_from(["viewer", "stranger", "anonymous"]))):
        answer = browsers[role].request(page.method, address, headers=raw(headers), content=body)
        assert answer.status_code < 500, (role, answer.text)
        assert found((*KEYS, *INSIDE), answer.text) == []
        assert MARK not in str(answer.headers)
        if role in ("stranger", "anonymous"):
            assert answer.status_code >= 300
            assert found(PERSONS, answer.text) == []
    said = capfd.readouterr()
    assert found((*KEYS, *PERSONS, MARK), said.out + said.err + caplog.text) == []


def part_of(name: str, data) -> str:
    """A part of a path. A row's id has digits; other parts are whatever a URL can hold."""
    if name.endswith(":row}"):
        return data.draw(st.integers(0, 10**18 - 1).map(str) | st.sampled_from(["1", "2", "3"]))
    ids = st.sampled_from(["1", "2", "3", "quickbooks", "mailchimp", "FNAME", "ff" * 32, "0"])
    return quote(data.draw(ids | TEXTS), safe="")


def raw(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode("latin-1") for name, value in headers.items()}


# ── the JSON interface ───────────────────────────────────────────────────────────────────────


def described() -> schemathesis.BaseSchema:
    """The interface as its own description has it, with valid values and with wrong ones."""
    config = SchemathesisConfig(
        projects=ProjectsConfig(
            default=ProjectConfig(
                generation=GenerationConfig(max_examples=200 if MANY else 3),
                phases=PhasesConfig(coverage=CoveragePhaseConfig(enabled=MANY)),
            )
        )
    )
    return schemathesis.openapi.from_dict(describe(f"{API_PREFIX}/v1"), config=config)


@pytest.fixture(scope="module")
def interface(full) -> Iterator[dict[str, str]]:
    """The interface's address for each role."""
    apps = {
        role: Starlette(routes=[Mount(API_PREFIX, build_api(services(full, role, token=TOKEN)))])
        for role in ("viewer", "stranger", "anonymous")
    }
    with serving_in_thread(apps) as urls:
        yield {role: f"{url}{API_PREFIX}/v1" for role, url in urls.items()}


@described().parametrize()
@settings(suppress_health_check=WITHIN_A_TEST)
def test_the_json_interface_answers_as_described_whatever_it_is_asked(interface, meant, case):
    sent = {"Authorization": TOKEN}
    answer = case.call_and_validate(
        base_url=interface["viewer"],
        headers=sent,
        excluded_checks=[negative_data_rejection],  # an empty value is no filter
    )
    assert found((*KEYS, *INSIDE), answer.text) == []
    for role in ("stranger", "anonymous"):
        refused = case.call(base_url=interface[role], headers=sent)
        assert refused.status_code in (401, 403, 405)
        assert found(PERSONS, refused.text) == []
