"""Customers leave and return: rows A16 to A21 of docs/reference/behaviour.md."""

import pytest

AMY = "amy@finch.org"


def subscriber(company, status="subscribed"):
    company.settings["new_contact_status"] = status
    amy = company.customer("Amy", AMY, CompanyName="Amy's Birds")
    company.sync()
    return amy


def test_a16_inactive_customer_is_archived(company, contract):
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync()
    assert company.statuses() == {AMY: "archived"}
    assert company.decisions() == {amy: ("skipped", "inactive", None)}
    assert ("archive", "inactive", "applied") in company.told(amy)
    assert company.audit()[-1]["before"]["status"] == "subscribed"


def test_a16_customer_inactive_from_the_start_is_no_contact(company):
    amy = company.customer("Amy", AMY)
    company.edit(amy, Active=False)
    company.sync()
    assert company.statuses() == {}
    assert company.told(amy) == [("skip", "inactive", "skipped")]


def test_a16_keep_leaves_the_contact_as_it_is(company):
    company.settings["on_inactive"] = "keep"
    amy = subscriber(company)
    company.clear_journals()
    company.edit(amy, Active=False)
    company.sync()
    assert company.writes() == []
    assert company.statuses() == {AMY: "subscribed"}


def test_a16_tag_marks_the_contact_and_reactivation_takes_the_mark_off(company, contract):
    company.settings |= {"on_inactive": "tag", "inactive_tag": "Former"}
    company.seed(AMY, tags=["VIP"])
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync()
    assert company.tags(AMY) == {"VIP", "QuickBooks", "Former"}
    assert company.statuses() == {AMY: "subscribed"}
    company.edit(amy, Active=True)
    company.sync()
    assert company.tags(AMY) == {"VIP", "QuickBooks"}
    assert company.told(amy)[-1] == ("update", "reactivated", "applied")


def test_a16_mark_comes_off_a_pending_contact_too(company, contract):
    company.settings |= {"on_inactive": "tag", "inactive_tag": "Former"}
    amy = subscriber(company, "pending")
    company.edit(amy, Active=False)
    company.sync()
    company.edit(amy, Active=True)
    company.sync()
    assert company.tags(AMY) == {"QuickBooks"}
    assert company.statuses() == {AMY: "pending"}


@pytest.mark.parametrize("policy", ["keep", "tag"])
def test_a16_suffix_of_an_inactive_name_never_reaches_mailchimp(company, policy):
    company.settings |= {"on_inactive": policy, "fields": {"FNAME": "DisplayName"}}
    amy = subscriber(company)
    company.edit(amy, Active=False, CompanyName="Birds")
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Amy"}


def test_a16_policy_that_changes_takes_effect_at_the_next_run(company):
    company.settings["on_inactive"] = "keep"
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync()
    company.settings["on_inactive"] = "archive"
    company.sync()
    assert company.statuses() == {AMY: "archived"}


@pytest.mark.parametrize("status", ["pending", "cleaned"])
def test_a16b_contact_that_mailchimp_does_not_archive_is_left_and_noted_once(
    company, contract, status
):
    amy = subscriber(company, "pending" if status == "pending" else "subscribed")
    if status == "cleaned":
        company.person(AMY, "clean")
    company.edit(amy, Active=False)
    company.clear_journals()
    company.sync()
    company.sync()
    assert company.statuses() == {AMY: status}
    assert company.writes() == []
    noted = [told for told in company.told(amy) if told[0] == "archive"]
    assert noted == [("archive", f"cannot_archive_{status}", "refused")]


def test_a16b_contact_that_bounces_just_before_its_archive_is_left(company):
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync(before_archive=lambda: company.person(AMY, "clean"))
    company.clear_journals()
    company.sync()
    assert company.statuses() == {AMY: "cleaned"}
    assert company.told(amy)[-1] == ("archive", "inactive", "failed")
    assert company.writes() == []


def test_a17_one_of_several_leaves_and_the_contact_moves_on(company, contract):
    amy = company.customer("Amy", AMY)
    ben = company.customer("Ben", AMY)
    company.sync()
    company.edit(amy, Active=False)
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert company.fields(AMY) == {"FNAME": "Ben"}
    assert company.decisions() == {
        amy: ("skipped", "inactive", None),
        ben: ("contact", "owner_changed", None),
    }


@pytest.mark.parametrize("status", ["subscribed", "transactional", "unsubscribed"])
def test_a18_returning_customer_gets_back_the_status_of_before(company, contract, status):
    amy = subscriber(company, "transactional" if status == "transactional" else "subscribed")
    if status == "unsubscribed":
        company.person(AMY, "unsubscribe")
    company.edit(amy, Active=False)
    company.sync()
    company.settings["new_contact_status"] = "subscribed"
    company.edit(amy, Active=True, GivenName="Amelia")
    company.sync()
    assert company.statuses() == {AMY: status}
    assert company.fields(AMY)["FNAME"] == "Amelia"
    assert company.told(amy)[-1] == ("restore", "reactivated", "applied")


