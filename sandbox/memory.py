"""Keep the state of the mock servers in a file, so that it survives a restart.

Each half names the objects that hold its state. Their attributes are written. References to them,
and what they are wired to, are not. The file is private to one machine. A later version reads it:
fields that it lacks have the value of a new object (`Remembered`).
"""

import os
import pickle
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import IO, Any, Self

Roots = Sequence[object]


class ForgottenError(Exception):
    """This version of the sandbox cannot read the file."""


class Remembered:
    """An object that a state file holds, whichever version wrote the file.

    Fields that the file lacks have the value they have in a new object.
    """

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(vars(self.renew(kept)) | kept)

    @classmethod
    def renew(cls, kept: dict[str, Any]) -> Self:
        """Make a new object; arguments without a default are attributes of the same name.

        Raises:
            KeyError: the file lacks such an attribute.
        """
        needed = [
            each.name for each in signature(cls).parameters.values() if each.default is each.empty
        ]
        return cls(**{name: kept[name] for name in needed})


class _Writer(pickle.Pickler):
    def __init__(self, file: IO[bytes], roots: Mapping[int, str]) -> None:
        super().__init__(file)
        self._roots = roots

    def persistent_id(self, thing: object) -> str | None:
        """Write a root's name in place of a reference to it."""
        return self._roots.get(id(thing))


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes], roots: Mapping[str, object]) -> None:
        super().__init__(file)
        self._roots = roots

    def persistent_load(self, name: str) -> object:
        """Put the root itself in the place of its name."""
        return self._roots[name]


def save(path: Path, halves: Mapping[str, Roots]) -> None:
    """Write all halves in one step. The file holds tokens, so only its owner may read it."""
    roots = _named(halves)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        names = {id(root): name for name, root in roots.items()}
        _Writer(file, names).dump({name: _kept(root) for name, root in roots.items()})
    draft.replace(path)


def load(path: Path, halves: Mapping[str, Roots]) -> None:
    """Restore what ``save`` wrote. Without a file, do nothing.

    Raises:
        ForgottenError: the file is damaged, or this version cannot read it.
    """
    if not path.exists():
        return
    roots = _named(halves)
    try:
        with path.open("rb") as file:
            kept: dict[str, dict[str, Any]] = _Reader(file, roots).load()
    except (
        pickle.UnpicklingError,
        *(AttributeError, ImportError, EOFError, KeyError, TypeError),
    ) as error:
        raise ForgottenError(f"{path} is damaged or of another version; remove it") from error
    if kept.keys() != roots.keys():
        raise ForgottenError(f"{path} is of another version; remove it")
    for name, root in roots.items():
        vars(root).update(kept[name])


def _named(halves: Mapping[str, Roots]) -> dict[str, object]:
    return {
        f"{half}.{number}": root
        for half, roots in halves.items()
        for number, root in enumerate(roots)
    }


def _kept(root: object) -> dict[str, Any]:
    """Return a root's attributes without functions, which wire it to other objects."""
    return {
        name: value
        for name, value in vars(root).items()
        if not callable(value) and name != "listeners"
    }
