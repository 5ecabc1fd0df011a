"""One normal form for every address: rows A5 to A8 of docs/behaviour.md."""

import pytest

from ml_connector.addresses import normalised, split_addresses


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
