"""Keys and passwords of the local run: made once, kept with mode 0600 in the state folder."""

import base64
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ADMIN = "admin"


@dataclass(frozen=True, kw_only=True, repr=False)
class Secrets:
    """Everything that must stay the same between runs. Never printed as a whole."""

    fernet_key: str
    jwt_secret: str
    api_secret_key: str
    encryption_keys: str
    index_key: str
    admin_password: str


def keep(home: Path) -> Secrets:
    """Read the secrets of a state folder, making those that are not there yet."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Secrets(
        fernet_key=kept(home / "fernet_key", _fernet_key),
        jwt_secret=kept(home / "jwt_secret", _password),
        api_secret_key=kept(home / "api_secret_key", _password),
        # The names under which the connector itself looks for its keys in a state folder.
        encryption_keys=kept(home / "encryption_keys", _key),
        index_key=kept(home / "index_key", _key),
        admin_password=_admin_password(passwords_file(home)),
    )


def passwords_file(home: Path) -> Path:
    """Return the file in which Airflow's simple login looks up passwords."""
    return home / "airflow_passwords.json"


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in a file, which is made first if it is missing.

    Two starts at once end up with the same secret: the file appears complete or not at all, and
    the first one wins.
    """
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        write_private(draft, make() + "\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text("utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _admin_password(path: Path) -> str:
    passwords = json.loads(kept(path, lambda: json.dumps({ADMIN: secrets.token_urlsafe(12)})))
    return str(passwords[ADMIN])


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")


def _password() -> str:
    return secrets.token_urlsafe(48)
