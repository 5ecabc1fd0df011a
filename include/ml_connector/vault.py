"""Encryption: payloads, the blind index of addresses, and keyed hashes of fields.

Payloads are AES-256-GCM (NIST SP 800-38D) with the row's identity as associated data. A payload
copied to another row therefore fails to decrypt. Encrypted form, in bytes::

    0      version, 1
    1..5   key id: first four bytes of SHA-256 of the key
    5..17  nonce, random
    17..   ciphertext and 16-byte tag

Several keys may be active: the first encrypts, all decrypt. So keys can be rotated row by row.
"""

import base64
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from ml_connector import secret_source
from ml_connector.errors import SettingsError
from ml_connector.secret_source import Secret, find_further, find_secret

KEY_BYTES = 32
"""Every key has this many bytes."""
NONCE_BYTES = 12
"""An AES-GCM nonce has this many bytes. It is random, so a key serves 2**32 payloads (NIST SP
800-38D, 8.3)."""
KEYS_VARIABLE = "ML_CONNECTOR_ENCRYPTION_KEYS"
"""This variable holds the encryption keys in base64, separated by commas, newest first."""
INDEX_VARIABLE = "ML_CONNECTOR_INDEX_KEY"
"""This variable holds the index key in base64."""
KEYS_FILE, INDEX_FILE = "encryption_keys", "index_key"
"""The files under ``ML_CONNECTOR_HOME`` that hold the same."""
_VERSION = b"\x01"
_encoder = msgspec.json.Encoder()
_sorted_encoder = msgspec.json.Encoder(order="deterministic")


class Vault:
    """Encrypts and decrypts payloads, and computes blind indexes. Its repr hides the keys.

    Raises ``SettingsError`` if there is no encryption key, or if a key is not 32 bytes long.
    """

    def __init__(self, *, encryption_keys: Sequence[bytes], index_key: bytes) -> None:
        if not encryption_keys or any(len(key) != KEY_BYTES for key in encryption_keys):
            raise SettingsError(f"{KEYS_VARIABLE} needs keys of {KEY_BYTES} bytes in base64")
        if len(index_key) != KEY_BYTES:
            raise SettingsError(f"{INDEX_VARIABLE} needs a key of {KEY_BYTES} bytes in base64")
        self._ciphers = {_key_id(key): AESGCM(key) for key in encryption_keys}
        self._newest = _key_id(encryption_keys[0])
        self._index = _KeyedHash(index_key)
        self._fields = _KeyedHash(self._index.of(b"fields"))
        self._seals = _KeyedHash(self._index.of(b"audit seals"))

    def __repr__(self) -> str:
        return "Vault(...)"

    def encrypt(self, value: Any, identity: str) -> bytes:
        """Return ``value`` (JSON-able) encrypted for the row named ``identity``."""
        return self._encrypted(_encoder.encode(value), identity, secrets.token_bytes(NONCE_BYTES))

    def encrypt_each(self, values: Sequence[tuple[Any, str]]) -> list[bytes]:
        """Return each of (value, identity) as ``encrypt`` does, with one request for randomness."""
        random = secrets.token_bytes(NONCE_BYTES * len(values))
        return [
            self._encrypted(_encoder.encode(value), identity, random[at : at + NONCE_BYTES])
            for at, (value, identity) in zip(count(0, NONCE_BYTES), values, strict=False)
        ]

    def decrypt(self, sealed: bytes, identity: str) -> Any:
        """Return the value encrypted for ``identity``.

        Raises ``SettingsError`` if its key is missing, or if the payload was altered or moved.
        """
        return msgspec.json.decode(self.decrypt_encoded(sealed, identity))

    def reencrypt(self, sealed: bytes, identity: str) -> bytes:
        """Return the same value encrypted under the newest key.

        Raises ``SettingsError`` as ``decrypt`` does.
        """
        encoded = self.decrypt_encoded(sealed, identity)
        return self._encrypted(encoded, identity, secrets.token_bytes(NONCE_BYTES))

    @property
    def newest(self) -> bytes:
        """Return the id of the key that encrypts: bytes 1 to 5 of the payloads it encrypts."""
        return self._newest

    def has(self, key_id: bytes) -> bool:
        """Return whether a key is available."""
        return key_id in self._ciphers

    def _encrypted(self, encoded: bytes, identity: str, nonce: bytes) -> bytes:
        sealed = self._ciphers[self._newest].encrypt(nonce, encoded, identity.encode())
        return _VERSION + self._newest + nonce + sealed

    def decrypt_encoded(self, sealed: bytes, identity: str) -> bytes:
        """Return the JSON of the value encrypted for ``identity``, as ``decrypt`` does."""
        cipher = self._ciphers.get(bytes(sealed[1:5]))
        if bytes(sealed[:1]) != _VERSION or cipher is None:
            raise SettingsError(
                f"a stored payload was sealed with a key that is not in {KEYS_VARIABLE}; "
                "add the former key to the end of the list"
            )
        try:
            return cipher.decrypt(bytes(sealed[5:17]), bytes(sealed[17:]), identity.encode())
        except (InvalidTag, ValueError):  # ValueError: truncated within the nonce
            raise SettingsError(
                f"the stored payload of {identity} does not open: altered, or moved to this row"
            ) from None

    def email_key(self, address: str) -> bytes:
        """Return the blind index of a normalised address: HMAC-SHA256, 32 bytes."""
        return self._index.of(address.encode())

    def fields_hash(self, value: Any) -> bytes:
        """Return a keyed hash (16 bytes) that is equal for equal JSON values."""
        return self._fields.of(_sorted_encoder.encode(value))[:16]

    def audit_mac(self, content: bytes) -> bytes:
        """Return a keyed hash (32 bytes) under a key that serves only the audit's seals."""
        return self._seals.of(content)

    @cached_property
    def index_fingerprint(self) -> str:
        """Return a fingerprint that identifies the index key without revealing it.

        Every process must have the same one.
        """
        return self._index.of(b"fingerprint")[:8].hex()


