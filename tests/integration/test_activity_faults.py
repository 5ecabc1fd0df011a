"""What goes wrong while activity is written: each customer ends right, and none spoils another."""

from collections import Counter

from sqlalchemy import text

from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from ml_connector.quickbooks.protocol import BatchItem
from tests.integration.test_behaviour_activity import batches, notes, reads, settle


def people(firm, count: int, **fields) -> list[str]:
    """Customers with contacts, at rest."""
    ids = [firm.customer(f"C{n}", f"c{n}@firm-mail.net", **fields) for n in range(count)]
    settle(firm)
    return ids


def opt_out(firm, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        firm.person(f"c{n}@firm-mail.net", "unsubscribe")


def states(firm) -> dict[str, str]:
    with firm.database.begin() as connection:
        rows = connection.execute(
            text("SELECT customer_id, state FROM ml_connector.activity_blocks")
        ).all()
    return {row[0]: row[1] for row in rows}


def attached(firm) -> list[dict]:
    return firm.quickbooks_control("GET", "attachables")["attachables"]


def test_moving_from_notes_to_attachments_writes_no_batch_that_is_too_large(firm):
    ids = people(firm, 20)
    opt_out(firm, 20)
    firm.sync()
    firm.settings["activity"] = {"write_to": "attachment", "batch_size": 30}
    for n in range(20):
        firm.person(f"c{n}@firm-mail.net", "archive")
    firm.clear_journals()
    firm.sync()
    assert [notes(firm, each) for each in ids] == [""] * 20
    assert len(attached(firm)) == 20
    assert max(len(call["body"]["BatchItemRequest"]) for call in batches(firm)) <= 30


def test_one_item_for_which_quickbooks_refuses_the_whole_call_holds_up_nobody_else(firm):
    ids = people(firm, 8)
    opt_out(firm, 8)
    fault = {"Fault": {"type": "ValidationFault", "Error": [{"code": "2010", "Message": "No"}]}}
    firm.fault(
        "quickbooks",
        match={"path": "/batch$", "body": f'"Id":"{ids[3]}"'},
        action={"kind": "status", "status": 400, "body": fault},
    )
    firm.sync()
    shown = ["Unsubscribed" in notes(firm, each) for each in ids]
    assert shown == [n != 3 for n in range(8)]
    assert states(firm)[ids[3]] == "refused"
    assert ("write_notes", "unsubscribed", "failed") in firm.told(ids[3], "quickbooks")
    firm.clear_journals()
    firm.sync()
    assert batches(firm) == [], "refused for good until there is news"


def test_notes_that_became_too_full_lose_the_old_block_and_a_note_is_attached(firm):
    (amy,) = people(firm, 1)
    opt_out(firm, 1)
    firm.sync()
    block = notes(firm, amy)
    full = "y" * (2000 - len(block) - 1)
    firm.edit(amy, Notes=f"{full}\n{block}")
    firm.sync()
    firm.person("c0@firm-mail.net", "subscribe")
    firm.edit(
        amy, Notes="y" * 1900 + "\n" + block[: block.index("\n")] + "\nx\n" + block.split("\n")[-1]
    )
    firm.sync()
    assert "Mailchimp" not in notes(firm, amy)
    (note,) = attached(firm)
    assert "Subscribed to the newsletter" in note["Note"]


def test_an_attached_note_goes_once_the_block_stands_in_notes(firm):
    (amy,) = people(firm, 1, Notes="y" * 1990)
    opt_out(firm, 1)
    firm.sync()
    assert len(attached(firm)) == 1
    firm.edit(amy, Notes="Short now.")
    firm.person("c0@firm-mail.net", "subscribe")
    firm.sync()
    assert "Subscribed to the newsletter" in notes(firm, amy)
    assert attached(firm) == [], "it would tell for ever what is no longer so"


def test_a_customer_whose_address_is_removed_no_longer_shows_its_former_contact(firm):
    (amy,) = people(firm, 1)
    opt_out(firm, 1)
    firm.sync()
    firm.settings["on_inactive"] = "keep"
    firm.move(amy, None)
    settle(firm)
    assert "Not in the Mailchimp audience." in notes(firm, amy)
    firm.sync()
    assert queue_activity(firm.scope()) == 0, "and is not looked at again every day"


def test_after_another_audience_was_set_a_customer_shows_what_it_is_there(firm):
    (amy,) = people(firm, 1)
    opt_out(firm, 1)
    firm.sync()
    tags = ("FNAME", "LNAME", "COMPANY", "PHONE", "ADDRESS")
    merge_fields = [
        {"tag": tag, "name": tag, "type": "address" if tag == "ADDRESS" else "text"} for tag in tags
    ]
    second = {"id": "ffff000011", "name": "Second", "merge_fields": merge_fields}
    firm.mailchimp_control("POST", "audiences", second)
    firm.settings["audience_id"] = "ffff000011"
    firm.settings["guard"] = {"max_updates": 1000, "max_archives": 1000}
    settle(firm)
    assert "Subscribed to the newsletter" in notes(firm, amy)
    assert queue_activity(firm.scope()) == 0


def applied_without_a_word_of_it(firm, refused: int) -> None:
    """A batch whose answer leaves out what was applied, so that the next one is another one."""
    fault = {"Fault": {"type": "ValidationFault", "Error": [{"code": "6000", "Message": "No"}]}}
    body = {"BatchItemResponse": [{"bId": str(refused), **fault}]}
    firm.fault(
        "quickbooks",
        match={"path": "/batch$"},
        times=1,
        action={"kind": "body", "body": body, "apply": True},
    )


def test_a_creation_that_got_no_clear_answer_is_looked_for_before_the_next_try(firm):
    amy, ben = people(firm, 2)
    firm.settings["activity"] = {"write_to": "attachment"}
    opt_out(firm, 2)
    applied_without_a_word_of_it(firm, refused=1)
    firm.sync()
    found = Counter(each["AttachableRef"][0]["EntityRef"]["value"] for each in attached(firm))
    assert found == {amy: 1, ben: 1}
    assert states(firm)[amy] == "shown"


def test_a_customer_merged_away_meanwhile_is_left_and_ends_the_loop(firm):
    keep, gone = people(firm, 2)
    opt_out(firm, 2)
    firm.sync(
        before_write_back=lambda: firm.quickbooks_control(
            "POST", "customers/merge", {"survivor": keep, "loser": gone}
        )
    )
    assert "Unsubscribed" in notes(firm, keep)
    assert states(firm)[gone] in ("parked", "refused")
    firm.clear_journals()
    firm.sync()
    assert batches(firm) == []


def test_a_row_left_due_whose_customer_is_gone_or_unknown_ends_the_loop(firm):
    amy, ben = people(firm, 2)
    opt_out(firm, 2)
    with firm.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.activity_blocks (sync, customer_id, customer_no, state)
                    VALUES ('main', 'QB:77', 4611686018427387904, 'due'),
                           ('main', '999', 999, 'stale')""")
        )
    firm.edit(ben, Active=False)
    firm.sync()
    assert "Unsubscribed" in notes(firm, amy)
    assert states(firm)[amy] == "shown"


def test_queueing_at_once_from_many_sides_waits_for_nobody_for_ever(firm):
    people(firm, 3)
    opt_out(firm, 3)
    firm.sync(before_write_back=lambda: [queue_activity(firm.scope()) for _ in range(3)])
    assert queue_activity(firm.scope()) == 0
    assert write_activity(firm.scope(), firm.quickbooks_client(firm.scope().calls)) == {}
    assert reads(firm)


def test_a_note_among_hundreds_of_attachments_is_found_again(firm):
    amy, _ = people(firm, 2)
    firm.settings["activity"] = {"write_to": "attachment"}
    client = firm.quickbooks_client(firm.scope().calls)
    target = [{"EntityRef": {"type": "Customer", "value": amy}}]
    for part in range(5):
        photos = [{"Note": f"Photo {part} {n}", "AttachableRef": target} for n in range(30)]
        items = [
            BatchItem(b_id=str(n), payload=photo, operation="create", entity="Attachable")
            for n, photo in enumerate(photos)
        ]
        client.write_batch(items, operation_id=f"photos {part}")
    opt_out(firm, 2)
    applied_without_a_word_of_it(firm, refused=1)
    firm.sync()
    mine = [each for each in attached(firm) if "Unsubscribed" in each["Note"]]
    assert len(mine) == 2
