"""What write-back costs: 40 calls for 1,000 customers, and not one read that nobody needs."""

import pytest

from tests.integration.test_behaviour_activity import batches, reads

CUSTOMERS = 1000


@pytest.fixture
def thousand(company) -> list[str]:
    """A company of 1,000 customers, each a contact that unsubscribed since the last run."""
    for number in range(CUSTOMERS):
        company.customer(f"C{number}", f"c{number}@firm-mail.net", Notes="Theirs.")
    company.sync()
    company.sync()
    company.clear_journals()
    for number in range(CUSTOMERS):
        company.person(f"c{number}@firm-mail.net", "unsubscribe")
    customers = company.quickbooks_control("GET", f"customers?limit={CUSTOMERS}")["customers"]
    return [str(customer["Id"]) for customer in customers]


def shown(company) -> int:
    customers = company.quickbooks_control("GET", f"customers?limit={CUSTOMERS}")["customers"]
    return sum("\nUnsubscribed from" in customer["Notes"] for customer in customers)


def beyond_the_delta(company) -> list[str]:
    return [each["body"] for each in reads(company) if "LastUpdatedTime >= " not in each["body"]]


@pytest.mark.endurance
@pytest.mark.parametrize(("settings", "calls"), [({}, 40), ({"batch_size": 30}, 34)])
def test_1000_customers_cost_40_batches_and_no_read_beyond_the_delta(
    company, thousand, settings, calls
):
    company.settings["activity"] = settings
    company.sync()
    assert len(batches(company)) == calls
    assert beyond_the_delta(company) == []
    assert shown(company) == CUSTOMERS


@pytest.mark.endurance
def test_2_percent_changed_meanwhile_cost_one_read_and_one_batch_more(company, thousand):
    def edits() -> None:
        company.clear_journals()
        body = {"ids": thousand[::50], "fields": {"Notes": "By hand, {id}."}}
        company.quickbooks_control("POST", "customers/edit-many", body)

    company.sync(before_write_back=edits)
    assert len(batches(company)) == 41
    assert len(reads(company)) == 1
    assert shown(company) == CUSTOMERS
    for customer in thousand[::50]:
        assert company.record_of(customer)["Notes"].startswith(f"By hand, {customer}.\n")


def test_a_quiet_day_makes_no_call_to_quickbooks_but_the_delta(company, thousand):
    company.sync()
    company.sync()
    company.clear_journals()
    report = company.sync()
    assert batches(company) == []
    assert beyond_the_delta(company) == []
    assert len(reads(company)) <= 2, "its second page: all of them changed within its overlap"
    assert report.changes == []
