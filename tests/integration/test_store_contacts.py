"""Contacts after our calls: what others recorded meanwhile is not lost."""

from ml_connector.model import Status
from ml_connector.store import contacts
from ml_connector.store.contacts import Written

AMY, BEN = "amy@finch.org", "ben@finch.org"


def record(firm, **of: Status) -> None:
    """Store what a batch made of contacts that nobody knew when it was claimed."""
    written = [
        Written(email_key=firm.vault.email_key(f"{name}@finch.org"), status=status, owner="1")
        for name, status in of.items()
    ]
    with firm.database.begin() as connection:
        contacts.record(connection, written, sync="main", vault=firm.vault, unknown=True)


def known(firm) -> dict[str, str]:
    with firm.database.begin() as connection:
        keys = [firm.vault.email_key(address) for address in (AMY, BEN)]
        found = contacts.frame(connection, sync="main", keys=keys)
    return dict(zip(found.email_key, found.status, strict=True))


def test_a_contact_that_a_webhook_recorded_while_its_batch_was_on_the_wire_is_merged(firm):
    firm.seed(AMY)
    firm.told_by_mailchimp("subscribe", email=AMY)
    firm.work_off()
    record(firm, amy=Status.SUBSCRIBED, ben=Status.UNSUBSCRIBED)
    assert known(firm) == {
        firm.vault.email_key(AMY).hex(): "subscribed",
        firm.vault.email_key(BEN).hex(): "unsubscribed",
    }


def test_contacts_that_nobody_knows_are_told_from_those_somebody_does(firm):
    assert known(firm) == {}
    record(firm, amy=Status.SUBSCRIBED)
    assert list(known(firm).values()) == ["subscribed"]
