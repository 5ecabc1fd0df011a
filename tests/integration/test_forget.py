"""`forget`: a person is gone from everything we keep, and never comes back."""

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, unquote

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ml_connector.audit import chain
from ml_connector.errors import SettingsError
from ml_connector.model import RunContext
from ml_connector.privacy import erasure, payloads
from ml_connector.privacy.erased_payloads import erase_suppressed
from ml_connector.privacy.erasure import begin
from ml_connector.privacy.forget import Forgotten, forget, person_to_erase
from ml_connector.store.database import Database
from ml_connector.webhooks import inbox
from ml_connector.wire.webhook_event import unreadable
from tests.integration.company import Company
from tests.integration.test_audit_sealed import seal, tamper, verify
from tests.integration.traces import EVERY_ROW, dumped, forms, found, marks

AMY = "amy@finch.org"
NOTES = "Likes parrots.\r\n\tCall after 5."


def erase(
    company: Company, address: str = AMY, *, delete: bool = False, database: Database | None = None
) -> Forgotten:
    return forget(
        [company.open_sync()],
        database=database or company.database,
        vault=company.vault,
        address=address,
        delete_contact=delete,
        run=RunContext(run_id="forget__1", task_id="forget", actor="operator"),
    )


def traces(
    company: Company, *words: str, addresses: tuple[str, ...] = (AMY,)
) -> list[tuple[str, str]]:
    """Where words, addresses or what stands for these are, but for suppressions and the proof."""
    tables = dumped(company)
    allowed = ("suppressions", "erasures", "proof")
    hashes = [mark for address in addresses for mark in marks(company, address)]
    return found(tables, {form for word in (*words, *addresses) for form in forms(word)}) + [
        (table, mark) for table, mark in found(tables, hashes) if table not in allowed
    ]


def test_the_contact_is_archived_and_nobody_brings_it_back(company):
    amy = company.customer("Amy", AMY, FamilyName="Finchley")
    company.sync()
    seal(company)
    done = erase(company)
    assert done.contacts == {"archived": 1}
    assert company.statuses() == {AMY: "archived"}
    company.edit(amy, FamilyName="Finchley-Owl")
    company.told_by_quickbooks(("updated", amy))
    company.told_by_mailchimp("subscribe", email=AMY, id="1")
    assert company.work_off()["done"] == 1
    assert company.inbox() == {"done": 1, "ignored": 1}
    company.sync(full_sync=True)
    company.move(amy, "amy@elsewhere-birds.org")  # the same person, wherever they are
    company.sync()
    assert company.statuses() == {AMY: "archived"}
    assert company.decisions()[amy] == ("skipped", "suppressed", None)
    assert traces(company, "Finchley", "elsewhere-birds") == []


def test_the_contact_is_deleted_for_good_on_request(company):
    company.customer("Amy", AMY)
    company.sync()
    company.clear_journals()
    assert erase(company, delete=True).contacts == {"deleted": 1}
    assert company.statuses() == {AMY: "forgotten"}
    (call,) = company.writes()
    (row,) = [row for row in company.audit() if row["action"] == "delete_contact"]
    assert row["request_id"] == call["request_id"]
    company.sync(full_sync=True)
    assert company.statuses() == {AMY: "forgotten"}


@pytest.mark.parametrize("delete", [True, False])
def test_an_answer_that_is_lost_is_no_failure(company, delete):
    company.customer("Amy", AMY)
    company.sync()
    path = "delete-permanent" if delete else "members/[0-9a-f]+$"
    match = {"method": "POST" if delete else "DELETE", "path": path}
    company.fault("mailchimp", match=match, times=1, action={"kind": "drop", "when": "after"})
    assert erase(company, delete=delete).left == ()
    assert company.statuses() == {AMY: "forgotten" if delete else "archived"}
    rows = [row for row in company.audit() if row["cause"] == "erasure:1"]
    assert [row["outcome"] for row in rows] == ["applied", "applied"]


def test_what_was_observed_of_an_edit_is_gone(company):
    company.customer("Amy", AMY)
    company.sync()
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Amelia"})
    company.sync()
    observed = "SELECT count(*) FROM ml_connector.observations"
    with company.database.begin() as connection:
        assert connection.execute(text(observed)).scalar_one() == 1
    erase(company)
    with company.database.begin() as connection:
        assert connection.execute(text(observed)).scalar_one() == 0


def test_who_was_merged_into_the_customer_is_gone_as_well(company):
    amy = company.customer("Amy", AMY)
    other = company.customer("Amy Elisabeth Finchley", "amy@former-birds.org")
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": other})
    company.told_by_quickbooks(("merged", amy, other))
    company.work_off()
    assert erase(company).customers == 2
    assert traces(company, "Finchley", addresses=(AMY, "amy@former-birds.org")) == []


