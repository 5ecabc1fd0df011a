"""A customer's address changes: rows A11 to A15 of docs/reference/behaviour.md. Consent follows the person."""

import pytest

OLD, NEW = "amy@finch.org", "amelia@finch.org"


def make(company, status):
    """Bring Amy's contact into a status by whoever causes it in life; return her customer."""
    starts = status if status in ("pending", "transactional") else "subscribed"
    company.settings["new_contact_status"] = starts
    amy = company.customer("Amy", OLD)
    company.sync()
    match status:
        case "unsubscribed":
            company.person(OLD, "unsubscribe")
        case "abuse":
            company.person(OLD, "unsubscribe", reason="Abuse report")
        case "unsubscribed by a marketer":
            company.person(OLD, "unsubscribe", by="marketer")
        case "cleaned":
            company.person(OLD, "clean")
    company.settings["new_contact_status"] = "subscribed"
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
def test_a11_consent_follows_the_person_to_a_new_address(company, contract, was, becomes, left):
    amy = make(company, was)
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {NEW: becomes, OLD: left}
    assert ("create", "address_changed", "applied") in company.told(amy)
    assert company.decisions()[amy][0] == "contact"


def test_a11_opt_out_that_the_last_run_did_not_see_yet_follows_too(company, contract):
    amy = make(company, "subscribed")
    company.sync()
    company.move(amy, NEW)
    company.person(OLD, "unsubscribe")
    company.sync()
    assert company.statuses()[NEW] == "unsubscribed"


def test_a11_new_contact_exists_before_the_old_one_is_archived(company):
    amy = make(company, "subscribed")
    company.clear_journals()
    company.move(amy, NEW)
    company.sync()
    assert [call["method"] for call in company.writes()] == ["POST", "DELETE"]


def test_a11_old_contact_stays_while_the_new_one_is_refused(company):
    amy = make(company, "subscribed")
    company.move(amy, "amy@fake-domain.org")
    company.sync()
    assert company.statuses() == {OLD: "subscribed"}
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "subscribed"}


def test_a11_run_killed_between_push_and_archive_is_finished_by_the_next(company):
    def killed():
        raise KeyboardInterrupt

    amy = make(company, "subscribed")
    company.move(amy, NEW)
    with pytest.raises(KeyboardInterrupt):
        company.sync(before_archive=killed)
    assert company.statuses() == {OLD: "subscribed", NEW: "subscribed"}
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "subscribed"}
    assert company.told(amy)[-1][::2] == ("archive", "applied")


def test_a11_opt_out_travels_over_a_refused_address_in_between(company, contract):
    amy = make(company, "unsubscribed")
    company.move(amy, "amy@fake-domain.org")
    company.sync()
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a11_archived_by_a_marketer_is_no_contact_at_the_new_address_either(company, contract):
    """The row says opted out elsewhere: no row of the issue fits, a marketer's no is a no."""
    amy = make(company, "subscribed")
    company.person(OLD, "archive")
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived"}
    assert company.decisions()[amy] == ("skipped", "opted_out_elsewhere", None)


def test_a12_old_address_that_another_customer_uses_goes_to_its_next_owner(company, contract):
    amy = company.customer("Amy", OLD)
    ben = company.customer("Ben", OLD)
    company.sync()
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "subscribed", NEW: "subscribed"}
    assert company.fields(OLD) == {"FNAME": "Ben"}
    assert company.decisions()[ben][0] == "contact"
    assert ("update", "owner_changed", "applied") in company.told(ben)


@pytest.mark.parametrize(
    "status", ["subscribed", "unsubscribed", "pending", "transactional", "cleaned"]
)
def test_a13_existing_contact_is_adopted_with_its_status(company, contract, status):
    amy = make(company, "subscribed")
    company.seed(NEW, status=status, origin="self" if status == "unsubscribed" else "marketer")
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: status}
    assert company.fields(NEW) == {"FNAME": "Amy"}
    assert ("update", "adopted", "applied") in company.told(amy)


def test_a13_contact_that_appears_while_we_write_is_adopted(company, contract):
    amy = make(company, "subscribed")
    company.move(amy, NEW)
    company.sync(before_push=lambda: company.seed(NEW, status="unsubscribed", tags=["VIP"]))
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}
    assert company.tags(NEW) == {"VIP", "QuickBooks"}


