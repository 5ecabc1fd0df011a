"""D8: what is wrong with the connections, told in one sentence, before anything is written."""

import pytest

from ml_connector.errors import ConnectorError
from sandbox.ports import free_port
from tests.integration.company import control


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


WRONG = {
    "client secret": ({"client_secret": "mistyped"}, "client id or client secret is wrong"),
    "realm": ({"realm": "1234567890"}, "Check that realm_id is the company that was connected"),
    "QuickBooks' path": ({"quickbooks_api": "{quickbooks}/v3"}, "host is QuickBooks' API|token_url"),
    "QuickBooks' host": ({"quickbooks_api": "{nobody}"}, "QuickBooks: .* check the connection's host"),
    "QuickBooks' name": (
        {"quickbooks_api": "https://no-such-host.invalid"},
        "QuickBooks: no-such-host.invalid cannot be reached; check the connection's host",
    ),
    "API key": ({"mailchimp_key": "mistyped-us99"}, "check the connection's password"),
    "OAuth token": ({"mailchimp_key": "mistyped"}, "check the connection's password"),
    "key with a line break": ({"mailchimp_key": "sandbox\n"}, "connection's password"),
    "Mailchimp's path": ({"mailchimp_api": "{mailchimp}/2.0"}, "ends in /3.0"),
    "Mailchimp's host": ({"mailchimp_api": "{nobody}/3.0"}, "Mailchimp: .* check the connection's host"),
    "Mailchimp's name": (
        {"mailchimp_api": "https://us999.api.mailchimp.invalid/3.0"},
        "Mailchimp: us999.api.mailchimp.invalid cannot be reached; check the connection's host",
    ),
    "Mailchimp's host is no URL": ({"mailchimp_api": "http://[us99/3.0"}, "the connection's host is not a URL"),
    "audience": ({"settings": {"new_contact_status": "subscribed", "audience_id": "zzz"}}, "no audience zzz"),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "words"), WRONG.values(), ids=WRONG)
def test_d8_a_wrong_connection_stops_the_run_with_what_to_change(company, wrong, words):
    company.customer("Amy", "amy@finch.org")
    places = {"quickbooks": company.quickbooks, "mailchimp": company.mailchimp, "nobody": nobody()}
    for name, value in wrong.items():
        setattr(company, name, value.format(**places) if isinstance(value, str) else value)
    with pytest.raises(ConnectorError, match=words) as stopped:
        company.sync()
    told = str(stopped.value)
    assert "\n" not in told
    assert "mistyped" not in told
    assert control(company.mock_servers.mailchimp, "GET", "journal?write=true")["calls"] == []
