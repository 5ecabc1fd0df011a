"""Intuit's own sample company, from an empty audience to the right one."""

SAMPLE = {"sample": True}


def test_first_sync_makes_25_contacts_and_says_why_for_the_others(firm):
    firm.quickbooks_control("POST", "company", SAMPLE)
    firm.sync()
    assert len(firm.statuses()) == 25
    assert set(firm.statuses().values()) == {"subscribed"}
    decisions = firm.decisions()
    assert decisions["6"] == ("skipped", "no_email", None)
    assert decisions["8"] == ("linked", "shared_address", "7")
    assert decisions["9"] == ("linked", "shared_address", "7")
    assert decisions["20"] == ("linked", "shared_address", "16")


def test_second_sync_writes_nothing(firm):
    firm.quickbooks_control("POST", "company", SAMPLE)
    firm.sync()
    firm.clear_journals()
    firm.sync()
    assert firm.writes() == []
    assert len(firm.calls("quickbooks")) == 1
    assert len(firm.calls("mailchimp")) == 2
