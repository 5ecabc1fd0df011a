"""What stands in front of the QuickBooks API: tokens, companies, limits, formats."""

import pytest
import requests


def test_every_answer_carries_a_transaction_id(quickbooks):
    for path in ("customer/1", "customer/999", "nowhere"):
        assert quickbooks.get(path).headers["intuit_tid"].startswith("1-")
    assert "intuit_tid" in quickbooks.refresh("wrong").headers


def test_an_expired_token_is_a_401_in_the_gateways_envelope_and_echoed(quickbooks):
    token = quickbooks.session.headers["Authorization"].removeprefix("Bearer ")
    quickbooks.control.post("tokens/expire")
    answer = quickbooks.get("customer/1")
    error = answer.json()["fault"]["error"][0]
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Intuit", error="invalid_token"'
    assert (error["code"], error["detail"]) == ("3200", f"Token expired: {token}")
    assert error["message"] == "message=AuthenticationFailed; errorCode=003200; statusCode=401"
    assert isinstance(answer.json()["time"], int)
    assert quickbooks.refresh().status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Basic abc"])
def test_a_missing_or_malformed_token_is_a_401(quickbooks, header):
    quickbooks.session.headers["Authorization"] = header
    assert quickbooks.get("customer/1").status_code == 401


def test_another_company_is_a_403(quickbooks):
    answer = quickbooks.session.get(f"{quickbooks.url}/v3/company/1/customer/1", timeout=10)
    fault = answer.json()["fault"]
    assert (answer.status_code, fault["type"], fault["error"][0]["code"]) == (
        403,
        "SERVICE",
        "3100",
    )


def test_a_revoked_connection_is_a_401_and_an_invalid_grant(quickbooks):
    quickbooks.control.post("tokens/revoke")
    assert quickbooks.get("customer/1").status_code == 401
    assert quickbooks.refresh().json()["error"] == "invalid_grant"


def test_an_eleventh_request_in_a_second_is_throttled_when_limits_are_on(quickbooks):
    quickbooks.control.put("settings", enforce_limits=True)
    answers = [quickbooks.get("customer/1") for _ in range(11)]
    assert [a.status_code for a in answers] == [200] * 10 + [429]
    assert answers[-1].json()["fault"]["error"][0] == {
        "message": "message=ThrottleExceeded; errorCode=003001; statusCode=429",
        "detail": "The request limit was reached.  Try again later",
        "code": "3001",
        "element": None,
    }


def test_who_does_not_ask_for_json_gets_xml(quickbooks):
    quickbooks.session.headers["Accept"] = "*/*"
    answer = quickbooks.get("customer/1")
    assert answer.headers["Content-Type"].startswith("application/xml")
    assert "<DisplayName>Amy's Bird Sanctuary</DisplayName>" in answer.text


@pytest.mark.parametrize("path", ["invoice/1", "nowhere", "customers"])
def test_an_unknown_path_is_fault_500_in_a_400(quickbooks, path):
    answer = quickbooks.get(path)
    assert (answer.status_code, answer.json()["Fault"]["Error"][0]["code"]) == (400, "500")


def test_the_discovery_document_points_back_at_the_mock_server(quickbooks):
    found = requests.get(quickbooks.discovery_url, timeout=10).json()
    for name in ("authorization_endpoint", "token_endpoint", "revocation_endpoint"):
        assert found[name].startswith(quickbooks.url)
