"""The JSON interface: who may, paging, and rows of the form that its description promises."""

from typing import Any

import jsonschema
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from ml_connector.console.access import Caller
from ml_connector.console.api.app import API_PREFIX, build_api
from ml_connector.console.api.endpoints import ENDPOINTS
from ml_connector.console.visit import Services
from tests.integration.test_console import ROLES, FakeOutside, fill

NAMES = [each.name for each in ENDPOINTS]


def api(company, role: str = "viewer", *, syncs: tuple[str, ...] = ("main",)) -> TestClient:
    """A client of the interface, with a role's rights."""
    rights = ROLES[role]

    async def identify(_request):
        if rights is None:
            return None
        return Caller(name=role, may=lambda right, _sync: right in rights)

    services = Services(
        database=company.database,
        vault=company.vault,
        syncs=lambda: dict.fromkeys(syncs, company.sync_settings()),
        identify=identify,
        outside=FakeOutside(),
        clock=company.clock,
    )
    app = Starlette(routes=[Mount(API_PREFIX, build_api(services))])
    return TestClient(app, base_url=f"https://airflow.example.com{API_PREFIX}/v1/")


@pytest.fixture
def filled_company(company):
    fill(company)
    company.person("amy@birds-sanctuary.com", "profile", merge_fields={"FNAME": "Amelia"})
    company.sync()
    company.sync(preview=True)
    return company


def test_the_interface_has_the_rights_of_the_console_and_answers_as_described(filled_company):
    company = filled_company
    for name in (*NAMES, "openapi.json"):
        assert api(company, "anonymous").get(name).status_code == 401
        refused = api(company).post(name)
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}
        if name in NAMES:
            assert api(company, "stranger").get(name).status_code == 403
            assert api(company).get(f"{name}?sync=other").status_code == 404
            assert "one of main, books" in api(company, syncs=("main", "books")).get(name).text
    described = api(company).get("openapi.json").json()
    assert [path.strip("/") for path in described["paths"]] == NAMES
    every: dict[str, Any] = {}
    for name in NAMES:
        answer = api(company).get(name)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        every[name] = answer.json()["rows"]
        assert every[name], name
        operation = described["paths"][f"/{name}"]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": described["components"]})
        for parameter in operation["parameters"]:
            values = parameter["schema"].get("enum", ["1"])
            for value in values if parameter["name"] not in ("sync", "tag") else ():
                taken = "2026-01-01" if parameter["schema"].get("format") == "date" else value
                asked = api(company).get(name, params={parameter["name"]: taken})
                assert asked.status_code == 200 or name == "drift", asked.text
    amy = next(row for row in every["customers"] if row["name"] == "Amy")
    assert (amy["email"], amy["status"]) == ("amy@birds-sanctuary.com", "unsubscribed")
    assert {row["kind"] for row in every["plans"]} >= {"sync", "preview"}
    assert "unsubscribed" in {row["kind"] for row in every["events"]}
    (differing,) = every["drift"]
    assert differing["fields"][0]["in_mailchimp"] == "Amelia"


def test_pages_follow_one_another_and_what_cannot_be_read_is_refused(filled_company):
    client = api(filled_company)
    for name in NAMES:
        whole, rows, after = client.get(f"{name}?limit=1000").json()["rows"], [], ""
        for _ in range(100):
            answer = client.get(name, params={"limit": "1", **({"after": after} if after else {})})
            rows += answer.json()["rows"]
            after = answer.json()["after"]
            if after is None:
                break
        assert rows == whole, name
        for query in ("limit=0", "limit=1001", "limit=x", "nothing=1"):
            answer = client.get(f"{name}?{query}")
            assert (answer.status_code, "error" in answer.json()) == (400, True), (name, query)
    unreadable = (
        "plans?kind=nothing", "plans?after=-1", "webhooks?state=nothing", "audit?since=yesterday",
        "audit?until=2026-13-01", "events?after=x", "customers?reason=nothing",
    )  # fmt: skip
    for query in unreadable:
        answer = client.get(query)
        assert answer.status_code == 400, query
        assert answer.json()["error"].startswith(query.split("?")[1].split("=")[0]), query
    refused = client.get("customers?status=nobody").json()["error"]
    assert refused.startswith("status: one of subscribed, ")
    assert client.get("drift?after=zz").status_code == 400
    assert client.get("customers?after=%00").status_code == 200
