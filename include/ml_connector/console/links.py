"""Links to a customer in QuickBooks and to a contact in Mailchimp. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_QUICKBOOKS = {
    "": "https://app.qbo.intuit.com",
    "quickbooks.api.intuit.com": "https://app.qbo.intuit.com",
    "sandbox-quickbooks.api.intuit.com": "https://app.sandbox.qbo.intuit.com",
}
_MAILCHIMP = re.compile(r"([a-z]{2,4}\d{1,3})\.api\.mailchimp\.com")


@dataclass(frozen=True, slots=True)
class Apps:
    """Base URLs of both products' own pages; empty where there are none, as in a mock server.

    QuickBooks opens a page in whichever company the browser is signed in to.
    """

    quickbooks: str = ""
    mailchimp: str = ""

    def customer(self, customer_id: str) -> str:
        """Return the URL of a customer's page in QuickBooks, or ``""``."""
        if not self.quickbooks:
            return ""
        return f"{self.quickbooks}/app/customerdetail?nameId={quote(customer_id, safe='')}"

    def contact(self, web_id: int | None) -> str:
        """Return the URL of a contact's page in Mailchimp, or ``""``."""
        if not self.mailchimp or web_id is None:
            return ""
        return f"{self.mailchimp}/lists/members/view?id={web_id}"


def quickbooks_app(api: str) -> str:
    """Return the base URL of QuickBooks' pages by that of its API; ``""`` is production."""
    return _QUICKBOOKS.get(_host(api), "")


def mailchimp_app(api: str) -> str:
    """Return the base URL of Mailchimp's pages by that of its API."""
    found = _MAILCHIMP.fullmatch(_host(api))
    return f"https://{found[1]}.admin.mailchimp.com" if found else ""


def _host(url: str) -> str:
    return urlsplit(url if "://" in url else f"//{url}").hostname or ""
