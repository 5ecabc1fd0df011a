"""Intuit's own sample company, from an empty audience to the right one."""

SAMPLE = {"sample": True}


def test_first_sync_makes_25_contacts_and_says_why_for_the_others(company):
    company.quickbooks_control("POST", "company", SAMPLE)
    company.sync()
    assert len(company.statuses()) == 25
    assert set(company.statuses().values()) == {"subscribed"}
    decisions = company.decisions()
    assert decisions["6"] == ("skipped", "no_email", None)
    assert decisions["8"] == ("linked", "shared_address", "7")
    assert decisions["9"] == ("linked", "shared_address", "7")
    assert decisions["20"] == ("linked", "shared_address", "16")


def test_second_sync_writes_nothing(company):
    company.quickbooks_control("POST", "company", SAMPLE)
    company.sync()
    company.clear_journals()
    company.sync()
    assert company.writes() == []
    assert len(company.calls("quickbooks")) == 1
    assert len(company.calls("mailchimp")) == 2
