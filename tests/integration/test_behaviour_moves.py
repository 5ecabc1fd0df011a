"""A customer's address changes: rows A11 to A15 of docs/behaviour.md. Consent follows the person."""

import pytest

OLD, NEW = "amy@finch.org", "amelia@finch.org"


def make(firm, status):
    """Bring Amy's contact into a status by whoever causes it in life; return her customer."""
    starts = status if status in ("pending", "transactional") else "subscribed"
    firm.settings["new_contact_status"] = starts
    amy = firm.customer("Amy", OLD)
    firm.sync()
    match status:
        case "unsubscribed":
            firm.person(OLD, "unsubscribe")
        case "abuse":
            firm.person(OLD, "unsubscribe", reason="Abuse report")
        case "unsubscribed by a marketer":
            firm.person(OLD, "unsubscribe", by="marketer")
        case "cleaned":
            firm.person(OLD, "clean")
    firm.settings["new_contact_status"] = "subscribed"
    return amy


FOLLOWS = [
    ("subscribed", "subscribed", "archived"),
    ("unsubscribed", "unsubscribed", "archived"),
    ("abuse", "unsubscribed", "archived"),
    ("unsubscribed by a marketer", "unsubscribed", "archived"),
    ("pending", "pending", "pending"),
    ("transactional", "transactional", "archived"),
    ("cleaned", "subscribed", "cleaned"),
]


@pytest.mark.parametrize(("was", "becomes", "left"), FOLLOWS)
def test_a11_consent_follows_the_person_to_a_new_address(firm, contract, was, becomes, left):
    amy = make(firm, was)
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {NEW: becomes, OLD: left}
    assert ("create", "address_changed", "applied") in firm.told(amy)
    assert firm.decisions()[amy][0] == "contact"


def test_a11_opt_out_that_the_last_run_did_not_see_yet_follows_too(firm, contract):
    amy = make(firm, "subscribed")
    firm.sync()
    firm.move(amy, NEW)
    firm.person(OLD, "unsubscribe")
    firm.sync()
    assert firm.statuses()[NEW] == "unsubscribed"


def test_a11_new_contact_exists_before_the_old_one_is_archived(firm):
    amy = make(firm, "subscribed")
    firm.clear_journals()
    firm.move(amy, NEW)
    firm.sync()
    assert [call["method"] for call in firm.writes()] == ["POST", "DELETE"]


def test_a11_old_contact_stays_while_the_new_one_is_refused(firm):
    amy = make(firm, "subscribed")
    firm.move(amy, "amy@fake-domain.org")
    firm.sync()
    assert firm.statuses() == {OLD: "subscribed"}
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "archived", NEW: "subscribed"}


def test_a11_run_killed_between_push_and_archive_is_finished_by_the_next(firm):
    def killed():
        raise KeyboardInterrupt

    amy = make(firm, "subscribed")
    firm.move(amy, NEW)
    with pytest.raises(KeyboardInterrupt):
        firm.sync(before_archive=killed)
    assert firm.statuses() == {OLD: "subscribed", NEW: "subscribed"}
    firm.sync()
    assert firm.statuses() == {OLD: "archived", NEW: "subscribed"}
    assert firm.told(amy)[-1][::2] == ("archive", "applied")


def test_a11_opt_out_travels_over_a_refused_address_in_between(firm, contract):
    amy = make(firm, "unsubscribed")
    firm.move(amy, "amy@fake-domain.org")
    firm.sync()
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a11_archived_by_a_marketer_is_no_contact_at_the_new_address_either(firm, contract):
    """The row says opted out elsewhere: no row of the issue fits, a marketer's no is a no."""
    amy = make(firm, "subscribed")
    firm.person(OLD, "archive")
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "archived"}
    assert firm.decisions()[amy] == ("skipped", "opted_out_elsewhere", None)


