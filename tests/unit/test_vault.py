"""Keys at work: what is sealed opens for its own row only, and keys are kept once."""

import base64
import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ml_connector import secret_source
from ml_connector.errors import SettingsError
from ml_connector.secret_source import Secret
from ml_connector.vault import Vault, find_keys, vault_from
from tests.started import program

KEYS = "ML_CONNECTOR_ENCRYPTION_KEYS"
INDEX = "ML_CONNECTOR_INDEX_KEY"
ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))
PERSON = {"email": "ada@firm.net", "fields": {"FNAME": "Ada Lovelace", "CITY": "Zürich"}}


@pytest.fixture(autouse=True)
def without_airflow(monkeypatch):
    """A test beside this one may have added Airflow's places."""
    monkeypatch.setattr(secret_source, "FURTHER", [])


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def vault(*keys: bytes, index: bytes = THREE) -> Vault:
    return Vault(encryption_keys=keys or [ONE], index_key=index)


def test_what_is_sealed_opens_for_the_same_row():
    sealed = vault().encrypt(PERSON, "customers/main/7")
    assert vault().decrypt(sealed, "customers/main/7") == PERSON


def test_a_sealed_payload_shows_nothing_and_never_looks_the_same_twice():
    first, second = (vault().encrypt(PERSON, "customers/main/7") for _ in range(2))
    assert b"ada" not in first.lower()
    assert first != second


@pytest.mark.parametrize("at", [0, 1, 5, 17, -1])
def test_an_altered_payload_does_not_open(at):
    sealed = bytearray(vault().encrypt(PERSON, "customers/main/7"))
    sealed[at] ^= 1
    with pytest.raises(SettingsError):
        vault().decrypt(bytes(sealed), "customers/main/7")


@pytest.mark.parametrize("stump", [b"", b"\x01", b"\x01abcd", b"\x01abcd0123456789ab"])
def test_a_payload_that_is_cut_off_is_refused_in_our_own_words(stump):
    sealed = vault().encrypt(PERSON, "x")
    with pytest.raises(SettingsError):
        vault().decrypt(sealed[: len(stump)], "x")


def test_a_payload_moved_to_another_row_does_not_open_and_the_message_names_the_row():
    sealed = vault().encrypt(PERSON, "customers/main/7")
    with pytest.raises(SettingsError, match="customers/main/8 does not open"):
        vault().decrypt(sealed, "customers/main/8")


def test_without_its_key_a_payload_does_not_open_and_the_message_says_where_the_key_goes():
    sealed = vault(ONE).encrypt(PERSON, "x")
    with pytest.raises(SettingsError, match=f"{KEYS}; add the former key to the end of the list"):
        vault(TWO).decrypt(sealed, "x")


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens():
    before = vault(ONE).encrypt(PERSON, "x")
    rotated = vault(TWO, ONE)
    after = rotated.encrypt(PERSON, "x")
    assert rotated.decrypt(before, "x") == PERSON
    assert vault(TWO).decrypt(after, "x") == PERSON
    with pytest.raises(SettingsError):
        vault(ONE).decrypt(after, "x")


def test_the_blind_index_is_stable_and_differs_by_key_and_by_address():
    assert vault().email_key("ada@firm.net") == vault(TWO).email_key("ada@firm.net")
    assert vault().email_key("ada@firm.net") != vault().email_key("bob@firm.net")
    assert vault().email_key("ada@firm.net") != vault(index=TWO).email_key("ada@firm.net")
    assert len(vault().email_key("ada@firm.net")) == 32


def test_field_hashes_are_equal_for_equal_values_whatever_their_order_and_differ_by_key():
    one, other = {"FNAME": "Ada", "LNAME": ""}, {"LNAME": "", "FNAME": "Ada"}
    assert vault().fields_hash(one) == vault().fields_hash(other)
    assert vault().fields_hash(one) != vault().fields_hash({**one, "LNAME": "L"})
    assert vault().fields_hash(one) != vault(index=TWO).fields_hash(one)


def test_the_index_key_has_a_fingerprint_that_does_not_tell_it():
    assert vault().index_fingerprint == vault(TWO).index_fingerprint
    assert vault().index_fingerprint != vault(index=TWO).index_fingerprint
    assert THREE.hex() not in vault().index_fingerprint


def test_a_vault_does_not_print_its_keys():
    assert repr(vault()) == "Vault(...)"


def test_keys_of_the_environment_are_used_and_nothing_is_written(tmp_path):
    environ = {KEYS: f"{text_of(TWO)}, {text_of(ONE)}", INDEX: text_of(THREE)}
    found = vault_from(environ, tmp_path / "home")
    assert found.decrypt(vault(ONE).encrypt(PERSON, "x"), "x") == PERSON
    assert vault(TWO).decrypt(found.encrypt(PERSON, "x"), "x") == PERSON
    assert not (tmp_path / "home").exists()


