"""`ml-connector preview`, `sync` and `process-webhooks`: what DAGs do, in the process of the command."""

from pathlib import Path

import pytest

AMY, BEN = "amy@finch.org", "ben@finch.org"


def test_a_preview_shows_the_plan_and_a_sync_carries_it_out(company, run):
    company.customer("Amy", AMY)
    code, said = run("preview")
    assert (code, "Would change" in said, "new_customer" in said) == (0, True, True), said
    assert company.statuses() == {}
    code, said = run("sync")
    assert (code, "new_customer" in said) == (0, True), said
    assert company.statuses() == {AMY: "subscribed"}
    assert "refused" not in said
    company.customer("Fake", "fake@fake-domain.org")
    code, said = run("sync")
    assert (code, "Mailchimp refused 1 contact. `ml-connector audit" in said) == (0, True), said


def rewrite(environment, old: str, new: str) -> None:
    """Change the settings file of the command."""
    file = Path(environment["ML_CONNECTOR_SYNCS"])
    file.write_text(file.read_text().replace(old, new))


def test_a_rehearsal_tells_what_a_first_sync_would_do_and_writes_nothing(
    company, run, connected_environment
):
    rewrite(connected_environment, "first_run: write", "first_run: ask\n    adopt: overwrite")
    company.seed(AMY, merge_fields={"FNAME": "Amelia"})
    amy = company.customer("Amy", AMY)
    company.customer("Ben", BEN)
    company.clear_journals()
    code, said = run("rehearse")
    assert code == 0, said
    for line in (
        "Neither account was written to: a rehearsal can only read. A run would do this:",
        "1 new contact (1 subscribed)",
        "First Name: 1 value overwritten",
        f"customer {amy}: Amelia -> Amy",
    ):
        assert line in said, said
    for base in (company.quickbooks, company.mailchimp):
        assert company.control(base, "GET", "journal?write=true")["calls"] == []
    assert company.calls("quickbooks")
    assert company.calls("mailchimp")
    assert company.statuses() == {AMY: "subscribed"}
    code, said = run("sync")
    assert code == 3, "a rehearsal is no approval"
    code, said = run("sync", "--approve")
    assert code == 0, said
    assert company.fields(AMY)["FNAME"] == "Amy"


def test_a_rehearsal_says_that_the_audience_lacks_a_merge_field(
    company, run, connected_environment
):
    rewrite(connected_environment, "LNAME: ", "NOTTHERE: ")
    company.customer("Amy", AMY)
    code, said = run("rehearse")
    assert (code, "merge field NOTTHERE is missing" in said) == (0, True), said
    assert company.statuses() == {}


def test_a_sync_of_one_customer_leaves_the_others_alone(company, run):
    company.customer("Amy", AMY)
    ben = company.customer("Ben", BEN)
    code, said = run("sync", "--customer-id", ben)
    assert code == 0, said
    assert company.statuses() == {BEN: "subscribed"}


@pytest.mark.endurance
def test_a_plan_above_the_guard_waits_until_it_is_approved(company, run):
    ids = [company.customer(f"C{n}", f"c{n}@finch.org") for n in range(30)]
    assert run("sync")[0] == 0
    for customer_id in ids:
        company.edit(customer_id, Active=False)
    code, said = run("sync")
    assert code == 3, said
    assert set(company.statuses().values()) == {"subscribed"}
    code, said = run("sync", "--approve")
    assert code == 0, said
    assert set(company.statuses().values()) == {"archived"}


def test_webhooks_are_processed_once_and_then_nothing_is_due(company, run):
    company.told_by_quickbooks(("created", company.customer("Amy", AMY)))
    code, said = run("process-webhooks")
    assert (code, said.splitlines()[-1]) == (0, "done 1")
    code, said = run("process-webhooks")
    assert (code, said.splitlines()[-1]) == (0, "Nothing was due.")


def test_drift_is_printed_as_text_csv_and_json(company, run):
    company.customer("Amy", AMY)
    assert run("sync")[0] == 0
    company.person(AMY, "profile", merge_fields={"FNAME": "=Amelie"})
    code, said = run("drift")
    assert (code, "is Amy in QuickBooks, =Amelie in Mailchimp" in said) == (0, True), said
    code, said = run("drift", "--csv")
    assert (code, "Amy,'=Amelie" in said) == (0, True), said
    code, said = run("drift", "--json")
    assert (code, '"in Mailchimp": "=Amelie"' in said) == (0, True), said
