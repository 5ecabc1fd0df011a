"""Groups and language from attributes: row A48 of docs/reference/behaviour.md."""

import json

import pytest

from ml_connector.errors import AudienceNotReady
from ml_connector.store import problems
from tests.integration.undoing import last_run, undo

AMY, BEN, CAT = "amy@finch.org", "ben@finch.org", "cat@finch.org"
TYPES = {"1": "Retail", "2": "wholesale", "3": "Press"}
GROUPS = {"Customer type": ["Retail", "Wholesale"], "Topics": ["Birds", "Dogs"]}


def of_type(number):
    return {"CustomerTypeRef": {"value": number}}


@pytest.fixture
def grouped(company):
    """A company whose customer types are groups of the audience."""
    company.settings["groups"] = {"Customer type": "CustomerTypeRef"}
    company.quickbooks_control("PUT", "customer-types", TYPES)
    company.ids = set_groups(company, GROUPS)
    return company


def set_groups(company, groups):
    made = company.mailchimp_control("PUT", "groups", groups)
    return {name: each for interests in made.values() for each, name in interests.items()}


def groups(company, email):
    names = {each: name for name, each in company.ids.items()}
    return {names[each] for each, on in company.members()[email]["interests"].items() if on}


def unfit(company):
    with company.database.begin() as connection:
        return [tuple(row) for row in problems.unfit_counts(connection, sync="main")]


def test_a48_a_contact_is_in_the_group_that_its_customers_attribute_names(grouped, contract):
    amy = grouped.customer("Amy", AMY, **of_type("1"))
    grouped.customer("Ben", BEN)
    grouped.sync()
    assert (groups(grouped, AMY), groups(grouped, BEN)) == ({"Retail"}, set())
    grouped.person(AMY, "profile", groups={"Birds": True})
    grouped.edit(amy, **of_type("2"))
    grouped.sync()
    assert groups(grouped, AMY) == {"Wholesale", "Birds"}
    grouped.edit(amy, CustomerTypeRef=None)
    grouped.told_by_quickbooks(("updated", amy))
    grouped.work_off()
    assert groups(grouped, AMY) == {"Birds"}
    grouped.clear_journals()
    grouped.sync()
    assert grouped.writes() == []


def test_a48_a_group_that_the_person_chose_is_never_taken_off(grouped, contract):
    for email in (AMY, BEN):
        grouped.seed(email)
    grouped.person(AMY, "profile", groups={"Retail": True})
    amy = grouped.customer("Amy", AMY, **of_type("1"))
    ben = grouped.customer("Ben", BEN, **of_type("1"))
    grouped.sync()
    grouped.person(BEN, "profile", groups={"Wholesale": True})
    for each in (amy, ben):
        grouped.edit(each, **of_type("2"))
    grouped.sync()
    assert (groups(grouped, AMY), groups(grouped, BEN)) == ({"Retail", "Wholesale"}, {"Wholesale"})
    for each in (amy, ben):
        grouped.edit(each, **of_type("1"))
    grouped.sync()
    assert (groups(grouped, AMY), groups(grouped, BEN)) == ({"Retail"}, {"Retail", "Wholesale"})


def test_a48_a_group_of_ours_that_the_person_left_is_joined_again_only_with_another_value(grouped):
    amy = grouped.customer("Amy", AMY, **of_type("1"))
    grouped.sync()
    grouped.person(AMY, "profile", groups={"Retail": False})
    grouped.edit(amy, GivenName="Amelia")
    grouped.sync()
    assert groups(grouped, AMY) == set()
    for number in ("2", "1"):
        grouped.edit(amy, **of_type(number))
        grouped.sync()
    assert groups(grouped, AMY) == {"Retail"}


def test_a48_a_member_that_joins_between_plan_and_call_keeps_the_group_it_chose(grouped, contract):
    amy = grouped.customer("Amy", AMY, **of_type("1"))

    def join():
        grouped.seed(AMY)
        grouped.person(AMY, "profile", groups={"Retail": True})

    grouped.sync(before_push=join)
    grouped.edit(amy, **of_type("2"))
    grouped.sync()
    assert groups(grouped, AMY) == {"Retail", "Wholesale"}


def test_a48_groups_set_up_later_are_learned_of_everyone_once(company):
    for email in (AMY, BEN):
        company.seed(email)
    amy = company.customer("Amy", AMY, **of_type("1"))
    company.ids = set_groups(company, GROUPS)
    company.person(AMY, "profile", groups={"Retail": True})
    company.quickbooks_control("PUT", "customer-types", TYPES)
    company.sync()
    company.pass_time(hours=1)
    company.settings["groups"] = {"Customer type": "customer_type"}
    company.sync()
    company.edit(amy, **of_type("2"))
    company.sync()
    assert groups(company, AMY) == {"Retail", "Wholesale"}, "Retail was her own choice"
    company.clear_journals()
    company.sync()
    listed = [call["query"] for call in company.calls("mailchimp") if "/members" in call["path"]]
    assert all("since_last_changed" in query for query in listed)


def test_a48_a_value_without_a_group_leaves_the_former_group_and_is_listed(grouped):
    amy = grouped.customer("Amy", AMY, **of_type("1"))
    grouped.sync()
    grouped.edit(amy, **of_type("3"))
    report = grouped.sync()
    assert groups(grouped, AMY) == set()
    said = "Mailchimp has no group of this name in the category"
    assert report.unfit == [("group Customer type", said, 1)]
    grouped.ids = set_groups(grouped, {**GROUPS, "Customer type": ["Retail", "Press"]})
    grouped.sync()
    assert groups(grouped, AMY) == {"Press"}
    assert unfit(grouped) == []


