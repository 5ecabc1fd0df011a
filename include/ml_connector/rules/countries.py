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
    *("bg", "hr", "sk", "sl", "sr", "sr_Latn", "et", "lv", "lt", "is", "ca", "sq"),
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
    "u s a": "US",
    "unitedstates": "US",
    "eeuu": "US",
    "eua": "US",
    "vereinigte staaten von amerika": "US",
    "etats unis damerique": "US",
    "n ireland": "GB",
    "england uk": "GB",
    "oesterreich": "AT",
    "brd": "DE",
    "mejico": "MX",
    "fyrom": "MK",
    "zaire": "CD",
    "dr congo": "CD",
    "rhodesia": "ZW",
    "upper volta": "BF",
    "ceylon": "LK",
    "siam": "TH",
    "persia": "IR",
    "holy see": "VA",
    "dubai": "AE",
    "abu dhabi": "AE",
    "pr china": "CN",
    "mainland china": "CN",
    "hong kong sar": "HK",
    "macau sar": "MO",
    "taiwan roc": "TW",
    "trinidad": "TT",
    "st vincent": "VC",
    "st maarten": "SX",
    "sao tome": "ST",
    "bvi": "VG",
    "cayman": "KY",
    "falklands": "FK",
    "turks caicos": "TC",
    "rsa": "ZA",
    "dom rep": "DO",
}
"""Abbreviations and former names, in the form of ``_folded``."""

_SEVERAL = re.compile(r"[(),/]")
_IGNORED = frozenset({"the", "of", "and", "y", "et", "und"})


@lru_cache(maxsize=2048)
def country_code(written: str) -> str | None:
    """Return the code of a country by its name, former name, abbreviation or code; None if unknown.

    Case, accents, periods, articles and the order of words do not matter. Several names, as in
    "England, UK" or "USA (United States)", are one country if each of them is.
    """
    if whole := _code(written):
        return whole
    parts = [part for part in _SEVERAL.split(written) if _folded(part)]
    codes = {_code(part) for part in parts} if len(parts) > 1 else set()
    return codes.pop() if len(codes) == 1 else None


def _code(written: str) -> str | None:
    folded = _folded(written)
    if not folded:
        return None
    if folded in _ALSO:
        return _ALSO[folded]
    try:
        return str(pycountry.countries.lookup(written.strip()).alpha_2)
    except LookupError:
        return _names().get(folded) or _by_words().get(_words(folded))


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Return the codes by folded name. English comes last, so its names win."""
    codes = {each.alpha_2 for each in pycountry.countries} | {"XK"}  # Kosovo, by CLDR
    found = {
        _folded(name): code
        for language in reversed(LANGUAGES)
        for code, name in Locale.parse(language).territories.items()
        if code in codes
    }
    for each in pycountry.countries:
        for form in ("alpha_2", "alpha_3", "name", "common_name", "official_name"):
            found.setdefault(_folded(getattr(each, form, "")), each.alpha_2)
    return found


@lru_cache(maxsize=1)
def _by_words() -> dict[str, str]:
    """Return the codes by the words of a name, in the order of the alphabet."""
    found: dict[str, set[str]] = {}
    for name, code in _names().items():
        found.setdefault(_words(name), set()).add(code)
    return {words: codes.pop() for words, codes in found.items() if len(codes) == 1}


def _words(folded: str) -> str:
    return " ".join(sorted(folded.split()))


def _folded(name: str) -> str:
    """Return a name without case, accents, punctuation and articles."""
    text = unicodedata.normalize("NFKD", name.casefold().replace("ß", "ss"))
    letters = "".join(each for each in text if not unicodedata.combining(each))
    dotless = re.sub(r"[.'’]", "", letters)  # noqa: RUF001 - the apostrophe people type
    words = re.sub(r"[^\w]+", " ", dotless).split()
    return " ".join(word for word in words if word not in _IGNORED)