def test_a_contact_that_mailchimp_does_not_archive_is_said_to_be_left(company):
    company.seed(AMY, status="cleaned")
    company.customer("Amy", AMY)
    company.sync()
    done = erase(company)
    assert ("--delete-contact" in done.left[0], done.contacts) == (True, {})
    assert erase(company, delete=True).left == ()


@pytest.mark.parametrize("write_to", ["notes", "attachment", "both"])
def test_what_we_wrote_on_the_customer_is_removed_and_peoples_own_text_stays(company, write_to):
    company.settings["activity"] = {"write_to": write_to}
    amy = company.customer("Amy", AMY, Notes=NOTES)
    company.sync()
    company.person(AMY, "unsubscribe", reason="Too many mails")
    company.sync()
    assert erase(company).blocks == (2 if write_to == "both" else 1)
    assert company.record_of(amy)["Notes"].rstrip("\n") == NOTES
    assert company.quickbooks_control("GET", "attachables")["attachables"] == []
    company.sync(full_sync=True)
    assert company.record_of(amy)["Notes"].rstrip("\n") == NOTES
    assert traces(company, "Too many mails", "parrots") == []


def test_somebody_else_who_writes_the_customer_meanwhile_loses_nothing(company):
    amy = company.customer("Amy", AMY, Notes=NOTES)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.sync()
    company.fault(
        "quickbooks", match={"path": "/batch"}, times=1, action={"kind": "delay", "seconds": 0.5}
    )
    eraser = threading.Thread(target=erase, args=(company,))
    eraser.start()
    notes = company.record_of(amy)["Notes"]
    company.edit(amy, Notes="Owes nothing.\n" + notes)
    eraser.join()
    assert company.record_of(amy)["Notes"].rstrip("\n") == "Owes nothing.\n" + NOTES


def test_the_proof_says_who_when_and_which_hash_and_no_more(company):
    company.customer("Amy", AMY)
    company.sync()
    done = erase(company)
    (proof,) = [row for row in company.audit() if row["action"] == "forget"]
    assert (proof["actor"], proof["email_key"]) == ("operator", company.vault.email_key(AMY).hex())
    assert (proof["before"], proof["after"]) == (None, {"addresses": 1, "customers": 1, "left": 0})
    archived = [row for row in company.audit() if row["cause"] == f"erasure:{done.erasure}"]
    assert [row["action"] for row in archived] == ["archive", "forget"]
    assert verify(company).findings == []
    assert verify(company).erased > 0


def test_an_erased_row_that_somebody_edits_is_found_and_an_edited_one_is_not_cleared(company):
    company.customer("Amy", AMY)
    company.customer("Bo", "bo@finch.org")
    company.sync()
    seal(company)
    tamper(company, "UPDATE ml_connector.audit SET reason = 'other' WHERE id = 1")
    erase(company)
    erase(company, "bo@finch.org")
    assert [(each.wrong, each.audit_id) for each in verify(company).findings] == [("edited", 1)]
    tamper(company, "UPDATE ml_connector.audit SET attempts = 9 WHERE id = 2")
    assert [each.audit_id for each in verify(company).findings] == [1, 2]


