"""Customers leave and return: rows A16 to A21 of docs/behaviour.md."""

import pytest

AMY = "amy@finch.org"


def subscriber(firm, status="subscribed"):
    firm.settings["new_contact_status"] = status
    amy = firm.customer("Amy", AMY, CompanyName="Amy's Birds")
    firm.sync()
    return amy


def test_a16_inactive_customer_is_archived(firm, contract):
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}
    assert firm.decisions() == {amy: ("skipped", "inactive", None)}
    assert ("archive", "inactive", "applied") in firm.told(amy)
    assert firm.audit()[-1]["before"]["status"] == "subscribed"


def test_a16_customer_inactive_from_the_start_is_no_contact(firm):
    amy = firm.customer("Amy", AMY)
    firm.edit(amy, Active=False)
    firm.sync()
    assert firm.statuses() == {}
    assert firm.told(amy) == [("skip", "inactive", "skipped")]


def test_a16_keep_leaves_the_contact_as_it_is(firm):
    firm.settings["on_inactive"] = "keep"
    amy = subscriber(firm)
    firm.clear_journals()
    firm.edit(amy, Active=False)
    firm.sync()
    assert firm.writes() == []
    assert firm.statuses() == {AMY: "subscribed"}


def test_a16_tag_marks_the_contact_and_reactivation_takes_the_mark_off(firm, contract):
    firm.settings |= {"on_inactive": "tag", "inactive_tag": "Former"}
    firm.seed(AMY, tags=["VIP"])
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync()
    assert firm.tags(AMY) == {"VIP", "QuickBooks", "Former"}
    assert firm.statuses() == {AMY: "subscribed"}
    firm.edit(amy, Active=True)
    firm.sync()
    assert firm.tags(AMY) == {"VIP", "QuickBooks"}
    assert firm.told(amy)[-1] == ("update", "reactivated", "applied")


def test_a16_mark_comes_off_a_pending_contact_too(firm, contract):
    firm.settings |= {"on_inactive": "tag", "inactive_tag": "Former"}
    amy = subscriber(firm, "pending")
    firm.edit(amy, Active=False)
    firm.sync()
    firm.edit(amy, Active=True)
    firm.sync()
    assert firm.tags(AMY) == {"QuickBooks"}
    assert firm.statuses() == {AMY: "pending"}


@pytest.mark.parametrize("policy", ["keep", "tag"])
def test_a16_suffix_of_an_inactive_name_never_reaches_mailchimp(firm, policy):
    firm.settings |= {"on_inactive": policy, "fields": {"FNAME": "DisplayName"}}
    amy = subscriber(firm)
    firm.edit(amy, Active=False, CompanyName="Birds")
    firm.sync()
    assert firm.fields(AMY) == {"FNAME": "Amy"}


def test_a16_policy_that_changes_takes_effect_at_the_next_run(firm):
    firm.settings["on_inactive"] = "keep"
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync()
    firm.settings["on_inactive"] = "archive"
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}


@pytest.mark.parametrize("status", ["pending", "cleaned"])
def test_a16b_contact_that_mailchimp_does_not_archive_is_left_and_noted_once(
    firm, contract, status
):
    amy = subscriber(firm, "pending" if status == "pending" else "subscribed")
    if status == "cleaned":
        firm.person(AMY, "clean")
    firm.edit(amy, Active=False)
    firm.clear_journals()
    firm.sync()
    firm.sync()
    assert firm.statuses() == {AMY: status}
    assert firm.writes() == []
    noted = [told for told in firm.told(amy) if told[0] == "archive"]
    assert noted == [("archive", f"cannot_archive_{status}", "refused")]


def test_a16b_contact_that_bounces_just_before_its_archive_is_left(firm):
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync(before_archive=lambda: firm.person(AMY, "clean"))
    firm.clear_journals()
    firm.sync()
    assert firm.statuses() == {AMY: "cleaned"}
    assert firm.told(amy)[-1] == ("archive", "inactive", "failed")
    assert firm.writes() == []


def test_a17_one_of_several_leaves_and_the_contact_moves_on(firm, contract):
    amy = firm.customer("Amy", AMY)
    ben = firm.customer("Ben", AMY)
    firm.sync()
    firm.edit(amy, Active=False)
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}
    assert firm.fields(AMY) == {"FNAME": "Ben"}
    assert firm.decisions() == {
        amy: ("skipped", "inactive", None),
        ben: ("contact", "owner_changed", None),
    }


@pytest.mark.parametrize("status", ["subscribed", "transactional", "unsubscribed"])
def test_a18_returning_customer_gets_back_the_status_of_before(firm, contract, status):
    amy = subscriber(firm, "transactional" if status == "transactional" else "subscribed")
    if status == "unsubscribed":
        firm.person(AMY, "unsubscribe")
    firm.edit(amy, Active=False)
    firm.sync()
    firm.settings["new_contact_status"] = "subscribed"
    firm.edit(amy, Active=True, GivenName="Amelia")
    firm.sync()
    assert firm.statuses() == {AMY: status}
    assert firm.fields(AMY)["FNAME"] == "Amelia"
    assert firm.told(amy)[-1] == ("restore", "reactivated", "applied")


def test_a18_opt_out_seen_only_at_the_archive_counts(firm, contract):
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync(before_archive=lambda: firm.person(AMY, "unsubscribe", by="marketer"))
    firm.edit(amy, Active=True)
    firm.sync()
    assert firm.statuses() == {AMY: "unsubscribed"}


