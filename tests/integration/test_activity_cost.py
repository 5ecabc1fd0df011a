"""What write-back costs: 40 calls for 1,000 customers, and not one read that nobody needs."""

import pytest

from tests.integration.test_behaviour_activity import batches, reads

CUSTOMERS = 1000


@pytest.fixture
def thousand(firm) -> list[str]:
    """A company of 1,000 customers, each a contact that unsubscribed since the last run."""
    for number in range(CUSTOMERS):
        firm.customer(f"C{number}", f"c{number}@firm-mail.net", Notes="Theirs.")
    firm.sync()
    firm.sync()
    firm.clear_journals()
    for number in range(CUSTOMERS):
        firm.person(f"c{number}@firm-mail.net", "unsubscribe")
    customers = firm.quickbooks_control("GET", f"customers?limit={CUSTOMERS}")["customers"]
    return [str(customer["Id"]) for customer in customers]


def shown(firm) -> int:
    customers = firm.quickbooks_control("GET", f"customers?limit={CUSTOMERS}")["customers"]
    return sum("\nUnsubscribed from" in customer["Notes"] for customer in customers)


def beyond_the_delta(firm) -> list[str]:
    return [each["body"] for each in reads(firm) if "LastUpdatedTime >= " not in each["body"]]


@pytest.mark.parametrize(("settings", "calls"), [({}, 40), ({"batch_size": 30}, 34)])
def test_1000_customers_cost_40_batches_and_no_read_beyond_the_delta(
    firm, thousand, settings, calls
):
    firm.settings["activity"] = settings
    firm.sync()
    assert len(batches(firm)) == calls
    assert beyond_the_delta(firm) == []
    assert shown(firm) == CUSTOMERS


def test_2_percent_changed_meanwhile_cost_one_read_and_one_batch_more(firm, thousand):
    def edits() -> None:
        firm.clear_journals()
        body = {"ids": thousand[::50], "fields": {"Notes": "By hand, {id}."}}
        firm.quickbooks_control("POST", "customers/edit-many", body)

    firm.sync(before_write_back=edits)
    assert len(batches(firm)) == 41
    assert len(reads(firm)) == 1
    assert shown(firm) == CUSTOMERS
    for customer in thousand[::50]:
        assert firm.record_of(customer)["Notes"].startswith(f"By hand, {customer}.\n")


def test_a_quiet_day_makes_no_call_to_quickbooks_but_the_delta(firm, thousand):
    firm.sync()
    firm.sync()
    firm.clear_journals()
    report = firm.sync()
    assert batches(firm) == []
    assert beyond_the_delta(firm) == []
    assert len(reads(firm)) <= 2, "its second page: all of them changed within its overlap"
    assert report.changes == []