def test_the_audit_lets_nobody_change_what_is_not_personal(company):
    company.customer("Amy", AMY)
    company.sync()
    for statement in (
        "UPDATE ml_connector.audit SET outcome = 'failed'",
        "UPDATE ml_connector.audit SET after = NULL, outcome = 'failed'",
        "DELETE FROM ml_connector.audit",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            change(company, "SET LOCAL ml_connector.audit_rewrite = 'on'", statement)


MAX = "max@xn--mller-kva.org"


def unusable(company: Company) -> None:
    """Genuine deliveries about Amy and Max that nobody can work on: three about each."""
    for address in (AMY, "Max@M\u00fcller.org"):
        company.told_by_mailchimp("dance", email=address, id=f"1{address}")
        company.told_by_mailchimp("campaign", subject=f"Dear {address}", id=f"2{address}")
        event = unreadable(
            f"email={quote(address)}&junk=%".encode(), system="mailchimp", reason="not_a_form"
        )
        with company.database.begin() as connection:
            inbox.deliver(connection, [event], vault=company.vault)


def said_by_events(company: Company) -> str:
    """What the inbox holds, opened; bodies that were kept whole are decoded."""
    said = dumped(company)["webhook_inbox"]
    with company.database.begin() as connection:
        for row in payloads.next_page(connection, payloads.INBOX, after=None, page=EVERY_ROW):
            body = json.loads(payloads.decrypted(payloads.INBOX, row, company.vault)).get(
                "body", ""
            )
            said += unquote(base64.b64decode(body).decode()).lower()
    return said


@pytest.mark.parametrize(("address", "form"), [(AMY, AMY), (MAX, "max@m\u00fcller.org")])
def test_events_that_nobody_could_use_are_emptied_however_they_write_the_address(
    company, address, form
):
    unusable(company)
    assert said_by_events(company).count(form) >= 3
    erase(company, address)
    assert form not in said_by_events(company)
    assert said_by_events(company).count("@") >= 3, "the other one's stay"


def test_what_comes_later_and_nobody_can_use_is_emptied_by_the_next_daily_run(company):
    erase(company)
    unusable(company)
    assert erase_suppressed(company.database, company.vault, page=2) == 3
    assert AMY not in said_by_events(company)
    assert "max@m\u00fcller.org" in said_by_events(company)
    assert erase_suppressed(company.database, company.vault) == 0


def test_forgetting_twice_changes_nothing_and_a_stranger_is_suppressed_too(company):
    company.customer("Amy", AMY)
    company.sync()
    erase(company)
    company.clear_journals()
    assert erase(company).contacts == {}
    assert company.writes() == []
    erase(company, "new@finch.org")
    company.customer("New", "New@Finch.org")
    company.sync()
    assert company.statuses() == {AMY: "archived"}
    assert verify(company).findings == []


def test_what_is_no_address_is_said_before_anything_is_done(company):
    with pytest.raises(SettingsError, match="no e-mail address"):
        person_to_erase(company.database, company.vault, "Amy Finch")


def test_somebody_who_left_the_address_is_found_by_it(company):
    amy = company.customer("Amy", "amy@former-birds.org", FamilyName="Finchley")
    company.sync()
    company.move(amy, AMY)
    company.sync()
    assert erase(company, "Amy@Former-Birds.org").customers == 1
    company.sync(full_sync=True)
    assert company.statuses() == {AMY: "archived", "amy@former-birds.org": "archived"}
    assert traces(company, "Finchley", addresses=(AMY, "amy@former-birds.org")) == []


def test_somebody_who_took_another_address_in_mailchimp_is_found_there(company):
    """No webhook and no run has told us of the new address."""
    company.customer("Amy", AMY, FamilyName="Finchley")
    company.sync()
    company.person(AMY, "upemail", email_address="amy@new-birds.org")
    done = erase(company)
    assert done.contacts == {"archived": 1}
    company.sync(full_sync=True)
    assert company.statuses() == {"amy@new-birds.org": "archived"}
    assert traces(company, "Finchley", addresses=(AMY, "amy@new-birds.org")) == []


def test_somebody_who_takes_another_address_before_it_is_given_again_is_found_there(company):
    company.customer("Amy", AMY, FamilyName="Finchley")
    company.sync()
    company.fault(
        "mailchimp", match={"method": "DELETE"}, times=9, action={"kind": "status", "status": 500}
    )
    assert not erase(company).finished
    company.clear_faults(company.mailchimp)
    company.person(AMY, "upemail", email_address="amy@new-birds.org")
    company.work_off()
    assert erase(company).contacts == {"archived": 1}
    company.sync(full_sync=True)
    assert company.statuses() == {"amy@new-birds.org": "archived"}
    assert traces(company, "Finchley", addresses=(AMY, "amy@new-birds.org")) == []


def test_a_new_address_that_another_customer_has_stays_theirs(company):
    company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "upemail", email_address="ben@finch.org")
    company.customer("Ben", "ben@finch.org")
    company.sync()
    assert erase(company).contacts == {}
    company.sync(full_sync=True)
    assert company.statuses() == {"ben@finch.org": "subscribed"}


def test_others_keep_what_is_theirs(company):
    """Who shared an address once, or lists the person's behind their own."""
    amy = company.customer("Amy", "house@finch.org")
    bo = company.customer("Bo", "house@finch.org")
    cy = company.customer("Cy", "cy@finch.org; amy@finch.org", Notes="Ask the sister.")
    company.sync()
    company.move(amy, AMY)
    company.sync()
    erase(company)
    company.sync(full_sync=True)
    assert company.statuses() == {
        AMY: "archived",
        "house@finch.org": "subscribed",
        "cy@finch.org": "subscribed",
    }
    assert {company.decisions()[bo][0], company.decisions()[cy][0]} == {"contact"}
    assert traces(company) == []
    company.person("cy@finch.org", "unsubscribe")
    company.sync()
    assert company.record_of(cy)["Notes"].startswith("Ask the sister.\n--- Mailchimp")


