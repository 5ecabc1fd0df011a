"""Fifty people with all the history one can have, erased: not one trace, and nobody comes back."""

import pytest
from sqlalchemy import text

from ml_connector.audit import trail
from ml_connector.audit.trail import Selection
from ml_connector.replay import replay
from tests.integration.company import Company
from tests.integration.test_audit_sealed import verify
from tests.integration.test_console import Visitor
from tests.integration.test_forget import erase
from tests.integration.traces import dumped, forms, found, marks

PEOPLE = 50
KEEP_HASHES = ("suppressions", "erasures", "proof")

# What a column may hold of a person, and what an erasure makes of it. Whoever adds a column of a
# type that can hold something says here which of the two it is.
ERASED = {
    "customers": {
        "email_key", "contact_key", "fields_hash", "payload", "email_problem", "linked_to",
        "left_out",
    },
    "contacts": {
        "email_key", "status", "previous_status", "owner", "pushed_hash", "sent_fields",
        "archived_by", "alias_of", "refused_hash", "refused_reason", "engagement", "payload",
        "contact_id", "profile_hash", "seen_tags",
    },
    "former_contacts": {"email_key"},
    "observations": {"email_key", "payload"},
    "member_events": {"email_key", "kind", "before", "after", "source", "payload"},
    "changes": {"email_key", "decided_hash", "error"},
    "change_batches": {"span", "email_keys", "decided_hashes"},
    "all_changes": {"email_key", "decided_hash", "error"},
    "activity_blocks": {"shown_key", "error", "attachment_id", "attachment_token"},
    "write_intents": {"digest"},
    "audit": {"email_key", "before", "after", "error"},
    "webhook_inbox": {"payload"},
    "unreadable_records": {"record", "email_keys"},
    "erasures": {"payload"},
    "suppressions": {"email_key"},  # a keyed hash stays: it is what keeps them out
}  # fmt: skip
HARMLESS = {
    # QuickBooks' ids, names of syncs, runs and rules, states, times, counts, hashes of rows.
    "customers": {"sync", "customer_id", "sync_token", "decision", "reason", "merged_into"},
    "contacts": {"sync"},
    "former_contacts": {"sync", "customer_id"},
    "observations": {"sync"},
    "unfit_values": {"sync", "customer_id", "merge_field", "reason"},  # words that quote no value
    "unreadable_records": {"sync", "system", "reason"},
    "member_events": {"sync"},
    "plans": {"sync", "run_id", "kind", "state", "calls", "counts", "error"},
    "changes": {"sync", "customer_id", "kind", "reason", "status", "state", "origin"},
    "change_batches": {
        "sync", "kind", "reason", "status", "state", "origin", "ids", "customer_ids",
    },
    "all_changes": {"sync", "customer_id", "kind", "reason", "status", "state", "origin"},
    "change_counts": {"sync", "kind", "reason", "state"},
    "activity_blocks": {"sync", "customer_id", "state"},
    "write_intents": {"sync", "customer_id"},
    "batch_intents": {"sync", "changes"},
    "audit": {
        "sync", "system", "action", "reason", "customer_id", "outcome", "request_id", "cause",
        "dag_id", "run_id", "task_id", "actor", "seal_id", "origin",
    },
    "audit_batches": {"digests", "mac"},
    "audit_seals": {"digest", "mac"},
    "audit_checkpoints": {"mac", "signature"},
    "audit_rewrites": {"kind", "digest", "mac"},
    "webhook_inbox": {
        "system", "source", "sync", "kind", "entity_id", "deleted_id", "dedupe_key", "state",
        "reason",
    },
    "erasures": {"email_key", "actor", "calling"},  # the request's own hash: the proof
    "suppressions": {"reason"},
    "cursors": {"sync", "name", "value"},
    "token_refreshes": {"conn_id"},
    "token_intents": {"conn_id", "refused"},
    "alerts": {"cause", "message", "link", "told", "told_end"},
    "watched_syncs": {"sync"},
    "pacing": {"account", "recent"},
    "api_usage": {"day", "account", "call"},
    "alembic_version": {"version_num"},
}  # fmt: skip


def test_every_column_that_can_hold_something_has_a_rule(company):
    with company.database.begin() as connection:
        rows = connection.execute(
            text("""SELECT table_name, column_name FROM information_schema.columns
                    WHERE table_schema = 'ml_connector' AND table_name NOT LIKE 'audit\\_2%'
                      AND data_type NOT IN ('bigint', 'integer', 'smallint', 'boolean',
                                            'timestamp with time zone')""")
        ).all()
    there = {(row.table_name, row.column_name) for row in rows}
    told = {
        (table, column)
        for rules in (ERASED, HARMLESS)
        for table, columns in rules.items()
        for column in columns
    }
    said = "say in ERASED or HARMLESS whether it can hold something of a person, and erase it"
    assert there - told == set(), said
    assert told - there == set()


def person(number: int) -> dict[str, str]:
    """Words that stand nowhere else."""
    return {
        "given": f"Zyprian{number}q",
        "family": f"Quastenflosser{number}q",
        "company": f"Wolpertinger{number}q Ltd.",
        "phone": f"555-{number:04}-7391",
        "street": f"{number}q Nebelkrähenweg",
        "notes": f"Collects stamps of Laputa{number}q.",
        "reason": f"Too many mails about newts{number}q",
    }


def address(number: int) -> str:
    return f"zyprian{number}q@quasten-birds.org"


def moved(number: int) -> str:
    return f"quasten{number}q@elsewhere-birds.org"


