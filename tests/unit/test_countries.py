"""Countries as people write them: row A25 of docs/reference/behaviour.md."""

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.rules.countries import LANGUAGES, country_code


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("US", "U.S.A."),
        ("US", "us"),
        ("US", "USA"),
        ("US", "United States of America"),
        ("US", "The United States"),
        ("GB", "UK"),
        ("GB", "U.K."),
        ("GB", "Great Britain"),
        ("GB", "England"),
        ("GB", "Scotland"),
        ("GB", "Northern Ireland"),
        ("NL", "The Netherlands"),
        ("NL", "Holland"),
        ("NL", "Nederland"),
        ("DE", "Deutschland"),
        ("DE", "DEU"),
        ("DE", "ALLEMAGNE"),
        ("ES", "España"),
        ("ES", "Espana"),
        ("RU", "Russia"),
        ("RU", "Россия"),
        ("TR", "Turkey"),
        ("TR", "Türkiye"),
        ("AE", "UAE"),
        ("AE", "U.A.E."),
        ("CI", "Ivory Coast"),
        ("CI", "Cote d’Ivoire"),  # noqa: RUF001 - the apostrophe people type
        ("CZ", "Czech Republic"),
        ("KR", "South Korea"),
        ("VN", "Vietnam"),
        ("CH", "Suisse"),
        ("AT", "Österreich"),
        ("IE", "Republic of Ireland"),
        ("TT", "Trinidad & Tobago"),
        ("LC", "St. Lucia"),
        ("MM", "Burma"),
        ("SZ", "Swaziland"),
        ("XK", "Kosovo"),
        ("JP", " 日本 "),
        ("KR", "Republic of Korea"),
        ("KR", "Korea, South"),
        ("CD", "Congo, Democratic Republic of the"),
        ("US", "USA (United States)"),
        ("GB", "England, UK"),
        ("CH", "Schweiz/Suisse"),
        ("CN", "P.R. China"),
        ("US", "EE.UU."),
        ("HR", "Hrvatska"),
        ("EE", "Eesti"),
        ("BG", "България"),
        (None, "Georgia, USA"),
        (None, "Ireland (the green one)"),
        (None, "(),/"),
        (None, "Middle-earth"),
        (None, "n/a"),
        (None, ""),
        (None, "the"),
    ],
)
def test_a_country_is_known_by_any_usual_name(code, written):
    assert country_code(written) == code


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_country_names_of_the_major_languages_are_known(language):
    names = Locale.parse(language).territories
    missed = [names[code] for code in ("US", "GB", "DE", "FR", "CA", "AU", "CN") if code in names]
    assert [name for name in missed if country_code(name) is None] == []


@given(st.text(max_size=40))
def test_any_text_is_a_country_or_none(written):
    code = country_code(written)
    assert code is None or (len(code) == 2 and code.isupper())