def test_a18_opt_out_seen_only_at_the_archive_counts(company, contract):
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync(before_archive=lambda: company.person(AMY, "unsubscribe", by="marketer"))
    company.edit(amy, Active=True)
    company.sync()
    assert company.statuses() == {AMY: "unsubscribed"}


def test_a18_archive_whose_answer_was_lost_is_still_ours(company):
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.fault(
        "mailchimp", match={"method": "DELETE"}, times=1, action={"kind": "drop", "when": "after"}
    )
    company.sync()
    assert company.statuses() == {AMY: "archived"}
    company.edit(amy, Active=True)
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}


def test_a18_new_customer_at_an_address_we_archived_restores_it(company, contract):
    amy = subscriber(company)
    company.person(AMY, "unsubscribe", by="marketer")
    company.edit(amy, Active=False)
    company.sync()
    company.customer("Amy again", AMY)
    company.sync()
    assert company.statuses() == {AMY: "unsubscribed"}


def test_a18_deleted_for_good_meanwhile_is_not_made_anew(company, contract):
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync()
    company.person(AMY, "forget")
    company.edit(amy, Active=True)
    company.clear_journals()
    company.sync()
    assert company.statuses() == {AMY: "forgotten"}
    assert company.writes() == []


def test_a18_person_who_came_back_by_themselves_is_not_archived_again(company):
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync()
    company.person(AMY, "subscribe")
    company.edit(amy, CompanyName="Birds")
    company.sync()
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}


def test_a19_contact_that_a_marketer_archived_is_left_alone(company, contract):
    amy = subscriber(company)
    company.person(AMY, "archive")
    company.clear_journals()
    report = company.sync()
    assert report.others == [("skipped", "archived_by_marketer", 1)]
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.writes() == []
    assert company.statuses() == {AMY: "archived"}
    assert company.decisions() == {amy: ("skipped", "archived_by_marketer", None)}
    assert company.told(amy)[-1] == ("skip", "archived_by_marketer", "refused")


def test_a19_deactivation_and_return_do_not_bring_it_back(company, contract):
    amy = subscriber(company)
    company.person(AMY, "archive")
    company.edit(amy, Active=False)
    company.sync()
    company.edit(amy, Active=True)
    company.sync()
    assert company.statuses() == {AMY: "archived"}


def test_a19_archived_in_the_audience_before_our_first_run(company, contract):
    company.seed(AMY, status="archived")
    amy = subscriber(company)
    assert company.statuses() == {AMY: "archived"}
    assert company.decisions() == {amy: ("skipped", "archived_by_marketer", None)}


def test_a19_archived_by_a_marketer_just_before_our_own_archive(company):
    amy = subscriber(company)
    company.edit(amy, Active=False)
    company.sync(before_archive=lambda: company.person(AMY, "archive"))
    company.edit(amy, Active=True)
    company.sync()
    assert company.statuses() == {AMY: "archived"}
    assert company.decisions() == {amy: ("skipped", "archived_by_marketer", None)}


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned", "pending", "transactional"])
def test_a20_fields_are_updated_and_the_status_stays(company, contract, status):
    starts = status if status in ("pending", "transactional") else "subscribed"
    amy = subscriber(company, starts)
    if status == "unsubscribed":
        company.person(AMY, "unsubscribe")
    elif status == "cleaned":
        company.person(AMY, "clean")
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.statuses() == {AMY: status}
    assert company.fields(AMY)["FNAME"] == "Amelia"


@pytest.mark.parametrize("full_sync", [False, True])
def test_a21_merged_customers_contact_is_archived(company, full_sync):
    """By tombstones in change data capture, and by the ids that a full load no longer lists."""
    survivor = company.customer("Survivor", "survivor@finch.org")
    loser = company.customer("Loser", "loser@finch.org")
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": survivor, "loser": loser})
    company.sync(full_sync=full_sync)
    assert company.statuses() == {"survivor@finch.org": "subscribed", "loser@finch.org": "archived"}
    assert company.decisions()[loser] == ("skipped", "gone", None)
    assert ("archive", "gone", "applied") in company.told(loser)


@pytest.mark.parametrize("full_sync", [False, True])
def test_a21_shared_contact_and_its_links_move_to_the_survivor(company, full_sync):
    loser = company.customer("Loser", AMY)
    linked = company.customer("Linked", AMY)
    survivor = company.customer("Survivor", AMY)
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": survivor, "loser": loser})
    company.sync(full_sync=full_sync)
    assert company.statuses() == {AMY: "subscribed"}
    assert company.fields(AMY) == {"FNAME": "Linked"}
    assert company.decisions()[survivor] == ("linked", "shared_address", linked)


def test_a21_survivor_that_takes_over_the_address_adopts_the_contact(company, contract):
    survivor = company.customer("Survivor")
    loser = company.customer("Loser", AMY)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.quickbooks_control("POST", "customers/merge", {"survivor": survivor, "loser": loser})
    company.move(survivor, AMY)
    company.sync()
    assert company.statuses() == {AMY: "unsubscribed"}
    assert company.fields(AMY)["FNAME"] == "Survivor"