def test_a12_old_address_that_another_customer_uses_goes_to_its_next_owner(firm, contract):
    amy = firm.customer("Amy", OLD)
    ben = firm.customer("Ben", OLD)
    firm.sync()
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "subscribed", NEW: "subscribed"}
    assert firm.fields(OLD) == {"FNAME": "Ben"}
    assert firm.decisions()[ben][0] == "contact"
    assert ("update", "owner_changed", "applied") in firm.told(ben)


@pytest.mark.parametrize(
    "status", ["subscribed", "unsubscribed", "pending", "transactional", "cleaned"]
)
def test_a13_existing_contact_is_adopted_with_its_status(firm, contract, status):
    amy = make(firm, "subscribed")
    firm.seed(NEW, status=status, origin="self" if status == "unsubscribed" else "marketer")
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "archived", NEW: status}
    assert firm.fields(NEW) == {"FNAME": "Amy"}
    assert ("update", "adopted", "applied") in firm.told(amy)


def test_a13_contact_that_appears_while_we_write_is_adopted(firm, contract):
    amy = make(firm, "subscribed")
    firm.move(amy, NEW)
    firm.sync(before_push=lambda: firm.seed(NEW, status="unsubscribed", tags=["VIP"]))
    assert firm.statuses() == {OLD: "archived", NEW: "unsubscribed"}
    assert firm.tags(NEW) == {"VIP", "QuickBooks"}


@pytest.mark.parametrize("was", ["unsubscribed", "abuse"])
def test_a13b_opt_out_travels_with_a_sharer_who_splits_off(firm, contract, was):
    amy = make(firm, was)
    ben = firm.customer("Ben", OLD)
    firm.sync()
    assert firm.decisions()[ben] == ("linked", "shared_address", amy)
    firm.move(ben, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "unsubscribed", NEW: "unsubscribed"}


@pytest.mark.parametrize("was", ["unsubscribed", "abuse"])
def test_a13b_opt_out_travels_with_a_reactivation_under_another_address(firm, contract, was):
    amy = make(firm, was)
    firm.edit(amy, Active=False)
    firm.sync()
    firm.edit(amy, Active=True, PrimaryEmailAddr={"Address": NEW})
    firm.sync()
    assert firm.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a13b_opt_out_travels_over_a_time_without_address(firm, contract):
    amy = make(firm, "unsubscribed")
    firm.move(amy, None)
    firm.sync()
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a13b_opt_out_is_stronger_than_what_a_returning_contact_had(firm, contract):
    """Amy leaves NEW for OLD, opts out there and comes back: the no is her last word."""
    amy = firm.customer("Amy", NEW)
    firm.sync()
    firm.move(amy, OLD)
    firm.sync()
    firm.person(OLD, "unsubscribe")
    firm.move(amy, NEW)
    firm.sync()
    assert firm.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a13b_lowest_status_of_several_who_come_together_counts(firm, contract):
    amy = make(firm, "unsubscribed")
    ben = firm.customer("Ben", "ben@finch.org")
    firm.sync()
    firm.move(amy, NEW)
    firm.move(ben, NEW)
    firm.sync()
    assert firm.statuses()[NEW] == "unsubscribed"


def test_a14_there_and_back_between_two_runs_is_nothing(firm):
    amy = make(firm, "subscribed")
    firm.clear_journals()
    firm.move(amy, NEW)
    firm.move(amy, OLD)
    firm.sync()
    assert firm.writes() == []
    assert firm.statuses() == {OLD: "subscribed"}


@pytest.mark.parametrize("was", ["subscribed", "unsubscribed", "transactional"])
def test_a15_there_and_back_with_a_run_between_restores_the_first(firm, contract, was):
    amy = make(firm, was)
    firm.move(amy, NEW)
    firm.sync()
    firm.move(amy, OLD)
    firm.sync()
    assert firm.statuses() == {OLD: was, NEW: "archived"}
    assert ("restore", "address_returned", "applied") in firm.told(amy)
