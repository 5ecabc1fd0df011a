"""`forget`: a person is gone from everything we keep, and never comes back."""

import base64
import json
import threading
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ml_connector.audit import chain
from ml_connector.errors import SettingsError
from ml_connector.model import RunContext
from ml_connector.privacy import erasure, payloads
from ml_connector.privacy.erased_payloads import erase_of_the_suppressed
from ml_connector.privacy.forget import Forgotten, forget, look
from ml_connector.store.database import Database
from ml_connector.webhooks import inbox
from ml_connector.wire.webhook_event import unreadable
from tests.integration.firm import Firm
from tests.integration.test_audit_sealed import seal, tamper, verify
from tests.integration.traces import EVERY_ROW, dumped, forms, found, marks

AMY = "amy@finch.org"
NOTES = "Likes parrots.\r\n\tCall after 5."


def erase(
    firm: Firm, address: str = AMY, *, delete: bool = False, database: Database | None = None
) -> Forgotten:
    return forget(
        [firm.open_sync()],
        database=database or firm.database,
        vault=firm.vault,
        address=address,
        delete_contact=delete,
        run=RunContext(run_id="forget__1", task_id="forget", actor="operator"),
    )


def traces(firm: Firm, *words: str, addresses: tuple[str, ...] = (AMY,)) -> list[tuple[str, str]]:
    """Where words, addresses or what stands for these are, but for suppressions and the proof."""
    tables = dumped(firm)
    allowed = ("suppressions", "erasures", "proof")
    hashes = [mark for address in addresses for mark in marks(firm, address)]
    return found(tables, {form for word in (*words, *addresses) for form in forms(word)}) + [
        (table, mark) for table, mark in found(tables, hashes) if table not in allowed
    ]


def test_the_contact_is_archived_and_nobody_brings_it_back(firm):
    amy = firm.customer("Amy", AMY, FamilyName="Finchley")
    firm.sync()
    seal(firm)
    done = erase(firm)
    assert done.contacts == {"archived": 1}
    assert firm.statuses() == {AMY: "archived"}
    firm.edit(amy, FamilyName="Finchley-Owl")
    firm.told_by_quickbooks(("updated", amy))
    firm.told_by_mailchimp("subscribe", email=AMY, id="1")
    assert firm.work_off()["done"] == 1
    assert firm.inbox() == {"done": 1, "ignored": 1}
    firm.sync(full_sync=True)
    firm.move(amy, "amy@elsewhere-birds.org")  # the same person, wherever they are
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}
    assert firm.decisions()[amy] == ("skipped", "suppressed", None)
    assert traces(firm, "Finchley", "elsewhere-birds") == []


