"""The customer list counts a filter by narrow indexes: the indexes hold every column it names."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event, text

from bench.customer_list import OVERVIEW, fill, pages
from tests.integration.company import Company
from tests.integration.test_console import Visitor

CUSTOMERS = 200
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


def test_the_indexes_of_the_list_cover_its_filters(listed) -> None:
    statements: list[str] = []

    def heard(_connection, _cursor, statement, _parameters, _context, _many) -> None:
        if "count(*)" in statement and "ml_connector.customers c LEFT JOIN" in statement:
            statements.append(statement)

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
        for table, alias in (("customers", "c"), ("contacts", "k")):
            columns = connection.execute(
                text("""SELECT attname FROM pg_attribute
                        WHERE attrelid = CAST(:index AS regclass)"""),
                {"index": f"ml_connector.{table}_listed"},
            ).scalars()
            covered = set(columns)
            for statement in statements:
                asked_of = set(re.findall(rf"\b{alias}\.(\w+)", statement))
                assert asked_of <= covered, statement
