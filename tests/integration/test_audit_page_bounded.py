"""The audit page reads about as many rows as it shows, however many there are."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from bench.audit_page import PAGES, fill, pages
from tests.integration.company import Company
from tests.integration.test_console import Visitor

ROWS = 100_000
MOST = 1_000
"""A page shows 50; the rest is slack for what an index finds and a filter drops."""
CHOICES = 21_000
"""The choices of the filter are those of the newest 20,000 rows."""


@pytest.fixture(scope="module")
def filled(mock_servers, postgres, template_database, tmp_path_factory) -> Iterator[Company]:
    name = "filled_audit"
    postgres.create_database(name, template=template_database)
    url = postgres.url(name)
    fill(url, ROWS)
    company = Company(
        mock_servers=mock_servers, database_url=url, folder=tmp_path_factory.mktemp("f")
    )
    yield company
    company.close()
    postgres.drop_database(name)


@pytest.mark.parametrize("name", PAGES)
def test_the_audit_page_reads_a_bounded_number_of_rows(filled, name: str) -> None:
    statements: list[tuple[str, Any]] = []

    def heard(_connection, _cursor, statement, parameters, _context, _many) -> None:
        if "ml_connector.audit" in statement:
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", heard)
    try:
        answer = Visitor(filled, "user").get(f"/main/audit{pages(ROWS)[name]}")
    finally:
        event.remove(Engine, "before_cursor_execute", heard)
    assert answer.status_code == 200
    assert statements, "the page asked the audit nothing"
    with filled.database.begin() as connection:
        for statement, parameters in statements:
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            (plan,) = connection.exec_driver_sql(explained, parameters).scalar_one()
            limit = CHOICES if "DISTINCT" in statement else MOST
            assert rows_read(plan["Plan"]) <= limit, statement


def rows_read(plan: dict[str, Any]) -> float:
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
         + node.get("Rows Removed by Index Recheck", 0)) * node["Actual Loops"]
        for node in nodes(plan)
        if "Scan" in node["Node Type"]
    )  # fmt: skip


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)
