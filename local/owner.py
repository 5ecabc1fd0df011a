"""Who the embedded Postgres runs as when the caller is root, and what that user may reach."""

import contextlib
import os
import pwd
import stat
from pathlib import Path

from local.errors import LocalError


def unprivileged_owner() -> pwd.struct_passwd | None:
    """Return the user that the server runs as for root, which Postgres refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise LocalError("Postgres does not run as root, and there is no user `nobody` to run it as")


def let_pass(owner: pwd.struct_passwd, home: Path, programs: Path) -> None:
    """Let the server's user traverse (not list) its folders and read its programs, as root.

    By default only root can enter root's home, so a clone there could not start otherwise.
    The right to traverse lets no user list a folder or read a closed file.
    """
    for folder in {*home.parents, home, *programs.parents}:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH and folder.stat().st_uid != owner.pw_uid:
            folder.chmod(mode | stat.S_IXOTH)
    for path in programs.parent.rglob("*"):
        mode = path.stat().st_mode
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode:
            path.chmod(wanted)
