"""What the mock servers send, in both of Intuit's formats and signed by Mailchimp, arrives once."""

import pytest
from sqlalchemy import text

from ml_connector.webhooks.endpoint import PREFIX
from tests.integration.receiving import TOKEN, serving


@pytest.mark.parametrize("format_", ["cloudevents", "legacy"])
def test_an_edit_in_quickbooks_arrives_however_often_it_is_sent(company, format_):
    ids = [company.customer(f"Customer {number}", f"c{number}@example.com") for number in range(30)]
    with serving(company.database_url) as served:
        company.quickbooks_control(
            "PUT",
            "webhooks",
            {
                "url": f"{served.url}{PREFIX}/quickbooks",
                "verifier_token": TOKEN,
                "format": format_,
                "duplicate_every": 2,
                "shuffle": True,
            },
        )
        for customer_id in ids:
            company.edit(customer_id, FamilyName="Changed")
        company.quickbooks_control("POST", "webhooks/flush", {"seconds": 20})
        company.quickbooks_control("DELETE", "webhooks")
        rows = served.rows()
    assert sorted(row.entity_id for row in rows) == sorted(ids)
    assert {(row.kind, row.state) for row in rows} == {("customer.updated", "pending")}


def test_a_database_that_was_away_loses_nothing(company):
    customer_id = company.customer("Ada", "ada@example.com")
    with serving(company.database_url) as served:
        company.quickbooks_control(
            "PUT",
            "webhooks",
            {
                "url": f"{served.url}{PREFIX}/quickbooks",
                "verifier_token": TOKEN,
                "retry_seconds": [1, 1, 1, 1],
            },
        )
        with company.database.begin() as connection:
            connection.execute(text("ALTER TABLE ml_connector.webhook_inbox RENAME TO away"))
        company.edit(customer_id, FamilyName="Changed")
        company.quickbooks_control("POST", "webhooks/flush", {"seconds": 1})
        with company.database.begin() as connection:
            connection.execute(text("ALTER TABLE ml_connector.away RENAME TO webhook_inbox"))
        company.quickbooks_control("POST", "webhooks/flush", {"seconds": 20})
        company.quickbooks_control("DELETE", "webhooks")
        assert [row.entity_id for row in served.rows()] == [customer_id]
        assert served.receiver.tally.counts["not_stored"] >= 1
