"""`ml-connector audit`, `audit seal`, `audit verify` and `replay`, as a person types them."""

import json
import re

from tests.integration.test_audit_sealed import tamper

AMY = "amy@finch.org"


def test_a_failed_row_is_replayed_sealed_and_verified_and_a_fault_is_named(company, run):
    company.mailchimp_control("PUT", "settings", {"throttled": [AMY]})
    company.customer("Amy", AMY)
    company.sync()
    company.mailchimp_control("PUT", "settings", {"throttled": []})
    assert run("replay")[0] == 2
    code, said = run("replay", "--failed", "--dry-run")
    assert (code, "1 row: main create new_customer parked" in said) == (0, True), said
    assert company.statuses() == {}
    code, said = run("replay", "--failed", "--sync", "main")
    assert (code, "written to Mailchimp: applied 1" in said) == (0, True), said
    assert company.statuses() == {AMY: "subscribed"}
    asked = [entry for entry in company.audit() if entry["action"] == "replay"]
    assert [bool(entry["actor"]) for entry in asked] == [True]
    code, said = run("audit", "verify")
    assert (code, "3 rows are as sealed" in said) == (0, True), said
    tamper(company, "UPDATE ml_connector.audit SET outcome = 'failed' WHERE id = 3")
    code, said = run("audit", "verify")
    assert (code, "row 3: edited" in said) == (1, True), said
    code, said = run("audit", "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in said.splitlines() if line.startswith("{")] == [
        1,
        2,
        3,
    ]
    assert run("audit", "seal")[0] == 0


def test_the_trail_is_filtered_listed_and_a_row_is_shown_with_its_difference(company, run):
    amy = company.customer("Amy", AMY)
    company.customer("Bo", "bo@finch.org")
    company.sync()
    company.edit(amy, GivenName="Amelie")
    company.sync()
    code, said = run("audit", "--action", "update")
    assert code == 0, said
    assert (said.count("(mailchimp)"), "Amelie" in said) == (1, False), said
    code, said = run("audit", "--json", "--email", AMY.upper(), "--limit", "1")
    (line,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (line["action"], line["customer_id"]) == ("update", amy)
    code, said = run("audit", "show", str(line["id"]))
    assert code == 0, said
    assert re.search(r"^~ +FNAME +Amy +Amelie", said, re.MULTILINE), said
    assert run("audit", "--outcome", "parked")[1].strip().endswith("No row matches.")
    assert run("audit", "show", "99999")[0] == 2
