"""Contacts after our calls: what others recorded meanwhile is not lost."""

from ml_connector.model import Status
from ml_connector.store import contacts
from ml_connector.store.contacts import ContactState

AMY, BEN = "amy@finch.org", "ben@finch.org"


def record(company, **of: Status) -> None:
    """Store what a batch made of contacts that nobody knew when it was claimed."""
    written = [
        ContactState(
            email_key=company.vault.email_key(f"{name}@finch.org"), status=status, owner="1"
        )
        for name, status in of.items()
    ]
    with company.database.begin() as connection:
        contacts.record(connection, written, sync="main", vault=company.vault, unknown=True)


def known(company) -> dict[str, str]:
    with company.database.begin() as connection:
        keys = [company.vault.email_key(address) for address in (AMY, BEN)]
        found = contacts.rows(connection, sync="main", keys=keys)
    return {key.hex(): contact.status for key, contact in found.items()}


def test_a_contact_that_a_webhook_recorded_while_its_batch_was_on_the_wire_is_merged(company):
    company.seed(AMY)
    company.told_by_mailchimp("subscribe", email=AMY)
    company.work_off()
    record(company, amy=Status.SUBSCRIBED, ben=Status.UNSUBSCRIBED)
    assert known(company) == {
        company.vault.email_key(AMY).hex(): "subscribed",
        company.vault.email_key(BEN).hex(): "unsubscribed",
    }


def test_contacts_that_nobody_knows_are_told_from_those_somebody_does(company):
    assert known(company) == {}
    record(company, amy=Status.SUBSCRIBED)
    assert list(known(company).values()) == ["subscribed"]
