"""XML for clients that do not ask for JSON: the service's default, and a trap worth having."""

from typing import Any
from xml.sax.saxutils import escape, quoteattr

NAMESPACE = "http://schema.intuit.com/finance/v3"


def render(body: dict[str, Any]) -> bytes:
    """Render a response's JSON as an ``IntuitResponse`` document."""
    time = quoteattr(str(body.get("time", "")))
    inner = "".join(_element(name, value) for name, value in body.items() if name != "time")
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    return (
        f'{head}<IntuitResponse xmlns="{NAMESPACE}" time={time}>{inner}</IntuitResponse>'.encode()
    )


def _element(name: str, value: Any) -> str:
    if isinstance(value, list):
        return "".join(_element(name, each) for each in value)
    if isinstance(value, dict):
        content = "".join(_element(key, each) for key, each in value.items())
    elif isinstance(value, bool):
        content = str(value).lower()
    else:
        content = "" if value is None else escape(str(value))
    return f"<{name}>{content}</{name}>"
