"""Intuit's consent page for QuickBooks.

https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/oauth-2.0
"""

from urllib.parse import urlsplit

from ml_connector.wire.consent import ConsentPage

PAGE = ConsentPage(
    system="QuickBooks",
    owner="Intuit",
    url="https://appcenter.intuit.com/connect/oauth2",
    loopback="localhost",
    scope="com.intuit.quickbooks.accounting",
    names_company=True,
)


def page_beside(token_url: str) -> str:
    """Return the consent page on the host of a ``token_url``; empty if that is Intuit's."""
    origin = urlsplit(token_url)
    if not token_url or (origin.hostname or "").endswith(".intuit.com"):
        return ""
    return f"{origin.scheme}://{origin.netloc}/connect/oauth2"
