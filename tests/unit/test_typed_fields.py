"""Values and the types of merge fields: row A50 of docs/reference/behaviour.md."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.model import MergeField
from ml_connector.rules.fields import Target, merge_fields
from ml_connector.rules.typed import fit, takes_any
from ml_connector.rules.unfit import Unfit

CHOICES = ("Retail", "Wholesale")
FIELDS = {
    "us_phone": {"type": "phone", "phone_format": "US"},
    "phone": {"type": "phone", "phone_format": "none"},
    "us_date": {"type": "date", "date_format": "MM/DD/YYYY"},
    "eu_date": {"type": "date", "date_format": "DD/MM/YYYY"},
    "us_birthday": {"type": "birthday", "date_format": "MM/DD"},
    "eu_birthday": {"type": "birthday", "date_format": "DD/MM"},
    "dropdown": {"type": "dropdown", "choices": CHOICES},
    "radio": {"type": "radio", "choices": CHOICES},
}


def field(name: str) -> MergeField:
    return MergeField(tag="F", name="F", required=False, **FIELDS.get(name, {"type": name}))


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("text", "anything", "anything"),
        ("phone", "+49 30 123456", "+49 30 123456"),
        ("us_phone", "650-555-3311", "(650) 555-3311"),
        ("us_phone", "(650) 555-3311", "(650) 555-3311"),
        ("us_phone", "650.555.3311", "(650) 555-3311"),
        ("us_phone", "+1 650 555 3311", "(650) 555-3311"),
        ("us_phone", "16505553311", "(650) 555-3311"),
        ("us_phone", "+49 30 123456", None),
        ("us_phone", "650 555 3311 ext 12", None),
        ("us_phone", "150-555-3311", None),
        ("us_phone", "6505553311 / 6505553312", None),
        ("us_phone", "٦٥٠ 555 3311", None),
        ("number", "١٢", None),
        ("number", "12", "12"),
        ("number", "-1.5", "-1.5"),
        ("number", "x", None),
        ("number", "1,5", None),
        ("number", "1e9", None),
        ("number", "nan", None),
        ("us_date", "2026-02-28", "2026-02-28"),
        ("us_date", "2026-02-28T10:00:00-08:00", "2026-02-28"),
        ("us_date", "02/28/2026", "2026-02-28"),
        ("us_date", "28/02/2026", None),
        ("eu_date", "28/02/2026", "2026-02-28"),
        ("us_date", "2026-02-30", None),
        ("us_date", "soon", None),
        ("us_birthday", "2026-02-28T10:00:00-08:00", "02/28"),
        ("us_birthday", "2/29", "02/29"),
        ("us_birthday", "12/24", "12/24"),
        ("us_birthday", "24/12", None),
        ("eu_birthday", "24/12", "12/24"),
        ("us_birthday", "Christmas", None),
        ("zip", "94326", "94326"),
        ("zip", "SW1A 1AA", None),
        ("zip", "9432", None),
        ("url", "https://finch.org", "https://finch.org"),
        ("url", "www.finch.org", "https://www.finch.org"),
        ("url", "finch.org/birds?a=1", "https://finch.org/birds?a=1"),
        ("imageurl", "www.finch.org/a.png", "https://www.finch.org/a.png"),
        ("url", "not a site", None),
        ("url", "1.5", None),
        ("url", "javascript:alert(1)", None),
        ("dropdown", "retail", "Retail"),
        ("dropdown", "Staff", None),
        ("radio", "Wholesale", "Wholesale"),
    ],
)
def test_a_value_is_converted_where_that_loses_nothing_and_else_left_out(kind, text, expected):
    fitted = fit(text, field(kind))
    if expected is None:
        assert isinstance(fitted, Unfit)
        assert text not in fitted.reason
    else:
        assert fitted == expected


@given(st.sampled_from([*FIELDS, "number", "zip", "url", "text"]), st.text(max_size=60))
def test_any_text_fits_or_not_and_what_fits_fits_again(kind, text):
    fitted = fit(text, field(kind))
    if not isinstance(fitted, Unfit):
        assert (
            fit(fitted, field(kind if not kind.startswith("eu_birthday") else "us_birthday"))
            == fitted
        )


def test_an_empty_value_fits_every_field_and_clears_it():
    assert all(fit("", field(kind)) == "" for kind in [*FIELDS, "number", "zip", "url"])


def test_a_field_that_takes_any_text_is_told_from_one_that_does_not():
    assert takes_any(field("text"))
    assert takes_any(field("phone"))
    assert not takes_any(field("us_phone"))


def test_a_value_that_does_not_fit_leaves_the_other_fields_and_gives_way_to_a_later_path():
    target = Target(fields={"PHONE": field("us_phone")})
    raw = {
        "GivenName": "Amy",
        "PrimaryPhone": {"FreeFormNumber": "+49 30 1"},
        "Mobile": {"FreeFormNumber": "650 555 3311"},
    }
    first = {"FNAME": ("GivenName",), "PHONE": ("PrimaryPhone.FreeFormNumber",)}
    values, unfit = merge_fields(raw, first, target)
    assert (values, unfit) == ({"FNAME": "Amy"}, {"PHONE": "not a US phone number"})
    both = {"PHONE": ("PrimaryPhone.FreeFormNumber", "Mobile.FreeFormNumber")}
    assert merge_fields(raw, both, target) == ({"PHONE": "(650) 555-3311"}, {})