def test_the_contact_is_deleted_for_good_on_request(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    firm.clear_journals()
    assert erase(firm, delete=True).contacts == {"deleted": 1}
    assert firm.statuses() == {AMY: "forgotten"}
    (call,) = firm.writes()
    (row,) = [row for row in firm.audit() if row["action"] == "delete_contact"]
    assert row["request_id"] == call["request_id"]
    firm.sync(full_sync=True)
    assert firm.statuses() == {AMY: "forgotten"}


@pytest.mark.parametrize("delete", [True, False])
def test_an_answer_that_is_lost_is_no_failure(firm, delete):
    firm.customer("Amy", AMY)
    firm.sync()
    path = "delete-permanent" if delete else "members/[0-9a-f]+$"
    match = {"method": "POST" if delete else "DELETE", "path": path}
    firm.fault("mailchimp", match=match, times=1, action={"kind": "drop", "when": "after"})
    assert erase(firm, delete=delete).left == ()
    assert firm.statuses() == {AMY: "forgotten" if delete else "archived"}
    rows = [row for row in firm.audit() if row["cause"] == "erasure:1"]
    assert [row["outcome"] for row in rows] == ["applied", "applied"]


def test_who_was_merged_into_the_customer_is_gone_as_well(firm):
    amy = firm.customer("Amy", AMY)
    other = firm.customer("Amy Elisabeth Finchley", "amy@former-birds.org")
    firm.sync()
    firm.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": other})
    firm.told_by_quickbooks(("merged", amy, other))
    firm.work_off()
    assert erase(firm).customers == 2
    assert traces(firm, "Finchley", addresses=(AMY, "amy@former-birds.org")) == []


def test_a_contact_that_mailchimp_does_not_archive_is_said_to_be_left(firm):
    firm.seed(AMY, status="cleaned")
    firm.customer("Amy", AMY)
    firm.sync()
    done = erase(firm)
    assert ("--delete-contact" in done.left[0], done.contacts) == (True, {})
    assert erase(firm, delete=True).left == ()


@pytest.mark.parametrize("write_to", ["notes", "attachment", "both"])
def test_what_we_wrote_on_the_customer_is_removed_and_peoples_own_text_stays(firm, write_to):
    firm.settings["activity"] = {"write_to": write_to}
    amy = firm.customer("Amy", AMY, Notes=NOTES)
    firm.sync()
    firm.person(AMY, "unsubscribe", reason="Too many mails")
    firm.sync()
    assert erase(firm).blocks == (2 if write_to == "both" else 1)
    assert firm.record_of(amy)["Notes"].rstrip("\n") == NOTES
    assert firm.quickbooks_control("GET", "attachables")["attachables"] == []
    firm.sync(full_sync=True)
    assert firm.record_of(amy)["Notes"].rstrip("\n") == NOTES
    assert traces(firm, "Too many mails", "parrots") == []


def test_somebody_else_who_writes_the_customer_meanwhile_loses_nothing(firm):
    amy = firm.customer("Amy", AMY, Notes=NOTES)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.sync()
    firm.fault(
        "quickbooks", match={"path": "/batch"}, times=1, action={"kind": "delay", "seconds": 0.5}
    )
    eraser = threading.Thread(target=erase, args=(firm,))
    eraser.start()
    notes = firm.record_of(amy)["Notes"]
    firm.edit(amy, Notes="Owes nothing.\n" + notes)
    eraser.join()
    assert firm.record_of(amy)["Notes"].rstrip("\n") == "Owes nothing.\n" + NOTES


def test_the_proof_says_who_when_and_which_hash_and_no_more(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    done = erase(firm)
    (proof,) = [row for row in firm.audit() if row["action"] == "forget"]
    assert (proof["actor"], proof["email_key"]) == ("operator", firm.vault.email_key(AMY).hex())
    assert (proof["before"], proof["after"]) == (None, {"addresses": 1, "customers": 1, "left": 0})
    archived = [row for row in firm.audit() if row["cause"] == f"erasure:{done.erasure}"]
    assert [row["action"] for row in archived] == ["archive", "forget"]
    assert verify(firm).findings == []
    assert verify(firm).erased > 0


def test_an_erased_row_that_somebody_edits_is_found_and_an_edited_one_is_not_cleared(firm):
    firm.customer("Amy", AMY)
    firm.customer("Bo", "bo@finch.org")
    firm.sync()
    seal(firm)
    tamper(firm, "UPDATE ml_connector.audit SET reason = 'other' WHERE id = 1")
    erase(firm)
    erase(firm, "bo@finch.org")
    assert [(each.wrong, each.audit_id) for each in verify(firm).findings] == [("edited", 1)]
    tamper(firm, "UPDATE ml_connector.audit SET attempts = 9 WHERE id = 2")
    assert [each.audit_id for each in verify(firm).findings] == [1, 2]


def test_the_audit_lets_nobody_change_what_is_not_personal(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    for statement in (
        "UPDATE ml_connector.audit SET outcome = 'failed'",
        "UPDATE ml_connector.audit SET after = NULL, outcome = 'failed'",
        "DELETE FROM ml_connector.audit",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            change(firm, "SET LOCAL ml_connector.audit_rewrite = 'on'", statement)


MAX = "max@xn--mller-kva.org"


def unusable(firm: Firm) -> None:
    """Genuine deliveries about Amy and Max that nobody can work on: three about each."""
    for address in (AMY, "Max@M\u00fcller.org"):
        firm.told_by_mailchimp("dance", email=address, id=f"1{address}")
        firm.told_by_mailchimp("campaign", subject=f"Dear {address}", id=f"2{address}")
        event = unreadable(
            f"email={quote(address)}&junk=%".encode(), system="mailchimp", reason="not_a_form"
        )
        with firm.database.begin() as connection:
            inbox.deliver(connection, [event], vault=firm.vault)


def said_by_events(firm: Firm) -> str:
    """What the inbox holds, opened; bodies that were kept whole are decoded."""
    said = dumped(firm)["webhook_inbox"]
    with firm.database.begin() as connection:
        for row in payloads.next_page(connection, payloads.INBOX, after=None, page=EVERY_ROW):
            body = json.loads(payloads.opened(payloads.INBOX, row, firm.vault)).get("body", "")
            said += unquote(base64.b64decode(body).decode()).lower()
    return said


@pytest.mark.parametrize(("address", "form"), [(AMY, AMY), (MAX, "max@m\u00fcller.org")])
def test_events_that_nobody_could_use_are_emptied_however_they_write_the_address(
    firm, address, form
):
    unusable(firm)
    assert said_by_events(firm).count(form) >= 3
    erase(firm, address)
    assert form not in said_by_events(firm)
    assert said_by_events(firm).count("@") >= 3, "the other one's stay"


def test_what_comes_later_and_nobody_can_use_is_emptied_by_the_next_daily_run(firm):
    erase(firm)
    unusable(firm)
    assert erase_of_the_suppressed(firm.database, firm.vault) == 3
    assert AMY not in said_by_events(firm)
    assert "max@m\u00fcller.org" in said_by_events(firm)
    assert erase_of_the_suppressed(firm.database, firm.vault) == 0


def test_forgetting_twice_changes_nothing_and_a_stranger_is_suppressed_too(firm):
    firm.customer("Amy", AMY)
    firm.sync()
    erase(firm)
    firm.clear_journals()
    assert erase(firm).contacts == {}
    assert firm.writes() == []
    erase(firm, "new@finch.org")
    firm.customer("New", "New@Finch.org")
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}
    assert verify(firm).findings == []


def test_what_is_no_address_is_said_before_anything_is_done(firm):
    with pytest.raises(SettingsError, match="no e-mail address"):
        look(firm.database, firm.vault, "Amy Finch")


def test_somebody_who_left_the_address_is_found_by_it(firm):
    amy = firm.customer("Amy", "amy@former-birds.org", FamilyName="Finchley")
    firm.sync()
    firm.move(amy, AMY)
    firm.sync()
    assert erase(firm, "Amy@Former-Birds.org").customers == 1
    firm.sync(full_sync=True)
    assert firm.statuses() == {AMY: "archived", "amy@former-birds.org": "archived"}
    assert traces(firm, "Finchley", addresses=(AMY, "amy@former-birds.org")) == []


def test_others_keep_what_is_theirs(firm):
    """Who shared an address once, or lists the person's behind their own."""
    amy = firm.customer("Amy", "house@finch.org")
    bo = firm.customer("Bo", "house@finch.org")
    cy = firm.customer("Cy", "cy@finch.org; amy@finch.org", Notes="Ask the sister.")
    firm.sync()
    firm.move(amy, AMY)
    firm.sync()
    erase(firm)
    firm.sync(full_sync=True)
    assert firm.statuses() == {
        AMY: "archived",
        "house@finch.org": "subscribed",
        "cy@finch.org": "subscribed",
    }
    assert {firm.decisions()[bo][0], firm.decisions()[cy][0]} == {"contact"}
    assert traces(firm) == []
    firm.person("cy@finch.org", "unsubscribe")
    firm.sync()
    assert firm.record_of(cy)["Notes"].startswith("Ask the sister.\n--- Mailchimp")


def test_a_customer_given_a_forgotten_address_keeps_its_notes(firm):
    """Its staged Notes are empty, and must never be written back."""
    erase(firm)
    bo = firm.customer("Bo", "bo@finch.org", Notes=NOTES)
    firm.sync()
    firm.person("bo@finch.org", "unsubscribe")
    firm.sync()
    shown = firm.record_of(bo)["Notes"]
    firm.move(bo, AMY)
    firm.sync()
    firm.sync(full_sync=True)
    assert firm.record_of(bo)["Notes"] == shown
    assert "Likes parrots" in shown


def test_a_push_that_is_on_the_wire_is_waited_for(firm):
    firm.customer("Amy", AMY, FamilyName="Finchley")
    firm.fault(
        "mailchimp", match={"method": "POST"}, times=1, action={"kind": "delay", "seconds": 1.5}
    )
    pushing = threading.Event()

    def push_begins() -> None:
        pushing.set()

    syncing = threading.Thread(target=firm.sync, kwargs={"before_push": push_begins})
    syncing.start()
    assert pushing.wait(20)
    erase(firm)
    syncing.join()
    erase(firm)
    assert set(firm.statuses().values()) <= {"archived"}
    assert traces(firm, "Finchley") == []


def change(firm: Firm, *statements: str) -> None:
    with firm.database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def finished(firm: Firm) -> bool:
    return "forget" in [row["action"] for row in firm.audit()]


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


def test_rows_that_were_read_and_then_erased_are_not_sealed_as_they_were(firm):
    firm.customer("Amy", AMY, FamilyName="Finchley")
    firm.sync()
    erased = []
    database = OvertakenDatabase(firm.database_url, lambda: erased.append(erase(firm)))
    sealed_late = chain.seal(database, firm.vault)
    database.close()
    assert erased
    assert sealed_late.rows == 0, "what was read is sealed already, by the erasure"
    told = verify(firm)
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


def test_killed_between_any_two_transactions_it_is_given_again_and_ends_the_same(fresh_firm):
    nth, killed = 0, True
    while killed:
        with fresh_firm() as firm:
            firm.settings["activity"] = {"write_to": "both"}
            amy = firm.customer("Amy", AMY, Notes=NOTES, FamilyName="Finchley")
            firm.sync()
            firm.person(AMY, "unsubscribe", reason="Too many mails")
            firm.told_by_mailchimp("unsubscribe", email=AMY, id="1")
            firm.sync()
            seal(firm)
            dying = DyingDatabase(firm.database_url, lives=nth)
            killed = False
            try:
                erase(firm, database=dying, delete=True)
            except Killed:
                killed = True
            dying.close()
            at = f"killed at transaction {nth}"
            with firm.database.begin() as connection:
                begun = len(erasure.unfinished(connection))
            assert begun == (killed and nth > 0 and not finished(firm)), at
            proven = [row["action"] for row in firm.audit()].count("forget")
            if killed:
                erase(firm, delete=True)
            assert firm.statuses() == {AMY: "forgotten"}, at
            assert firm.record_of(amy)["Notes"].rstrip("\n") == NOTES, at
            assert traces(firm, "Finchley", "Too many mails") == [], at
            assert verify(firm).findings == [], at
            applied = [row["action"] for row in firm.audit() if row["reason"] == "erasure_request"]
            assert sorted(set(applied)) == [
                "delete_contact", "forget", "remove_note", "write_notes",
            ], at  # fmt: skip
            assert applied.count("delete_contact") == 1, at
            assert applied.count("forget") == max(1, proven + killed), at
            nth += 1
    assert nth > 10