@pytest.mark.parametrize("was", ["unsubscribed", "abuse"])
def test_a13b_opt_out_travels_with_a_sharer_who_splits_off(company, contract, was):
    amy = make(company, was)
    ben = company.customer("Ben", OLD)
    company.sync()
    assert company.decisions()[ben] == ("linked", "shared_address", amy)
    company.move(ben, NEW)
    company.sync()
    assert company.statuses() == {OLD: "unsubscribed", NEW: "unsubscribed"}


@pytest.mark.parametrize("was", ["unsubscribed", "abuse"])
def test_a13b_opt_out_travels_with_a_reactivation_under_another_address(company, contract, was):
    amy = make(company, was)
    company.edit(amy, Active=False)
    company.sync()
    company.edit(amy, Active=True, PrimaryEmailAddr={"Address": NEW})
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a13b_opt_out_travels_over_a_time_without_address(company, contract):
    amy = make(company, "unsubscribed")
    company.move(amy, None)
    company.sync()
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a13b_opt_out_is_stronger_than_what_a_returning_contact_had(company, contract):
    """Amy leaves NEW for OLD, opts out there and comes back: the no is her last word."""
    amy = company.customer("Amy", NEW)
    company.sync()
    company.move(amy, OLD)
    company.sync()
    company.person(OLD, "unsubscribe")
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a13b_lowest_status_of_several_who_come_together_counts(company, contract):
    amy = make(company, "unsubscribed")
    ben = company.customer("Ben", "ben@finch.org")
    company.sync()
    company.move(amy, NEW)
    company.move(ben, NEW)
    company.sync()
    assert company.statuses()[NEW] == "unsubscribed"


def test_a14_there_and_back_between_two_runs_is_nothing(company):
    amy = make(company, "subscribed")
    company.clear_journals()
    company.move(amy, NEW)
    company.move(amy, OLD)
    company.sync()
    assert company.writes() == []
    assert company.statuses() == {OLD: "subscribed"}


def test_a28_who_moves_to_an_address_that_a_member_left_leaves_the_former_one_at_once(company):
    amy = make(company, "subscribed")
    company.seed(NEW)
    company.sync()
    company.person(NEW, "upemail", email_address="amelia@elsewhere-mail.net")
    company.move(amy, NEW)
    company.sync()
    assert company.decisions() == {amy: ("skipped", "address_changed_in_mailchimp", None)}
    assert company.statuses()[OLD] == "archived"
    company.clear_journals()
    company.sync()
    assert company.writes() == []


@pytest.mark.parametrize("was", ["subscribed", "unsubscribed", "transactional"])
def test_a15_there_and_back_with_a_run_between_restores_the_first(company, contract, was):
    amy = make(company, was)
    company.move(amy, NEW)
    company.sync()
    company.move(amy, OLD)
    company.sync()
    assert company.statuses() == {OLD: was, NEW: "archived"}
    assert ("restore", "address_returned", "applied") in company.told(amy)


def test_a13_whoever_signs_up_at_an_address_that_a_member_left_gets_the_customers_data(company):
    company.customer("Given", OLD)
    company.sync()
    company.person(OLD, "upemail", email_address=NEW)
    company.sync()
    company.seed(OLD)
    company.sync()
    company.sync()
    assert company.fields(OLD)["FNAME"] == "Given"


@pytest.mark.parametrize("then", [None, "unsubscribe", "complain"])
def test_whoever_signs_up_at_a_deleted_address_gets_the_customers_data(company, then):
    company.customer("Ada", "ada@finch.org")
    company.customer("Bo", "bo@finch.org")
    company.sync()
    company.sync()
    company.person("ada@finch.org", "forget")
    company.person("ada@finch.org", "subscribe")
    if then == "complain":
        company.person("ada@finch.org", "clean", reason="abuse")
    elif then:
        company.person("ada@finch.org", then)
    company.sync()
    company.sync()
    assert company.fields("ada@finch.org")["FNAME"] == "Ada"


def test_whoever_returns_to_an_address_deleted_meanwhile_leaves_the_other_one(company, contract):
    ada = company.customer("Ada", OLD)
    company.sync()
    company.move(ada, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "subscribed"}
    company.person(OLD, "forget")
    company.move(ada, OLD)
    company.sync()
    company.sync()
    assert company.statuses() == {OLD: "forgotten", NEW: "archived"}
    assert company.decisions()[ada][:2] == ("skipped", "forgotten")
