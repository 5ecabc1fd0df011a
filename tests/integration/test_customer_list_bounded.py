"""The customer list counts a filter by narrow indexes: the payloads of one page alone are read."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from bench.customer_list import OVERVIEW, fill, pages
from tests.integration.company import Company
from tests.integration.test_audit_page_bounded import nodes
from tests.integration.test_console import Visitor

CUSTOMERS = 3_000
WIDE = ("tag", "bounced_since")
"""These filters read columns that change too often for an index."""


@pytest.fixture(scope="module")
def listed(mock_servers, postgres, template_database, tmp_path_factory) -> Iterator[Company]:
    name = "listed_customers"
    postgres.create_database(name, template=template_database)
    company = Company(
        mock_servers=mock_servers,
        database_url=postgres.url(name),
        folder=tmp_path_factory.mktemp("f"),
    )
    fill(company, CUSTOMERS)
    yield company
    company.close()
    postgres.drop_database(name)


def test_a_filter_is_counted_without_reading_payloads(listed) -> None:
    statements: list[tuple[str, Any]] = []

    def heard(_connection, _cursor, statement, parameters, _context, _many) -> None:
        if "count(*)" in statement and "ml_connector.customers c LEFT JOIN" in statement:
            statements.append((statement, parameters))

    asked = pages(listed.vault)
    event.listen(Engine, "before_cursor_execute", heard)
    try:
        for name, path in asked.items():
            if not any(wide in name for wide in WIDE):
                assert Visitor(listed, "viewer").get(f"/main{path}").status_code == 200, name
    finally:
        event.remove(Engine, "before_cursor_execute", heard)
    assert OVERVIEW in asked
    assert len(statements) > 30
    with listed.database.begin() as connection:
        for other in ("seqscan", "bitmapscan", "indexscan"):  # cheap here: the tables are small
            connection.exec_driver_sql(f"SET LOCAL enable_{other} = off")
        for statement, parameters in statements:
            explained = f"EXPLAIN (FORMAT JSON) {statement}"
            (plan,) = connection.exec_driver_sql(explained, parameters).scalar_one()
            for node in nodes(plan["Plan"]):
                if node.get("Relation Name") in ("customers", "contacts"):
                    few = node["Plan Rows"] < CUSTOMERS / 10
                    assert few or node["Node Type"] == "Index Only Scan", statement
