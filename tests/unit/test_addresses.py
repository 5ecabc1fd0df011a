"""One normal form for every address: rows A5 to A8 of docs/behaviour.md."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from ml_connector.rules.addresses import normalised, split_addresses


@pytest.mark.parametrize(
    ("expected", "written"),
    [
        ("amy@finch.org", "amy@finch.org"),
        ("amy@finch.org", "  Amy@Finch.ORG "),
        ("amy@xn--bcher-kva.de", "amy@bücher.de"),
        ("amy@xn--bcher-kva.de", "AMY@BÜCHER.DE"),
        ("amy@xn--bcher-kva.de", "amy@XN--BCHER-KVA.de"),
        ("amy+birds@finch.org", "amy+birds@finch.org"),
        ("o'neil@finch.org", "O'Neil@finch.org"),
        (None, ""),
        (None, "amy"),
        (None, "amy@"),
        (None, "@finch.org"),
        (None, "amy@finch"),
        (None, "amy@localhost"),
        (None, "amy at finch.org"),
        (None, "amy@@finch.org"),
        (None, "amy@finch..org"),
        (None, ".amy@finch.org"),
        (None, "Amy <amy@finch.org>"),
        (None, "müller@finch.org"),
    ],
)
def test_address_has_one_normal_form_or_none(expected, written):
    assert normalised(written) == expected


@given(
    st.text("aZ9._+-'\" @ü", max_size=70),
    st.sampled_from(
        ["finch.org", "Finch.ORG", "bücher.de", "finch", "a..b", "x.test", "", "b@c.de"]
    ),
)
@example("a" * 65, "finch.org")
@example("a" * 60, "b" * 60 + "." + "c" * 60 + "." + "d" * 60 + "." + "e" * 60 + ".org")
def test_the_short_way_for_usual_addresses_ends_where_the_long_way_does(local, domain):
    written = f"{local}@{domain}"
    try:
        expected = validate_email(
            written.strip(), check_deliverability=False, allow_smtputf8=False
        ).ascii_email.lower()
    except EmailNotValidError:
        expected = None
    assert normalised(written) == expected


def test_plus_addresses_stay_distinct():
    assert normalised("amy+a@finch.org") != normalised("amy+b@finch.org")


@pytest.mark.parametrize(
    ("expected", "field"),
    [
        (((), "no_email"), None),
        (((), "no_email"), ""),
        (((), "no_email"), " , ; "),
        (((), "invalid_email"), "call her"),
        (((), "invalid_email"), "amy@, ben@"),
        ((("a@finch.org",), None), "a@finch.org"),
        ((("a@finch.org", "b@finch.org"), None), "a@finch.org,b@finch.org"),
        ((("a@finch.org", "b@finch.org"), None), "a@finch.org ; b@finch.org;"),
        ((("b@finch.org",), None), "nonsense, b@finch.org"),
        ((("a@finch.org",), None), "a@finch.org, A@Finch.org"),
    ],
)
def test_field_gives_its_valid_addresses_in_order_or_the_problem(expected, field):
    assert split_addresses(field) == expected
