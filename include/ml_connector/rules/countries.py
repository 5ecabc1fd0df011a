"""Resolve a country as people write it to its ISO 3166-1 alpha-2 code.

Names come from pycountry (ISO 3166) and babel (Unicode CLDR, the major languages). Abbreviations
and former names that neither has are listed here.
"""

import re
import unicodedata
from functools import lru_cache

import pycountry
from babel import Locale

LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "da", "sv", "nb", "fi", "pl", "cs"),
    *("hu", "ro", "el", "tr", "ru", "uk", "ar", "he", "hi", "id", "vi", "th", "ja", "ko", "zh"),
)
"""Languages whose names of countries are known."""

_ALSO = {
    "america": "US",
    "united states america": "US",
    "uk": "GB",
    "britain": "GB",
    "great britain": "GB",
    "england": "GB",
    "scotland": "GB",
    "wales": "GB",
    "northern ireland": "GB",
    "holland": "NL",
    "uae": "AE",
    "emirates": "AE",
    "ksa": "SA",
    "prc": "CN",
    "roc": "TW",
    "drc": "CD",
    "congo kinshasa": "CD",
    "congo brazzaville": "CG",
    "ivory coast": "CI",
    "cape verde": "CV",
    "east timor": "TL",
    "swaziland": "SZ",
    "macedonia": "MK",
    "burma": "MM",
    "czech republic": "CZ",
    "republic ireland": "IE",
    "eire": "IE",
    "turkey": "TR",
    "vatican": "VA",
    "palestine": "PS",
    "korea": "KR",
    "bosnia": "BA",
    "macau": "MO",
    "antigua": "AG",
}
"""Abbreviations and former names, in the form of ``_folded``."""

_IGNORED = frozenset({"the", "of", "and", "y", "et", "und"})


@lru_cache(maxsize=2048)
def country_code(written: str) -> str | None:
    """Return the code of a country by its name, former name, abbreviation or code; None if unknown.

    Case, accents, periods and articles do not matter.
    """
    folded = _folded(written)
    if not folded:
        return None
    if folded in _ALSO:
        return _ALSO[folded]
    try:
        return str(pycountry.countries.lookup(written.strip()).alpha_2)
    except LookupError:
        return _names().get(folded)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Return the codes by folded name. English comes last, so its names win."""
    codes = {each.alpha_2 for each in pycountry.countries} | {"XK"}  # Kosovo, by CLDR
    found = {
        _folded(name): code
        for language in reversed(LANGUAGES)
        for code, name in Locale(language).territories.items()
        if code in codes
    }
    for each in pycountry.countries:
        for form in ("alpha_2", "alpha_3", "name", "common_name", "official_name"):
            found.setdefault(_folded(getattr(each, form, "")), each.alpha_2)
    return found


def _folded(name: str) -> str:
    """Return a name without case, accents, punctuation and articles."""
    text = unicodedata.normalize("NFKD", name.casefold().replace("ß", "ss"))
    letters = "".join(each for each in text if not unicodedata.combining(each))
    dotless = re.sub(r"[.'’]", "", letters)  # noqa: RUF001 - the apostrophe people type
    words = re.sub(r"[^\w]+", " ", dotless).split()
    return " ".join(word for word in words if word not in _IGNORED)
