"""What goes wrong while activity is written: each customer ends right, and none spoils another."""

from collections import Counter

from sqlalchemy import text

from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import TRIES, write_activity
from ml_connector.quickbooks.protocol import BatchItem
from tests.integration.test_behaviour_activity import batches, notes, reads, settle


def people(company, count: int, **fields) -> list[str]:
    """Customers with contacts, at rest."""
    ids = [company.customer(f"C{n}", f"c{n}@firm-mail.net", **fields) for n in range(count)]
    settle(company)
    return ids


def opt_out(company, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        company.person(f"c{n}@firm-mail.net", "unsubscribe")


def states(company) -> dict[str, str]:
    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT customer_id, state FROM ml_connector.activity_blocks")
        ).all()
    return {row[0]: row[1] for row in rows}


def attached(company) -> list[dict]:
    return company.quickbooks_control("GET", "attachables")["attachables"]


def test_moving_from_notes_to_attachments_writes_no_batch_that_is_too_large(company):
    ids = people(company, 20)
    opt_out(company, 20)
    company.sync()
    company.settings["activity"] = {"write_to": "attachment", "batch_size": 30}
    for n in range(20):
        company.person(f"c{n}@firm-mail.net", "archive")
    company.clear_journals()
    company.sync()
    assert [notes(company, each) for each in ids] == [""] * 20
    assert len(attached(company)) == 20
    assert max(len(call["body"]["BatchItemRequest"]) for call in batches(company)) <= 30


def test_one_item_for_which_quickbooks_refuses_the_whole_call_holds_up_nobody_else(company):
    ids = people(company, 8)
    opt_out(company, 8)
    fault = {"Fault": {"type": "ValidationFault", "Error": [{"code": "2010", "Message": "No"}]}}
    company.fault(
        "quickbooks",
        match={"path": "/batch$", "body": f'"Id":"{ids[3]}"'},
        action={"kind": "status", "status": 400, "body": fault},
    )
    company.sync()
    shown = ["Unsubscribed" in notes(company, each) for each in ids]
    assert shown == [n != 3 for n in range(8)]
    assert states(company)[ids[3]] == "refused"
    assert ("write_notes", "unsubscribed", "failed") in company.told(ids[3], "quickbooks")
    company.clear_journals()
    company.sync()
    assert batches(company) == [], "refused for good until there is news"


def test_notes_that_became_too_full_lose_the_old_block_and_a_note_is_attached(company):
    (amy,) = people(company, 1)
    opt_out(company, 1)
    company.sync()
    block = notes(company, amy)
    full = "y" * (2000 - len(block) - 1)
    company.edit(amy, Notes=f"{full}\n{block}")
    company.sync()
    company.person("c0@firm-mail.net", "subscribe")
    company.edit(
        amy, Notes="y" * 1900 + "\n" + block[: block.index("\n")] + "\nx\n" + block.split("\n")[-1]
    )
    company.sync()
    assert "Mailchimp" not in notes(company, amy)
    (note,) = attached(company)
    assert "Subscribed to the newsletter" in note["Note"]


def test_an_attached_note_goes_once_the_block_stands_in_notes(company):
    (amy,) = people(company, 1, Notes="y" * 1990)
    opt_out(company, 1)
    company.sync()
    assert len(attached(company)) == 1
    company.edit(amy, Notes="Short now.")
    company.person("c0@firm-mail.net", "subscribe")
    company.sync()
    assert "Subscribed to the newsletter" in notes(company, amy)
    assert attached(company) == [], "it would tell for ever what is no longer so"


def test_a_customer_whose_address_is_removed_no_longer_shows_its_former_contact(company):
    (amy,) = people(company, 1)
    opt_out(company, 1)
    company.sync()
    company.settings["on_inactive"] = "keep"
    company.move(amy, None)
    settle(company)
    assert "Not in the Mailchimp audience." in notes(company, amy)
    company.sync()
    assert queue_activity(company.scope()) == 0, "and is not looked at again every day"


def test_after_another_audience_was_set_a_customer_shows_what_it_is_there(company):
    (amy,) = people(company, 1)
    opt_out(company, 1)
    company.sync()
    tags = ("FNAME", "LNAME", "COMPANY", "PHONE", "ADDRESS")
    merge_fields = [
        {"tag": tag, "name": tag, "type": "address" if tag == "ADDRESS" else "text"} for tag in tags
    ]
    second = {"id": "ffff000011", "name": "Second", "merge_fields": merge_fields}
    company.mailchimp_control("POST", "audiences", second)
    company.settings["audience_id"] = "ffff000011"
    company.settings["guard"] = {"max_updates": 1000, "max_archives": 1000}
    settle(company)
    assert "Subscribed to the newsletter" in notes(company, amy)
    assert queue_activity(company.scope()) == 0


def applied_without_a_word_of_it(company, refused: int) -> None:
    """A batch whose answer leaves out what was applied, so that the next one is another one."""
    fault = {"Fault": {"type": "ValidationFault", "Error": [{"code": "6000", "Message": "No"}]}}
    body = {"BatchItemResponse": [{"bId": str(refused), **fault}]}
    company.fault(
        "quickbooks",
        match={"path": "/batch$"},
        times=1,
        action={"kind": "body", "body": body, "apply": True},
    )


