"""Tags and rules from a customer's attributes, as QuickBooks' API shows them."""

import pytest

from ml_connector.rules.attributes import groups_of, left_out, tags_of
from ml_connector.settings import Sync, Tags

TYPES = {"7": "Retail"}
RAW = {
    "CustomerTypeRef": {"value": "7"},
    "CurrencyRef": {"value": "USD", "name": "United States Dollar"},
    "Job": True,
    "BillAddr": {"City": " Bayshore "},
    "IsProject": False,
}


def tags(**derived):
    return Tags.model_validate({"static": ["A"], "from": derived})


def sync(**rules):
    values = {"name": "main", "audience_id": "a", "new_contact_status": "pending", "fields": {}}
    return Sync.model_validate({**values, **rules})


@pytest.mark.parametrize(
    ("attribute", "tag", "expected"),
    [
        ("customer_type", "QBO {value}", ("A", "QBO Retail")),
        ("currency", "{value}", ("A", "USD")),
        ("job", "Job", ("A", "Job")),
        ("BillAddr.City", "In {value}", ("A", "In Bayshore")),
        ("IsProject", "Project", ("A",)),
        ("CurrencyRef", "{value}", ("A", "USD")),
        ("GivenName", "{value}", ("A",)),
        ("BillAddr.City", "a", ("A",)),
        ("BillAddr.City", "x" * 100, ("A", "x" * 100)),
    ],
)
def test_an_attribute_gives_a_tag_if_it_says_something(attribute, tag, expected):
    assert tags_of(RAW, tags(**{attribute: tag}), TYPES) == expected


def test_a_type_without_a_name_gives_no_tag():
    assert tags_of(RAW, tags(customer_type="{value}"), {}) == ("A",)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, None),
        ({"include": {"customer_type": "retail"}}, None),
        ({"include": {"customer_type": ["Trade"]}}, "customer_type_excluded"),
        ({"exclude": {"customer_type": ["RETAIL "]}}, "customer_type_excluded"),
        ({"include": {"currency": ["EUR"]}}, "currency_excluded"),
        ({"exclude": {"currency": ["EUR"]}}, None),
    ],
)
def test_rules_compare_names_without_regard_to_case(rules, expected):
    assert left_out(RAW, sync(**rules), TYPES) == expected


def test_a_customer_without_a_type_is_left_out_by_include_and_kept_by_exclude():
    assert left_out({}, sync(include={"customer_type": ["Retail"]}), TYPES) is not None
    assert left_out({}, sync(exclude={"customer_type": ["Retail"]}), TYPES) is None


ODD = {
    **RAW,
    "Active": False,
    "DisplayName": "Amy (deleted)",
    "BillAddr": {"City": "Bay\x00shore\x07"},
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("DisplayName", "Amy"),
        ("BillAddr.City", "Bayshore"),
        ("{DisplayName}, {BillAddr.City}", "Amy, Bayshore"),
    ],
)
def test_tags_and_groups_carry_no_control_characters_and_no_mark_of_inactive_customers(
    source, text
):
    if "{" not in source:
        assert tags_of(ODD, tags(**{source: "{value}"}), TYPES) == ("A", text)
    assert groups_of(ODD, {"Kind": source}, TYPES, {"Kind": {text.lower(): "1"}}) == {"Kind": "1"}


def test_an_object_or_a_false_value_gives_no_tag():
    odd = {"GivenName": {"x": "y"}, "Notes": ["z"], "Active": False}
    assert tags_of(odd, tags(GivenName="{value}", Notes="{value}", Active="Yes"), TYPES) == ("A",)