def test_a48_a_category_that_is_missing_stops_the_run_before_its_first_write(grouped):
    set_groups(grouped, {"Topics": ["Birds"]})
    grouped.customer("Amy", AMY, **of_type("1"))
    with pytest.raises(AudienceNotReady, match="group category 'Customer type' is missing"):
        grouped.sync()
    assert grouped.statuses() == {}


def test_a48_the_audit_shows_groups_and_language_before_and_after(grouped):
    grouped.settings["language"] = "Locale"
    amy = grouped.customer("Amy", AMY, Locale="de_DE", **of_type("1"))
    grouped.sync()
    grouped.edit(amy, Locale="fr_CA", **of_type("2"))
    grouped.sync()
    row = grouped.audit()[-1]
    assert row["before"]["groups"] == ["Customer type: Retail"]
    assert row["before"]["language"] == "de"
    assert row["after"]["groups"] == ["Customer type: Wholesale"]
    assert row["after"]["language"] == "fr_CA"


def test_e3_an_undo_takes_groups_and_language_back_and_leaves_who_changed_since(grouped, contract):
    grouped.settings["language"] = "Locale"
    ids = [
        grouped.customer(email.partition("@")[0], email, Locale="de_DE", **of_type("1"))
        for email in (AMY, BEN, CAT)
    ]
    grouped.sync()
    grouped.person(AMY, "profile", groups={"Birds": True})
    for each in ids:
        grouped.edit(each, Locale="fr_CA", **of_type("2"))
    grouped.sync()
    run = last_run(grouped)
    grouped.person(BEN, "profile", language="es")
    grouped.person(CAT, "profile", groups={"Retail": True})  # that part is as it was before
    assert undo(grouped, run) == {"update undo applied": 2, "update changed_since left": 1}
    undone = last_run(grouped)
    assert (groups(grouped, AMY), language(grouped, AMY)) == ({"Retail", "Birds"}, "de")
    assert (groups(grouped, BEN), language(grouped, BEN)) == ({"Wholesale"}, "es")
    assert (groups(grouped, CAT), language(grouped, CAT)) == ({"Retail"}, "de")
    row = grouped.audit()[-1]
    assert (row["after"]["groups"], row["after"]["language"]) == (["Customer type: Retail"], "de")
    grouped.clear_journals()
    grouped.sync()
    assert grouped.writes() == []
    assert undo(grouped, undone) == {"update undo applied": 2}
    assert (groups(grouped, AMY), language(grouped, AMY)) == ({"Wholesale", "Birds"}, "fr_CA")
    for each in (ids[0], ids[2]):
        grouped.edit(each, CustomerTypeRef=None)
    grouped.sync()
    assert groups(grouped, AMY) == {"Birds"}
    assert groups(grouped, CAT) == {"Retail"}  # she chose it herself


def test_a48_a_category_taken_out_of_the_settings_is_left_as_it_is(grouped):
    amy = grouped.customer("Amy", AMY, **of_type("1"))
    grouped.sync()
    del grouped.settings["groups"]
    grouped.edit(amy, **of_type("2"))
    grouped.sync()
    assert groups(grouped, AMY) == {"Retail"}


def test_a48_a_contact_that_comes_back_from_the_archive_is_in_its_present_group(grouped):
    amy = grouped.customer("Amy", AMY, **of_type("1"))
    grouped.sync()
    grouped.edit(amy, Active=False)
    grouped.sync()
    grouped.edit(amy, Active=True, **of_type("2"))
    grouped.sync()
    assert groups(grouped, AMY) == {"Wholesale"}
    assert grouped.statuses() == {AMY: "subscribed"}


def language(company, email):
    return company.members()[email]["language"]


@pytest.mark.parametrize(
    ("locale", "code"), [("de_DE", "de"), ("pt-PT", "pt_PT"), ("nb_NO", "no"), ("xx", ""), ("", "")]
)
def test_a48_the_language_follows_the_customers_locale(company, locale, code):
    company.settings["language"] = "Locale"
    company.customer("Amy", AMY, Locale=locale)
    company.sync()
    assert language(company, AMY) == code
    assert (unfit(company) != []) == (locale == "xx")


def test_a48_a_language_from_elsewhere_stays_until_quickbooks_value_changes(company, contract):
    company.settings["language"] = "Locale"
    for email in (AMY, BEN):
        company.seed(email)
    company.person(AMY, "profile", language="es")
    amy = company.customer("Amy", AMY, Locale="de")
    company.customer("Ben", BEN, Locale="de")
    company.sync()
    assert (language(company, AMY), language(company, BEN)) == ("es", "de")
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert language(company, AMY) == "es"
    company.edit(amy, Locale="fr")
    company.sync()
    assert language(company, AMY) == "fr"
    company.person(AMY, "profile", language="es")
    company.edit(amy, GivenName="Amy")
    company.sync()
    assert language(company, AMY) == "es"


def test_a48_nothing_of_groups_is_asked_for_or_sent_where_no_setting_names_one(company):
    set_groups(company, GROUPS)
    company.customer("Amy", AMY, Locale="de", **of_type("1"))
    company.sync()
    told = json.dumps(company.calls("mailchimp"))
    assert not any(word in told for word in ("interest", "language"))