def history(company: Company) -> dict[int, str]:
    """Synced, refused, put off, changed, moved on either side, opted out, bounced, told by webhooks."""
    company.settings["activity"] = {"write_to": "both"}
    company.mailchimp_control(
        "PUT", "settings", {"throttled": [address(n) for n in (40, 41, 45, 46)]}
    )
    ids = {}
    for number in range(PEOPLE):
        words = person(number)
        ids[number] = company.customer(
            words["given"],
            address(number),
            FamilyName=words["family"],
            CompanyName=words["company"],
            PrimaryPhone={"FreeFormNumber": words["phone"]},
            BillAddr={
                "Line1": words["street"],
                "City": "Bayshore",
                "CountrySubDivisionCode": "CA",
                "PostalCode": "94326",
            },
            Notes=words["notes"],
        )
    for number in range(10):
        company.customer(f"Bystander{number}", f"bystander{number}@firm-mail.net")
    company.sync()
    company.sync()  # reads the contacts that the first one created, by which a move is told
    campaign = company.campaign()
    for number in range(0, PEOPLE, 5):
        company.edit(ids[number], GivenName=person(number)["given"] + "-Emil")
        company.move(ids[number + 1], moved(number + 1))
        company.person(address(number + 2), "unsubscribe", reason=person(number + 2)["reason"])
        if number < 40:
            company.person(address(number + 3), "upemail", email_address=moved(number + 3))
            company.did(campaign, address(number), "open")
        company.person(address(number + 4), "clean")
    for number in range(0, PEOPLE, 7):
        words = {
            "merges][FNAME": person(number)["given"],
            "merges][LNAME": person(number)["family"],
        }
        company.told_by_mailchimp("profile", email=address(number), id=str(number), **words)
        company.told_by_mailchimp("dance", email=address(number), id=str(number))
    company.pass_time(hours=13)
    company.sync()
    company.told_by_quickbooks(*(("updated", ids[number]) for number in range(0, PEOPLE, 3)))
    company.work_off()
    company.edit(ids[5], Active=False)
    company.sync()
    company.edit(ids[6], FamilyName=person(6)["family"] + "-Ente")
    company.sync(preview=True)
    company.told_by_mailchimp("unsubscribe", email=address(8), id="8", reason="manual")  # waits
    return ids


def words_of_all() -> set[str]:
    every = {word for number in range(PEOPLE) for word in person(number).values()}
    return every | {each(number) for number in range(PEOPLE) for each in (address, moved)}


def exports(company: Company) -> dict[str, str]:
    """What the console lets one download."""
    admin = Visitor(company, "admin")
    with company.database.begin() as connection:
        plans = connection.execute(text("SELECT id FROM ml_connector.plans")).scalars().all()
    paths = ["/main/audit.csv", *(f"/main/plans/{id_}.csv" for id_ in plans)]
    answers = {path: admin.get(path) for path in paths}
    assert [path for path, answer in answers.items() if answer.status_code != 200] == []
    return {path: answer.text.lower() for path, answer in answers.items()}


@pytest.mark.endurance
@pytest.mark.timeout(200)
def test_fifty_people_leave_no_trace_and_never_come_back(company, capfd):
    ids = history(company)
    logged = capfd.readouterr()
    needles = {form for word in words_of_all() for form in forms(word)}
    hashes = {
        mark for n in range(PEOPLE) for each in (address, moved) for mark in marks(company, each(n))
    }
    before = dumped(company)
    assert len({word for _, word in found(before, {w.lower() for w in words_of_all()})}) > 300
    before_csv = exports(company)
    assert found(before_csv, {address(6), moved(6)}), "nothing to find is no proof"

    left = [erase(company, address(n), delete=n % 2 == 0).left for n in range(PEOPLE)]
    for number, said in enumerate(left):
        if any("--delete-contact" in each for each in said):  # bounced ones cannot be archived
            assert erase(company, address(number), delete=True).left == ()
    by_hand = {n: said for n, said in enumerate(left) if any("by hand" in each for each in said)}
    assert set(by_hand) == {5}, "QuickBooks takes no change of an inactive customer"
    company.edit(ids[5], Notes=person(5)["notes"])

    def nothing_left(at: str) -> None:
        tables = dumped(company)
        assert found(tables, needles) == [], at
        kept = {name: rows for name, rows in tables.items() if name not in KEEP_HASHES}
        assert found(kept, hashes) == [], at
        assert found(exports(company), needles | hashes) == [], at

    nothing_left("after the erasures")
    audience = company.statuses()
    assert set(audience.values()) - {"archived", "forgotten"} == {"subscribed"}
    for customer_id in ids.values():
        assert "--- Mailchimp" not in company.record_of(customer_id)["Notes"]
    assert company.quickbooks_control("GET", "attachables")["attachables"] == []
    assert verify(company).findings == []

    company.mailchimp_control("PUT", "settings", {"throttled": []})
    for number, customer_id in ids.items():
        company.edit(customer_id, FamilyName=person(number)["family"] + "-Otter")
    company.told_by_quickbooks(*(("updated", each) for each in ids.values()))
    for number in range(0, PEOPLE, 4):
        company.told_by_mailchimp("subscribe", email=address(number), id=str(number))
    company.work_off()
    company.sync(full_sync=True)
    with company.database.begin() as connection:
        everything = connection.execute(text("SELECT id FROM ml_connector.audit")).scalars().all()
        rows = trail.select(connection, Selection(ids=everything))
    replay(company.open_sync(), rows)
    company.work_off()
    company.pass_time(hours=13)
    company.sync()
    assert company.statuses() == audience
    nothing_left("after everything that could bring them back")
    assert verify(company).findings == []
    said = capfd.readouterr()
    for stream in (*logged, *said):
        assert found({"log": stream.lower()}, needles | hashes) == []
