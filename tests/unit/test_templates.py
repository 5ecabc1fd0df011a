"""Templates into text fields: row A51 of docs/reference/behaviour.md."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.errors import SettingsError
from ml_connector.model import MergeField
from ml_connector.rules.fields import Target, merge_fields
from ml_connector.rules.templates import filled
from ml_connector.settings import load_syncs

ADDRESS = "{Line1}, {Zip} {City}"


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        (ADDRESS, {"Line1": "Ring 1", "Zip": "10117", "City": "Berlin"}, "Ring 1, 10117 Berlin"),
        (ADDRESS, {"Line1": "Ring 1", "City": "Berlin"}, "Ring 1, Berlin"),
        (ADDRESS, {"Line1": "Ring 1", "Zip": "10117"}, "Ring 1, 10117"),
        (ADDRESS, {"Zip": "10117", "City": "Berlin"}, "10117 Berlin"),
        (ADDRESS, {"Line1": "Ring 1"}, "Ring 1"),
        (ADDRESS, {"City": "Berlin"}, "Berlin"),
        (ADDRESS, {}, ""),
        ("{A} {B} {C}", {"A": "Amy", "C": "Finch"}, "Amy Finch"),
        ("{A} {B}, {C}", {"A": "Bonn", "C": "Germany"}, "Bonn, Germany"),
        ("{A} {B}", {"A": "  Amy ", "B": "   "}, "Amy"),
        ("{A} ({B})", {"A": "Amy", "B": "Finch Ltd"}, "Amy (Finch Ltd)"),
        ("{A} ({B})", {"A": "Amy"}, "Amy"),
        ("{A} ({B})", {"B": "Finch Ltd"}, "(Finch Ltd)"),
        ("{A} <{B}>", {"B": "amy@finch.org"}, "<amy@finch.org>"),
        ("{A} <{B}>", {"A": "Amy"}, "Amy"),
        ("{A} < {B}", {"B": "2"}, "2"),
        ("{A}>{B}", {"A": "1"}, "1"),
        ('"{A}" - "{B}"', {"A": "Amy", "B": "Ben"}, '"Amy" - "Ben"'),
        ('"{A}" - "{B}"', {"B": "Ben"}, '"Ben"'),
        ("Tel. {A}, Fax {B}", {"B": "22"}, "Fax 22"),
        ("Tel. {A}, Fax {B}", {"A": "11"}, "Tel. 11"),
        ("Dear {A} {B}!", {"A": "Amy", "B": "Finch"}, "Dear Amy Finch!"),
        ("Dear {A} {B}!", {}, ""),
        ("{A}{B}", {"A": "1", "B": "2"}, "12"),
        ("{A}/{B}/{C}", {"A": "1", "C": "3"}, "1/3"),
        ("{A}", {"A": "{B}"}, "{B}"),
        ("{A}'s {B}", {"A": "Amy", "B": "Shop"}, "Amy's Shop"),
        ("{A}'s {B}", {"A": "Amy"}, "Amy"),
        ("{A}'s {B}", {"B": "Shop"}, "Shop"),
        ("{A}\u2019s {B} ({C})", {"A": "Amy", "C": "Rome"}, "Amy (Rome)"),
        ("{A}'s {B}, {C}", {"A": "Amy", "C": "Rome"}, "Amy, Rome"),
        ("{A}'s", {"A": "Amy"}, "Amy's"),
        ("{A}'s", {}, ""),
        ("{A}th street {B}", {"B": "Rome"}, "street Rome"),
        ("'{A}' {B}", {"A": "Amy"}, "'Amy'"),
        ("{A}x{B}", {"A": "3", "B": "4"}, "3x4"),
        ("{A}x{B}", {"B": "4"}, "4"),
    ],
)
def test_a51_a_part_without_a_value_takes_its_text_along(template, values, text):
    assert filled(template, lambda path: values.get(path, "")) == text


NAMED = "{A} ({B} {C})"
NESTED = "({A} [{B}, {C}] {D})"


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        (NAMED, {"A": "Finch", "B": "Amy", "C": "Fox"}, "Finch (Amy Fox)"),
        (NAMED, {"A": "Finch", "B": "Amy"}, "Finch (Amy)"),
        (NAMED, {"A": "Finch", "C": "Fox"}, "Finch (Fox)"),
        (NAMED, {"A": "Finch"}, "Finch"),
        (NAMED, {"C": "Fox"}, "(Fox)"),
        (NAMED, {"A": "Finch :)", "C": "Fox"}, "Finch :) (Fox)"),
        ("{A} [{B}, {C}]", {"A": "Finch", "C": "Rome"}, "Finch [Rome]"),
        ("[{A}, {B}] x {C}", {"A": "1", "C": "3"}, "[1] x 3"),
        ("{A} ({B}, {C}) - {D}", {"A": "1", "D": "4"}, "1 - 4"),
        (NESTED, {"C": "Rome"}, "([Rome])"),
        (NESTED, {"A": "1", "D": "4"}, "(1 4)"),
        ("„{A} {B}“", {"B": "Amy"}, "„Amy“"),
        ('"{A} {B}"', {"A": "Amy"}, '"Amy"'),
        ("1) {A} 2) {B}", {"B": "Amy"}, "2) Amy"),
    ],
)
def test_a51_brackets_around_several_parts_stay_while_one_has_a_value(template, values, text):
    assert filled(template, lambda path: values.get(path, "")) == text


SEPARATORS = st.sampled_from([" ", ", ", " - ", "/", "; ", "\n"])


@given(
    separators=st.lists(SEPARATORS, min_size=1, max_size=5),
    values=st.lists(st.sampled_from(["", " ", "Amy", "Ring 1"]), min_size=6, max_size=6),
)
def test_a51_nothing_dangles_whichever_parts_are_empty(separators, values):
    names = "ABCDEF"[: len(separators) + 1]
    template = "".join(f"{{{name}}}{text}" for name, text in zip(names, separators, strict=False))
    template += f"{{{names[-1]}}}"
    known = dict(zip(names, values, strict=False))
    text = filled(template, known.__getitem__)
    assert text == text.strip(" ,-/;\n")
    there = [each.strip() for each in known.values() if each.strip()]
    assert [each for each in there if each in text] == there
    assert len(text) <= sum(map(len, there)) + 3 * max(0, len(there) - 1)


AMY = {
    "GivenName": "Amy",
    "FamilyName": "Al Said",
    "BillAddr": {"Line1": "Way 3001", "City": "Muscat", "PostalCode": "133", "Country": "Oman"},
}
RULES = {
    "NAME": ("{GivenName} {MiddleName} {FamilyName}",),
    "ADDRLINE": ("{BillAddr.Line1}, {BillAddr.PostalCode} {BillAddr.City}, {BillAddr.Country}",),
    "LABEL": ("{CompanyName}", "{GivenName}"),
}


def test_a51_a_template_writes_an_address_without_a_state_to_a_text_field():
    assert merge_fields(AMY, RULES)[0] == {
        "NAME": "Amy Al Said",
        "ADDRLINE": "Way 3001, 133 Muscat, Oman",
        "LABEL": "Amy",
    }


def test_a51_a_template_of_nothing_clears_its_field():
    assert merge_fields({"CompanyName": "Finch"}, {"NAME": RULES["NAME"]})[0] == {"NAME": ""}


def test_a51_a_filled_template_is_cut_and_fitted_like_any_text():
    number = MergeField(tag="NO", name="No", type="number", required=False)
    raw = {
        "GivenName": "ä" * 200,
        "FamilyName": "12",
        "Active": False,
        "CompanyName": "B (deleted)",
    }
    rules = {
        "NAME": ("{GivenName} {FamilyName}",),
        "NO": ("{GivenName}",),
        "B": ("{CompanyName}!",),
    }
    values, unfit = merge_fields(raw, rules, Target(fields={"NO": number}))
    assert (values["NAME"], values["B"]) == ("ä" * 127, "B!")
    assert unfit == {"NO": "not a number"}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{GivenName} {Balance}", "Balance may not leave QuickBooks"),
        ("{GivenName", "has a brace without its pair"),
        ("GivenName}", "has a brace without its pair"),
        ("{{GivenName}}", "has a brace without its pair"),
        ("{BillAddr}", "a template names one: BillAddr.City"),
        ("{BillAddr.Lat}", "known: BillAddr.City"),
        ("Hello {}", "may not leave QuickBooks"),
        ("{GivenName } Finch", "may not leave QuickBooks"),
    ],
)
def test_a51_a_wrong_template_is_refused_with_the_reason(tmp_path, template, said):
    file = tmp_path / "syncs.yaml"
    file.write_text(
        "syncs:\n  main:\n    audience_id: a\n    new_contact_status: pending\n"
        f'    fields: {{NAME: "{template}"}}\n',
        encoding="utf-8",
    )
    with pytest.raises(SettingsError) as refused:
        load_syncs(file)
    assert "line 5: syncs.main.fields" in str(refused.value)
    assert said in str(refused.value)