def due(company) -> None:
    with company.database.begin() as connection:
        connection.execute(
            text("UPDATE ml_connector.activity_blocks SET state = 'due', attempts = 0")
        )


def write(company) -> None:
    write_activity(company.scope(), company.quickbooks_client(company.scope().calls))


def test_a_note_that_a_person_saved_again_unchanged_gets_no_second_row(company):
    (amy,) = people(company, 1)
    company.settings["activity"] = {"write_to": "attachment"}
    opt_out(company, 1)
    company.sync()
    (note,) = attached(company)
    saved = {name: note[name] for name in ("Id", "SyncToken", "Note", "AttachableRef")}
    item = BatchItem(b_id="0", payload=saved, operation="update", entity="Attachable")
    company.quickbooks_client(company.scope().calls).write_batch([item], operation_id="saved")
    due(company)
    write(company)
    assert states(company) == {amy: "shown"}
    told = company.told(amy, "quickbooks")
    assert told.count(("attach_note", "unsubscribed", "applied")) == 1
    assert told.count(("attach_note", "unsubscribed", "conflict")) == 1


def test_notes_to_which_a_person_gave_the_wanted_text_first_get_no_row_of_ours(company):
    (amy,) = people(company, 1)
    opt_out(company, 1)
    company.sync()
    block = notes(company, amy)
    company.edit(amy, Notes="")
    company.sync()
    company.edit(amy, Notes=block)
    due(company)
    write(company)
    assert (notes(company, amy), states(company)) == (block, {amy: "shown"})
    told = company.told(amy, "quickbooks")
    assert told.count(("write_notes", "unsubscribed", "applied")) == 1
    assert told.count(("write_notes", "unsubscribed", "conflict")) == 1


def test_notes_written_by_calls_without_a_clear_answer_have_their_row_after_parking(company):
    (amy,) = people(company, 1)
    opt_out(company, 1)
    unclear = {"kind": "body", "body": {"BatchItemResponse": []}, "apply": True}
    company.fault("quickbooks", match={"path": "/batch$"}, times=TRIES, action=unclear)
    company.sync()
    assert states(company) == {amy: "parked"}
    company.sync()
    due(company)
    write(company)
    assert states(company) == {amy: "shown"}
    told = company.told(amy, "quickbooks")
    assert told.count(("write_notes", "unsubscribed", "applied")) == 1


def test_a_creation_that_got_no_clear_answer_is_looked_for_before_the_next_try(company):
    amy, ben = people(company, 2)
    company.settings["activity"] = {"write_to": "attachment"}
    opt_out(company, 2)
    applied_without_a_word_of_it(company, refused=1)
    company.sync()
    found = Counter(each["AttachableRef"][0]["EntityRef"]["value"] for each in attached(company))
    assert found == {amy: 1, ben: 1}
    assert states(company)[amy] == "shown"
    told = company.told(amy, "quickbooks")
    assert told.count(("attach_note", "unsubscribed", "applied")) == 1


def test_a_customer_merged_away_meanwhile_is_left_and_ends_the_loop(company):
    keep, gone = people(company, 2)
    opt_out(company, 2)
    company.sync(
        before_write_back=lambda: company.quickbooks_control(
            "POST", "customers/merge", {"survivor": keep, "loser": gone}
        )
    )
    assert "Unsubscribed" in notes(company, keep)
    assert states(company)[gone] in ("parked", "refused")
    company.clear_journals()
    company.sync()
    assert batches(company) == []


def test_a_row_left_due_whose_customer_is_gone_or_unknown_ends_the_loop(company):
    amy, ben = people(company, 2)
    opt_out(company, 2)
    with company.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.activity_blocks (sync, customer_id, customer_no, state)
                    VALUES ('main', 'QB:77', 4611686018427387904, 'due'),
                           ('main', '999', 999, 'stale')""")
        )
    company.edit(ben, Active=False)
    company.sync()
    assert "Unsubscribed" in notes(company, amy)
    assert states(company)[amy] == "shown"


def test_queueing_at_once_from_many_sides_waits_for_nobody_for_ever(company):
    people(company, 3)
    opt_out(company, 3)
    company.sync(before_write_back=lambda: [queue_activity(company.scope()) for _ in range(3)])
    assert queue_activity(company.scope()) == 0
    assert write_activity(company.scope(), company.quickbooks_client(company.scope().calls)) == {}
    assert reads(company)


def test_a_note_among_hundreds_of_attachments_is_found_again(company):
    amy, _ = people(company, 2)
    company.settings["activity"] = {"write_to": "attachment"}
    client = company.quickbooks_client(company.scope().calls)
    target = [{"EntityRef": {"type": "Customer", "value": amy}}]
    for part in range(5):
        photos = [{"Note": f"Photo {part} {n}", "AttachableRef": target} for n in range(30)]
        items = [
            BatchItem(b_id=str(n), payload=photo, operation="create", entity="Attachable")
            for n, photo in enumerate(photos)
        ]
        client.write_batch(items, operation_id=f"photos {part}")
    opt_out(company, 2)
    applied_without_a_word_of_it(company, refused=1)
    company.sync()
    mine = [each for each in attached(company) if "Unsubscribed" in each["Note"]]
    assert len(mine) == 2
