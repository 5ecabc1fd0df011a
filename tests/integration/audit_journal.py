"""Holds the audit against the mock servers' journals of writes: one to one, none missing, none extra.

A write is known by the vendor's request id and the record it is about: a member (by the hash in its
address) or a QuickBooks customer. A row names one such pair for every call that its record took.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.integration.company import Company

Call = dict[str, Any]
Row = dict[str, Any]
Pair = tuple[str | None, str]
WRITES = ("create", "update", "restore", "archive")
SENT = ("applied", "failed", "parked", "consent_raised", "conflict")


def assert_audit_matches_journal(
    company: Company,
    *,
    interrupted: bool = False,
    rows: list[Row] | None = None,
    written: Counter[str] | None = None,
) -> int:
    """Compare all rows with all calls, or just ``rows`` written since the journals were cleared.

    Returns how many writes there were, which is to be more than none for the proof to be one.

    A write whose answer was lost has no row with its request id: a row names the last call of its
    try. With ``interrupted`` (workers were killed) that holds for any call, since a killed worker
    hears no answer; yet no record may then have more writes than rows. ``written``: the writes of each
    record that the vendor accepted, where a test has seen them; a journal holds no responses.
    """
    rows = company.audit() if rows is None else rows
    calls = [call for system in ("mailchimp", "quickbooks") for call in journal(company, system)]
    told = [pair for row in rows for pair in pairs_of_row(row) if pair[0] is not None]
    assert repeated(told) == [], "two rows for one write"
    made = {pair: call for call in calls for pair in pairs_of_call(call)}
    assert [pair for pair in told if pair not in made] == [], "rows for writes that nobody made"
    for call in calls:
        for pair in pairs_of_call(call):
            if succeeded(call) and pair not in told:
                lost = interrupted or call["fault"] in ("drop", "delay", "hang", "malformed")
                assert lost, f"no row for {call['method']} {call['path']} of {pair}"
                assert any(succeeds(row, call, pair, made) for row in rows), f"lost: {pair}"
    if interrupted:
        written = writes_of_records(calls) if written is None else written
        assert written - rows_of_records(rows) == Counter(), "writes without a row"
    for row in rows:
        assert_row_is_whole(row, calls)
    waits = Counter(row["system"] for row in rows if row["action"] == "rate_limited")
    limited = Counter(c["system"] for c in every_call(company) if c["status"] == 429)
    blocked = Counter(c["system"] for c in every_call(company) if c["status"] in (429, 503))
    assert waits == limited or (interrupted and waits <= blocked), "a row for each 429"
    removed = Counter(row["request_id"] for row in rows if row["action"] == "remove_note")
    assert removed == Counter(each for call in calls for each in removals_of_call(call))
    return len(made)


def assert_row_is_whole(row: Row, calls: list[Call]) -> None:
    """A row of a write names its call, a row of none names none."""
    wrote = row["outcome"] in SENT and row["action"] in (
        *WRITES,
        "write_notes",
        "attach_note",
        "remove_note",
    )
    assert row["cause"], row
    if not wrote:
        assert row["request_id"] is None or row["action"] == "rate_limited", row
        return
    if row["request_id"] is None:
        found = row["outcome"] == "applied" and row["action"] == "archive"
        refused_unsent = row["outcome"] == "failed" and row["action"] == "restore"
        shown = row["outcome"] == "applied" and row["action"] in ("write_notes", "attach_note")
        assert found or refused_unsent or shown, f"no request id: {row}"
        if found:
            mine = hashed(row["after"]["email"])
            deletes = [c for c in calls if c["method"] == "DELETE" and c["path"].endswith(mine)]
            assert deletes, f"an archive that nobody made: {row}"


def succeeds(row: Row, call: Call, pair: Pair, made: dict[Pair, Call]) -> bool:
    """Tell whether a row is about the same record, and of a later call or of none it heard of."""
    theirs = [made[each] for each in pairs_of_row(row) if each[1] == pair[1] and each[0]]
    if theirs:
        return max(each["seq"] for each in theirs) > call["seq"]
    if row["request_id"] is not None or row["outcome"] != "applied":
        return False
    if row["action"] == "write_notes":
        return pair[1] == f"customer {row['customer_id']}"
    if row["action"] == "attach_note":
        return pair[1] == f"note {row['customer_id']}"
    return row["action"] == "archive" and pair[1] == hashed(row["after"]["email"])


def writes_of_records(calls: list[Call]) -> Counter[str]:
    """How often each record was written, as far as anybody can tell.

    QuickBooks applies a batch once however often it is sent under its request id, made of its content.
    """
    done: Counter[str] = Counter()
    applied: list[Any] = []
    for call in calls:
        repeated_batch = call["system"] == "quickbooks" and call["body"] in applied
        if succeeded(call) and not repeated_batch:
            applied.append(call["body"])
            done.update(pair[1] for pair in pairs_of_call(call))
    return done


def rows_of_records(rows: list[Row]) -> Counter[str]:
    """How many rows speak of a write of each record, heard of or not."""
    known = {row["email_key"]: hashed(row["after"]["email"]) for row in rows if has_address(row)}
    found: Counter[str] = Counter()
    for row in rows:
        if row["outcome"] == "unheard":
            found[known[row["email_key"]]] += 1
        else:
            found.update(record for _, record in pairs_of_row(row, unnamed=True))
    return found


def has_address(row: Row) -> bool:
    return row["action"] in WRITES and "email" in (row["after"] or {})


def journal(company: Company, system: str) -> list[Call]:
    return [call for call in every_call(company) if call["write"] and call["system"] == system]


def every_call(company: Company) -> list[Call]:
    found: list[Call] = []
    for system in ("mailchimp", "quickbooks"):
        found += [{**call, "system": system} for call in company.calls(system)]
    return found


def succeeded(call: Call) -> bool:
    """Tell whether a call may have had an effect: it reached its handler, which did not refuse it."""
    return call["applied"] and (call["status"] is None or call["status"] < 400)


def pairs_of_call(call: Call) -> Iterator[Pair]:
    """Request id and record of everything that one call writes."""
    body, path = call["body"], call["path"]
    if call["system"] == "quickbooks":
        if not path.endswith("/batch"):
            return
        for item in body["BatchItemRequest"]:
            if customer := item.get("Customer"):
                yield call["request_id"], f"customer {customer['Id']}"
            elif item["operation"] != "delete":
                yield call["request_id"], f"note {noted(item['Attachable'])}"
    elif "/members/" in path:
        parts = path.split("/")
        yield call["request_id"], parts[parts.index("members") + 1]
    elif isinstance(body, dict):
        members = [member["email_address"] for member in body.get("members", [])]
        for email in [*members, *body.get("members_to_remove", [])]:
            if "@" in email:  # the probe of the batch's contract has none
                yield call["request_id"], hashed(email)


def removals_of_call(call: Call) -> Iterator[str]:
    """The request id of every note taken away, which does not say whose it was."""
    if call["system"] == "quickbooks" and succeeded(call) and call["path"].endswith("/batch"):
        for item in call["body"]["BatchItemRequest"]:
            if item["operation"] == "delete":
                yield call["request_id"]


def noted(attachable: dict[str, Any]) -> str:
    return str(attachable["AttachableRef"][0]["EntityRef"]["value"])


def pairs_of_row(row: Row, *, unnamed: bool = False) -> Iterator[Pair]:
    """Request id and record of every call that a row's record took.

    ``unnamed``: also of a call whose request id nobody heard.
    """
    if row["action"] == "write_notes":
        yield row["request_id"], f"customer {row['customer_id']}"
    elif row["action"] == "attach_note":
        yield row["request_id"], f"note {row['customer_id']}"
    elif row["action"] in WRITES and row["outcome"] in SENT:
        about = hashed(row["after"]["email"])
        further = row["after"].get("further_calls", [])
        ids = [row["request_id"], *(call["request_id"] for call in further)]
        yield from ((each, about) for each in ids if unnamed or each is not None)


def hashed(email: str) -> str:
    return hashlib.md5(email.lower().encode()).hexdigest()


def repeated(pairs: list[Pair]) -> list[Pair]:
    return [pair for pair, number in Counter(pairs).items() if number > 1]
