"""Which customers a sample shows."""

from ml_connector.rules.notes_block import given_reason
from ml_connector.settings import Sync
from ml_connector.sync.samples import future_contacts

SYNC = {
    "audience_id": "abc",
    "new_contact_status": "pending",
    "fields": {},
}


def raw(number: int, address: str = "", **given):
    mail = {"PrimaryEmailAddr": {"Address": address}} if address else {}
    times = {"MetaData": {"LastUpdatedTime": "2026-03-01T10:00:00-08:00"}}
    return {"Id": str(number), "DisplayName": f"C{number}", **times, **mail, **given}


def test_samples_are_customers_that_become_contacts():
    rows = [
        raw(1, "amy@example.com"),
        raw(2, "AMY@example.com"),
        raw(3, "job@example.com", Job=True),
        raw(4, "project@example.com", IsProject=True),
        raw(5, "gone@example.com", Active=False),
        raw(6),
        raw(7, "bo@example.com"),
    ]
    assert ids_of_samples(rows) == ["1", "3", "7"]
    assert ids_of_samples(rows, include_jobs=False) == ["1", "7"]


def test_a_project_is_no_sample_whatever_the_settings_say_of_jobs():
    rows = [raw(1, "plan@example.com", Job=True, IsProject=True), raw(2, "plan@example.com")]
    for jobs in (True, False):
        assert ids_of_samples(rows, include_jobs=jobs) == ["2"]


def ids_of_samples(rows, **given) -> list[str]:
    sync = Sync.model_validate({"name": "main", **SYNC, **given})
    return [each["Id"] for each, _ in future_contacts(rows, sync)]


def test_mailchimps_word_for_no_reason_is_no_reason():
    assert given_reason({"reason": "N/A (No reason given)"}) == ""
    assert given_reason({"reason": "Too many mails"}) == "Too many mails"