def test_keys_are_made_once_for_their_owner_only_and_found_again(tmp_path):
    home = tmp_path / "deep" / "home"
    sealed = vault_from({}, home).encrypt(PERSON, "x")
    assert vault_from({}, home).decrypt(sealed, "x") == PERSON
    files = sorted(path.name for path in home.iterdir())
    assert files == ["encryption_keys", "index_key"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


RACER = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from ml_connector.vault import vault_from
home, go = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
print(vault_from({}, home).index_fingerprint)
"""


@pytest.mark.endurance
def test_processes_that_race_for_the_first_start_end_with_one_key(tmp_path):
    go = tmp_path / "go"
    command = [sys.executable, "-c", RACER, str(tmp_path / "home"), str(go)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "include")}
    with ExitStack() as stack:
        racers = [
            stack.enter_context(program(command, stdout=subprocess.PIPE, text=True, env=environ))
            for _ in range(6)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        go.touch()
        fingerprints = {racer.communicate(timeout=60)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 6
    assert fingerprints == {vault_from({}, tmp_path / "home").index_fingerprint}


@pytest.mark.parametrize(
    ("message", "environ"),
    [
        (f"{KEYS} is set alone", {KEYS: text_of(ONE)}),
        (f"{INDEX} is set alone", {INDEX: text_of(ONE)}),
        (f"{KEYS} is not base64", {KEYS: "not base64!", INDEX: text_of(ONE)}),
        (f"{KEYS} is not base64", {KEYS: "schlüssel", INDEX: text_of(ONE)}),
        (f"{KEYS} needs keys of 32 bytes", {KEYS: "c2hvcnQ=", INDEX: text_of(ONE)}),
        (f"{KEYS} needs keys of 32 bytes", {KEYS: text_of(ONE) + ",", INDEX: text_of(ONE)}),
        (f"{INDEX} needs a key of 32 bytes", {KEYS: text_of(ONE), INDEX: "c2hvcnQ="}),
        (f"{INDEX} is not base64", {KEYS: text_of(ONE), INDEX: "?"}),
    ],
)
def test_keys_that_are_no_keys_are_named_and_not_shown(message, environ, tmp_path):
    with pytest.raises(SettingsError, match=message) as refused:
        vault_from(environ, tmp_path)
    assert not any(value in str(refused.value) for value in environ.values() if len(value) > 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", ["", "no key", "c2hvcnQ="])
def test_a_damaged_key_file_is_named_and_left_as_it_is(left, tmp_path):
    vault_from({}, tmp_path)
    (tmp_path / "encryption_keys").write_text(left)
    with pytest.raises(SettingsError, match="encryption_keys"):
        vault_from({}, tmp_path)
    assert (tmp_path / "encryption_keys").read_text() == left


def test_a_folder_that_cannot_be_written_is_a_settings_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="ML_CONNECTOR_HOME"):
        vault_from({}, tmp_path / "file" / "home")


def test_keys_may_be_in_files(tmp_path):
    """As Docker and Kubernetes give secrets; an editor's last line feed does no harm."""
    environ = {}
    for name in (KEYS, INDEX):
        file = tmp_path / name
        file.write_text(text_of(ONE) + "\n")
        environ[f"{name}_FILE"] = str(file)
    given = {KEYS: text_of(ONE), INDEX: text_of(ONE)}
    sealed = vault_from(given, tmp_path / "none").encrypt(PERSON, "x")
    assert vault_from(environ, tmp_path / "none").decrypt(sealed, "x") == PERSON
    assert not (tmp_path / "none").exists()


def test_a_key_given_twice_is_refused(tmp_path):
    environ = {KEYS: text_of(ONE), f"{KEYS}_FILE": "/dev/null", INDEX: text_of(ONE)}
    with pytest.raises(SettingsError, match=f"{KEYS} and {KEYS}_FILE are both set"):
        vault_from(environ, tmp_path)


def test_a_key_file_that_is_not_there_is_named(tmp_path):
    environ = {f"{KEYS}_FILE": "/nowhere/keys", INDEX: text_of(ONE)}
    with pytest.raises(SettingsError, match=f"{KEYS}_FILE: /nowhere/keys cannot be read"):
        vault_from(environ, tmp_path)


def further(**held: bytes) -> list:
    """A further place, with these keys."""
    known = {f"ML_CONNECTOR_{name}": text_of(key) for name, key in held.items()}
    return [
        {}.get,
        lambda name: Secret(known[name], "a backend") if name in known else None,
    ]


def test_a_further_place_is_asked_where_neither_the_environment_nor_the_home_has_keys(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(secret_source, "FURTHER", further(ENCRYPTION_KEYS=TWO, INDEX_KEY=THREE))
    home, environ = tmp_path / "home", {KEYS: text_of(ONE), INDEX: text_of(THREE)}
    assert [each.place for each in find_keys(environ, home)] == [KEYS, INDEX]
    assert [each.place for each in find_keys({}, home)] == ["a backend"] * 2
    assert vault_from({}, home).decrypt(vault(TWO).encrypt(PERSON, "x"), "x") == PERSON
    assert not home.exists()
    home.mkdir()
    (home / "encryption_keys").write_text(text_of(ONE))
    (home / "index_key").write_text(text_of(THREE))
    assert find_keys({}, home)[0].place == str(home / "encryption_keys")
    assert text_of(ONE) not in repr(find_keys({}, home))


def test_a_further_place_with_one_of_both_keys_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(secret_source, "FURTHER", further(INDEX_KEY=THREE))
    with pytest.raises(SettingsError, match=rf"{INDEX} is set alone \(in a backend\)"):
        vault_from({}, tmp_path / "home")


def test_beside_further_places_no_keys_are_made_but_in_a_folder_that_was_named(
    tmp_path, monkeypatch
):
    """A backend that lost the keys must not lead to data under a key that one machine has."""
    monkeypatch.setattr(secret_source, "FURTHER", further())
    with pytest.raises(SettingsError, match=rf"there are no keys: set {KEYS} and {INDEX}, or"):
        vault_from({}, tmp_path / "home")
    assert list(tmp_path.iterdir()) == []
    vault_from({"ML_CONNECTOR_HOME": str(tmp_path)}, tmp_path)
    assert (tmp_path / "index_key").exists()
