"""One normal form for every address: rows A5 to A8 of docs/reference/behaviour.md."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from ml_connector.rules.addresses import addresses_in, normalised, split_addresses
from ml_connector.wire.formats import impersonal


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
    ("problem", "field"),
    [
        ("no_email", None),
        ("no_email", ""),
        ("no_email", " , ; "),
        ("no_email", "\u200b"),
        ("invalid_email", "call her"),
        ("invalid_email", "amy@, ben@"),
    ],
)
def test_a_field_without_an_address_gives_the_problem(problem, field):
    assert split_addresses(field)[:2] == ((), problem)


@pytest.mark.parametrize(
    ("expected", "field"),
    [
        (["a@finch.org"], "a@finch.org"),
        (["a@finch.org", "b@finch.org"], "a@finch.org,b@finch.org"),
        (["a@finch.org", "b@finch.org"], "a@finch.org ; b@finch.org;"),
        (["b@finch.org"], "nonsense, b@finch.org"),
        (["a@finch.org"], "a@finch.org, A@Finch.org"),
        (["a@finch.org", "b@finch.org"], "a@finch.org / b@finch.org"),
        (["a@finch.org", "b@finch.org"], "E-mail:a@finch.org  Home: b@finch.org!"),
        (["a@finch.org", "b@finch.org"], "a@finch.org | b@finch.org"),
        (["a@finch.org", "b@finch.org"], "a@finch.org b@finch.org"),
        (["a@finch.org", "b@finch.org"], "a@finch.org\nb@finch.org"),
        (["a@finch.org", "b@finch.org"], "a@finch.org and b@finch.org"),
        (["a@finch.org", "b@finch.org"], "a@finch.org or b@finch.org"),
        (["a/b@finch.org"], "a/b@finch.org"),
        (["a@finch.org"], "Amy <a@finch.org>"),
        (["a@finch.org", "b@finch.org"], '"Finch, Amy" <a@finch.org>, Ben <b@finch.org>'),
        (["a@finch.org"], "<a@finch.org>"),
        (["a@finch.org"], "a@finch.org."),
        (["a@finch.org"], "a@finch.org (home)"),
        (["a@finch.org"], "a@finch.org [old]"),
        (["a@finch.org"], "mailto:a@finch.org"),
        (["a@finch.org"], "MAILTO:a@finch.org?subject=Hello"),
        (["a@finch.org"], "<mailto:a@finch.org>"),
        (["a@finch.org"], "e-mail: a@finch.org"),
        (["a@finch.org"], "'a@finch.org'"),
        (["a@finch.org"], "\u00a0a@finch.org\u00a0"),
        (["a@finch.org"], "a\u200b@finch.org\ufeff"),
        (["a@finch.org"], "\u202aa@finch.org\u202c"),
        (["a@finch.org"], "a@fin\u00adch.org"),
        (["a@finch.org"], "a\uff20finch\uff0eorg"),
        (["a@finch.org"], "a@finch.org\x00"),
    ],
)
def test_a_field_gives_its_addresses_as_people_type_and_paste_them(expected, field):
    assert split_addresses(field) == (tuple(expected), None, "")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("has no @", "call her"),
        ("contains 'ö' before the @", "jörg@finch.org"),
        ("cannot have two periods in a row", "amy..b@finch.org"),
        ("should have a period", "amy@finch"),
        ("special-use or reserved", "amy@finch.invalid"),
        ("IP address", "amy@[10.0.0.1]"),
        ("invalid characters", "amy@fin*ch.org"),
    ],
)
def test_an_unusable_address_says_why_without_quoting_it(said, field):
    detail = split_addresses(field).detail
    assert said in detail
    assert "amy" not in detail
    assert "finch" not in detail


@given(st.text(max_size=100))
def test_any_text_gives_valid_addresses_or_a_problem(field):
    found = split_addresses(field)
    assert all(normalised(each) == each for each in found.valid)
    assert bool(found.valid) == (found.problem is None)
    assert len(found.detail) < 300


@pytest.mark.parametrize("text", ["x" * 200_000, "x@" * 100_000, "@" * 200_000, "a@b " * 50_000])
def test_a_long_text_is_searched_in_linear_time(text):
    """Quadratic time would take minutes: each thread's time limit ends the test."""
    addresses_in(text)
    split_addresses(text)
    impersonal(text)
