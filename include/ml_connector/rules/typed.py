"""Fit a text to the type of a merge field.

A value is converted where that loses nothing. One value that does not fit would cost Mailchimp's
whole row. Types: https://mailchimp.com/developer/marketing/docs/merge-fields/
"""

import re
from collections.abc import Callable
from datetime import date, datetime

from ml_connector.model import MergeField
from ml_connector.rules.unfit import Unfit

_US_PHONE = re.compile(r"(?:\+?1)?([2-9]\d{2})([2-9]\d{2})(\d{4})", re.ASCII)
_PHONE_SIGNS = re.compile(r"[\s().\-/]+")
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?", re.ASCII)
_DAY = re.compile(r"(\d{1,2})/(\d{1,2})", re.ASCII)
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z][a-z0-9-]+(:\d+)?([/?#]\S*)?", re.IGNORECASE)


def takes_any(field: MergeField) -> bool:
    """Return whether the field takes any text."""
    free_phone = field.type == "phone" and field.phone_format != "US"
    return free_phone or field.type not in _FITTERS


def fit(text: str, field: MergeField) -> str | Unfit:
    """Return ``text`` as the field takes it, or why it does not."""
    fitter = _FITTERS.get(field.type)
    return fitter(text, field) if fitter and text else text


def _phone(text: str, field: MergeField) -> str | Unfit:
    if field.phone_format != "US":
        return text
    match = _US_PHONE.fullmatch(_PHONE_SIGNS.sub("", text))
    if match is None:
        return Unfit("not a US phone number")
    return f"({match[1]}) {match[2]}-{match[3]}"


def _number(text: str, _: MergeField) -> str | Unfit:
    return text if _NUMBER.fullmatch(text) else Unfit("not a number")


def _date(text: str, field: MergeField) -> str | Unfit:
    day = _day(text, field.date_format)
    return Unfit("not a date") if day is None else day.isoformat()


def _birthday(text: str, field: MergeField) -> str | Unfit:
    if match := _DAY.fullmatch(text):
        first, second = int(match[1]), int(match[2])
        month, day = (second, first) if field.date_format == "DD/MM" else (first, second)
    elif found := _day(text, ""):
        month, day = found.month, found.day
    else:
        return Unfit("not a day of the year")
    try:
        date(2024, month, day)  # a leap year
    except ValueError:
        return Unfit("not a day of the year")
    return f"{month:02}/{day:02}"


def _day(text: str, date_format: str) -> date | None:
    """Return the day of an ISO date or timestamp, or of a date in the field's format."""
    forms = {"MM/DD/YYYY": "%m/%d/%Y", "DD/MM/YYYY": "%d/%m/%Y"}
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        pass
    try:
        return datetime.strptime(text, forms.get(date_format, "%Y-%m-%d")).date()  # noqa: DTZ007
    except ValueError:
        return None


def _zip(text: str, _: MergeField) -> str | Unfit:
    return (
        text
        if re.fullmatch(r"\d{5}", text, re.ASCII)
        else Unfit("not a US ZIP code of five digits")
    )


def _url(text: str, _: MergeField) -> str | Unfit:
    if re.fullmatch(r"https?://\S+", text, re.IGNORECASE):
        return text
    return f"https://{text}" if _HOST.fullmatch(text) else Unfit("not a web address")


def _choice(text: str, field: MergeField) -> str | Unfit:
    for choice in field.choices:
        if choice.strip().casefold() == text.casefold():
            return choice
    return Unfit("not one of the field's choices")


_FITTERS: dict[str, Callable[[str, MergeField], str | Unfit]] = {
    "phone": _phone,
    "number": _number,
    "date": _date,
    "birthday": _birthday,
    "zip": _zip,
    "url": _url,
    "imageurl": _url,
    "dropdown": _choice,
    "radio": _choice,
}