def test_a18_archive_whose_answer_was_lost_is_still_ours(firm):
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.fault(
        "mailchimp", match={"method": "DELETE"}, times=1, action={"kind": "drop", "when": "after"}
    )
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}
    firm.edit(amy, Active=True)
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}


def test_a18_new_customer_at_an_address_we_archived_restores_it(firm, contract):
    amy = subscriber(firm)
    firm.person(AMY, "unsubscribe", by="marketer")
    firm.edit(amy, Active=False)
    firm.sync()
    firm.customer("Amy again", AMY)
    firm.sync()
    assert firm.statuses() == {AMY: "unsubscribed"}


def test_a18_deleted_for_good_meanwhile_is_not_made_anew(firm, contract):
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync()
    firm.person(AMY, "forget")
    firm.edit(amy, Active=True)
    firm.clear_journals()
    firm.sync()
    assert firm.statuses() == {AMY: "forgotten"}
    assert firm.writes() == []


def test_a18_person_who_came_back_by_themselves_is_not_archived_again(firm):
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync()
    firm.person(AMY, "subscribe")
    firm.edit(amy, CompanyName="Birds")
    firm.sync()
    firm.sync()
    assert firm.statuses() == {AMY: "subscribed"}


def test_a19_contact_that_a_marketer_archived_is_left_alone(firm, contract):
    amy = subscriber(firm)
    firm.person(AMY, "archive")
    firm.clear_journals()
    report = firm.sync()
    assert report.others == [("skipped", "archived_by_marketer", 1)]
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert firm.writes() == []
    assert firm.statuses() == {AMY: "archived"}
    assert firm.decisions() == {amy: ("skipped", "archived_by_marketer", None)}
    assert firm.told(amy)[-1] == ("skip", "archived_by_marketer", "refused")


def test_a19_deactivation_and_return_do_not_bring_it_back(firm, contract):
    amy = subscriber(firm)
    firm.person(AMY, "archive")
    firm.edit(amy, Active=False)
    firm.sync()
    firm.edit(amy, Active=True)
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}


def test_a19_archived_in_the_audience_before_our_first_run(firm, contract):
    firm.seed(AMY, status="archived")
    amy = subscriber(firm)
    assert firm.statuses() == {AMY: "archived"}
    assert firm.decisions() == {amy: ("skipped", "archived_by_marketer", None)}


def test_a19_archived_by_a_marketer_just_before_our_own_archive(firm):
    amy = subscriber(firm)
    firm.edit(amy, Active=False)
    firm.sync(before_archive=lambda: firm.person(AMY, "archive"))
    firm.edit(amy, Active=True)
    firm.sync()
    assert firm.statuses() == {AMY: "archived"}
    assert firm.decisions() == {amy: ("skipped", "archived_by_marketer", None)}


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned", "pending", "transactional"])
def test_a20_fields_are_updated_and_the_status_stays(firm, contract, status):
    starts = status if status in ("pending", "transactional") else "subscribed"
    amy = subscriber(firm, starts)
    if status == "unsubscribed":
        firm.person(AMY, "unsubscribe")
    elif status == "cleaned":
        firm.person(AMY, "clean")
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert firm.statuses() == {AMY: status}
    assert firm.fields(AMY)["FNAME"] == "Amelia"


@pytest.mark.parametrize("full_sync", [False, True])
def test_a21_merged_customers_contact_is_archived(firm, full_sync):
    """By tombstones in change data capture, and by the ids that a full load no longer lists."""
    survivor = firm.customer("Survivor", "survivor@finch.org")
    loser = firm.customer("Loser", "loser@finch.org")
    firm.sync()
    firm.quickbooks_control("POST", "customers/merge", {"survivor": survivor, "loser": loser})
    firm.sync(full_sync=full_sync)
    assert firm.statuses() == {"survivor@finch.org": "subscribed", "loser@finch.org": "archived"}
    assert firm.decisions()[loser] == ("skipped", "gone", None)
    assert ("archive", "gone", "applied") in firm.told(loser)


@pytest.mark.parametrize("full_sync", [False, True])
def test_a21_shared_contact_and_its_links_move_to_the_survivor(firm, full_sync):
    loser = firm.customer("Loser", AMY)
    linked = firm.customer("Linked", AMY)
    survivor = firm.customer("Survivor", AMY)
    firm.sync()
    firm.quickbooks_control("POST", "customers/merge", {"survivor": survivor, "loser": loser})
    firm.sync(full_sync=full_sync)
    assert firm.statuses() == {AMY: "subscribed"}
    assert firm.fields(AMY) == {"FNAME": "Linked"}
    assert firm.decisions()[survivor] == ("linked", "shared_address", linked)


def test_a21_survivor_that_takes_over_the_address_adopts_the_contact(firm, contract):
    survivor = firm.customer("Survivor")
    loser = firm.customer("Loser", AMY)
    firm.sync()
    firm.person(AMY, "unsubscribe")
    firm.quickbooks_control("POST", "customers/merge", {"survivor": survivor, "loser": loser})
    firm.move(survivor, AMY)
    firm.sync()
    assert firm.statuses() == {AMY: "unsubscribed"}
    assert firm.fields(AMY)["FNAME"] == "Survivor"