def test_a_customer_given_a_forgotten_address_keeps_its_notes(company):
    """Its staged Notes are empty, and must never be written back."""
    erase(company)
    bo = company.customer("Bo", "bo@finch.org", Notes=NOTES)
    company.sync()
    company.person("bo@finch.org", "unsubscribe")
    company.sync()
    shown = company.record_of(bo)["Notes"]
    company.move(bo, AMY)
    company.sync()
    company.sync(full_sync=True)
    assert company.record_of(bo)["Notes"] == shown
    assert "Likes parrots" in shown


def test_a_call_on_the_wire_is_waited_for_and_neither_side_fails(company):
    company.customer("Amy", AMY, FamilyName="Finchley")
    company.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "delay", "seconds": 1.5}
    )
    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(company.sync)
        deadline = time.monotonic() + 60
        while not any(call["fault"] for call in company.calls("mailchimp")):
            assert time.monotonic() < deadline, "the call never came"
            time.sleep(0.02)
        erase(company)
        syncing.result(60)
    assert set(company.statuses().values()) <= {"archived"}
    assert traces(company, "Finchley") == []


def change(company: Company, *statements: str) -> None:
    with company.database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def finished(company: Company) -> bool:
    return "forget" in [row["action"] for row in company.audit()]


class OvertakenDatabase(Database):
    """Runs ``overtaking`` before the caller's own second transaction, whatever its threads begin."""

    def __init__(self, url: str, overtaking: Callable[[], object]) -> None:
        super().__init__(url)
        self._overtaking, self._begun = overtaking, 0

    def begin(self):
        if threading.current_thread() is threading.main_thread():
            self._begun += 1
            if self._begun == 2:
                self._overtaking()
        return super().begin()


def test_rows_that_were_read_and_then_erased_are_not_sealed_as_they_were(company):
    company.customer("Amy", AMY, FamilyName="Finchley")
    company.sync()
    erased = []
    database = OvertakenDatabase(company.database_url, lambda: erased.append(erase(company)))
    sealed_late = chain.seal(database, company.vault)
    database.close()
    assert erased
    assert sealed_late.rows == 0, "what was read is sealed already, by the erasure"
    told = verify(company)
    assert told.erased
    assert (told.unsealed, told.findings) == (0, [])


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class DyingDatabase(Database):
    """Ends its process at the n-th transaction: before it begins, so after what came before.

    Where threads begin transactions side by side, either may be the n-th.
    """

    def __init__(self, url: str, *, lives: int) -> None:
        super().__init__(url)
        self.lives = lives

    def begin(self):
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        return super().begin()


def test_begun_again_after_a_kill_it_covers_nobody_who_only_shared_the_address_once(company):
    company.customer("Amy", AMY)
    ben = company.customer("Ben", AMY)
    company.sync()
    company.move(ben, "ben@finch.org")
    company.sync()
    with company.database.begin() as connection:  # and the process is killed
        begin(connection, AMY, actor="operator", vault=company.vault)
    done = erase(company, delete=True)
    assert done.customers == 1
    assert company.statuses() == {AMY: "forgotten", "ben@finch.org": "subscribed"}


@pytest.mark.endurance
def test_killed_between_any_two_transactions_it_is_given_again_and_ends_the_same(fresh_company):
    nth, killed = 0, True
    while killed:
        with fresh_company() as company:
            company.settings["activity"] = {"write_to": "both"}
            amy = company.customer("Amy", AMY, Notes=NOTES, FamilyName="Finchley")
            company.sync()
            company.person(AMY, "unsubscribe", reason="Too many mails")
            company.told_by_mailchimp("unsubscribe", email=AMY, id="1")
            company.sync()
            seal(company)
            dying = DyingDatabase(company.database_url, lives=nth)
            killed = False
            try:
                erase(company, database=dying, delete=True)
            except Killed:
                killed = True
            dying.close()
            at = f"killed at transaction {nth}"
            with company.database.begin() as connection:
                begun = len(erasure.unfinished(connection))
            assert begun == (killed and nth > 0 and not finished(company)), at
            proven = [row["action"] for row in company.audit()].count("forget")
            if killed:
                erase(company, delete=True)
            assert company.statuses() == {AMY: "forgotten"}, at
            assert company.record_of(amy)["Notes"].rstrip("\n") == NOTES, at
            assert traces(company, "Finchley", "Too many mails") == [], at
            assert verify(company).findings == [], at
            applied = [
                row["action"] for row in company.audit() if row["reason"] == "erasure_request"
            ]
            assert sorted(set(applied)) == [
                "delete_contact", "forget", "remove_note", "write_notes",
            ], at  # fmt: skip
            assert applied.count("delete_contact") == 1, at
            assert applied.count("forget") == max(1, proven + killed), at
            nth += 1
    assert nth > 10
