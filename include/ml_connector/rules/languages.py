"""Mailchimp's language of a locale: ``de_DE`` is ``de``, ``pt_PT`` is ``pt_PT``.

https://mailchimp.com/help/view-and-edit-contact-languages/
"""

CODES = frozenset(
    [
        "en",
        "ar",
        "af",
        "be",
        "bg",
        "ca",
        "zh",
        "hr",
        "cs",
        "da",
        "nl",
        "et",
        "fa",
        "fi",
        "fr",
        "fr_CA",
        "de",
        "el",
        "he",
        "hi",
        "hu",
        "is",
        "id",
        "ga",
        "it",
        "ja",
        "km",
        "ko",
        "lv",
        "lt",
        "mt",
        "ms",
        "mk",
        "no",
        "pl",
        "pt",
        "pt_PT",
        "ro",
        "ru",
        "sr",
        "sk",
        "sl",
        "es",
        "es_ES",
        "sw",
        "sv",
        "ta",
        "th",
        "tr",
        "uk",
        "vi",
    ]
)
_ALSO = {"nb": "no", "nn": "no", "iw": "he", "in": "id"}


def language_code(locale: str) -> str:
    """Return Mailchimp's code of a locale, which may have a region; ``""`` if it has none."""
    language, _, region = locale.strip().replace("-", "_").partition("_")
    language = _ALSO.get(language.lower(), language.lower())
    full = f"{language}_{region.upper()}"
    return full if full in CODES else language if language in CODES else ""
