"""`ml-connector forget` and `rotate-keys`, as a person types them."""

import base64

import pytest

from ml_connector.errors import SettingsError
from ml_connector.privacy.rotate_keys import count_remaining
from ml_connector.vault import Vault
from ml_connector_airflow.commands import privacy
from tests.integration.conftest import KEY

AMY = "amy@finch.org"
NEW = base64.b64encode(b"n" * 32).decode()


def test_a_person_is_shown_asked_about_erased_and_proven(company, run):
    amy = company.customer("Amy", AMY, FamilyName="Finchley")
    company.sync()
    code, said = run("forget", typed=f"{AMY}\nn\n")
    assert (code, f"main {amy}" in said, "Nothing was done" in said) == (0, True, True), said
    assert company.statuses() == {AMY: "subscribed"}
    code, said = run("forget", "-", "--delete-contact", "--yes", typed=f" {AMY.upper()} \n")
    assert (code, "Mailchimp: 1 deleted" in said) == (0, True), said
    assert "finch" not in said.lower()
    assert company.statuses() == {AMY: "forgotten"}
    rows = company.audit()
    assert [row["action"] for row in rows] == ["create", "delete_contact", "forget"]
    assert [bool(row["actor"]) for row in rows] == [False, True, True]


def test_an_address_on_standard_input_leaves_nobody_to_ask():
    with pytest.raises(SettingsError, match="add --yes"):
        privacy.forget("-")


def test_keys_are_rotated_and_a_missing_one_is_one_plain_sentence(company, run):
    company.customer("Amy", AMY)
    company.sync()
    code, said = run("rotate-keys", keys=NEW)
    assert (code, "add the former key to the end of the list" in said) == (2, True), said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("ml-connector:")]) == 1
    code, said = run("rotate-keys", keys=f"{NEW},{KEY}")
    assert (code, "the others can be removed" in said) == (0, True), said
    alone = Vault(encryption_keys=[b"n" * 32], index_key=base64.b64decode(KEY))
    assert count_remaining(company.database, alone).former == {}