class _KeyedHash:
    """HMAC-SHA256 (RFC 2104) under one key. Setup, most of the work for short texts, runs once."""

    def __init__(self, key: bytes) -> None:
        self._keyed = HMAC(key, SHA256())

    def of(self, content: bytes) -> bytes:
        """Return the hash (32 bytes)."""
        keyed = self._keyed.copy()
        keyed.update(content)
        return keyed.finalize()


def vault_from(environ: Mapping[str, str], home: Path) -> Vault:
    """Return the vault with the keys in use (``find_keys``).

    Raises ``SettingsError`` as that does, or if a key is not 32 bytes in base64.
    """
    keys, index = find_keys(environ, home)
    try:
        return Vault(
            encryption_keys=[_decoded(key, KEYS_VARIABLE) for key in keys.text.split(",")],
            index_key=_decoded(index.text, INDEX_VARIABLE),
        )
    except SettingsError as error:
        if keys.place != str(home / KEYS_FILE):
            raise
        raise SettingsError(
            f"{KEYS_FILE} or {INDEX_FILE} in {home} is damaged ({error.message}); restore the"
            " file, since what was sealed with a lost key cannot be opened again"
        ) from None


def find_keys(environ: Mapping[str, str], home: Path) -> tuple[Secret, Secret]:
    """Return the encryption keys and the index key, each with its place.

    Both are in the first of these: the environment or the files it names, files under ``home``,
    further places (Airflow's secrets backends). Keys that are nowhere are generated under ``home``,
    which serves one machine only. In addition to further places this needs ``ML_CONNECTOR_HOME``: a
    worker must not make keys of its own because a backend lost the shared ones.

    Raises ``SettingsError`` if only one of both is set, if both are nowhere, or if a file cannot be
    read or made.
    """
    files = [home / KEYS_FILE, home / INDEX_FILE]
    made = any(file.exists() for file in files)
    found = {name: find_secret(environ, name) for name in (KEYS_VARIABLE, INDEX_VARIABLE)}
    if not made and not any(found.values()):
        found = {name: find_further(name) for name in found}
    match [(name, secret) for name, secret in found.items() if secret]:
        case [(_, keys), (_, index)]:
            return keys, index
        case [(name, secret)]:
            where = "" if secret.place == name else f" (in {secret.place})"
            raise SettingsError(
                f"{name} is set alone{where}; set {KEYS_VARIABLE} and {INDEX_VARIABLE}"
            )
        case [] if not made and secret_source.FURTHER and not environ.get("ML_CONNECTOR_HOME"):
            raise SettingsError(
                f"there are no keys: set {KEYS_VARIABLE} and {INDEX_VARIABLE}, or put both into"
                " Airflow's secrets backend, or set ML_CONNECTOR_HOME to the folder that holds them"
            )
    try:
        keys, index = (Secret(_kept(file), str(file)) for file in files)
    except OSError as error:
        raise SettingsError(
            f"the keys under ML_CONNECTOR_HOME cannot be read or made: {error}"
        ) from None
    return keys, index


def _kept(path: Path) -> str:
    """Return the key in ``path``; generate it with mode 0600 if the file is missing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(fresh)
        try:
            os.link(draft, path)  # atomic, and the first of two racing processes wins
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:  # covers binascii.Error and non-ASCII text
        raise SettingsError(f"{name} is not base64") from None


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:4]
