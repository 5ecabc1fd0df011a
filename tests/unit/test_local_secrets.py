"""Keys of the local run are made once, and only their owner can read them."""

import base64
import stat

import pytest

from local import lock
from local.errors import LocalError
from local.prepare import digest, merge
from local.secrets import keep, kept, write_private


def test_secrets_stay_the_same_between_runs(tmp_path):
    first, second = keep(tmp_path / "state"), keep(tmp_path / "state")
    assert first == second


def test_every_secret_file_is_readable_by_its_owner_only(tmp_path):
    home = tmp_path / "state"
    keep(home)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "fernet_key" in modes


def test_the_connectors_keys_are_32_bytes(tmp_path):
    secrets = keep(tmp_path)
    assert {32} == {len(base64.b64decode(k)) for k in (secrets.encryption_keys, secrets.index_key)}


def test_secrets_are_not_shown_by_printing(tmp_path):
    secrets = keep(tmp_path)
    assert secrets.fernet_key not in repr(secrets)


def test_a_key_that_is_there_is_never_made_anew(tmp_path):
    write_private(tmp_path / "key", "mine\n")
    assert kept(tmp_path / "key", lambda: "other") == "mine"


def test_a_field_nobody_touched_follows_the_settings():
    """The sandbox's port changed: the connection follows."""
    written = {"host": digest("http://a:1"), "login": digest("me")}
    present = {"host": "http://a:1", "login": "me"}
    assert merge({"host": "http://a:2", "login": "me"}, present, written) == {
        "host": "http://a:2",
        "login": "me",
    }


def test_a_field_that_a_person_changed_stays():
    written = {"login": digest("me"), "host": digest("http://a:1")}
    present = {"login": "someone else", "host": "http://a:1"}
    merged = merge({"login": "me", "host": "http://a:2"}, present, written)
    assert merged == {"login": "someone else", "host": "http://a:2"}


def test_a_field_that_a_person_added_or_emptied_stays_so():
    assert merge({}, {"extra.proxy": "x"}, {}) == {"extra.proxy": "x"}
    assert merge({"login": "me"}, {}, {"login": digest("me")}) == {}


def test_a_second_run_in_the_same_folder_is_refused_by_name(tmp_path):
    with lock.only_run(tmp_path), pytest.raises(LocalError, match="still running"):  # noqa: SIM117
        with lock.only_run(tmp_path):
            pass


def test_a_lock_ends_with_its_run(tmp_path):
    for _ in range(2):
        with lock.only_run(tmp_path):
            pass
