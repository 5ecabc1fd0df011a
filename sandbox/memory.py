"""Keep what the mock servers remember in a file, so that they can be stopped and started again.

A half names the objects that hold its state; their attributes are written, references between
them and to whatever they are wired to are not. The file belongs to one version of the sandbox and
to one person's machine: it is no format for exchange.
"""

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

Roots = Sequence[object]


class ForgottenError(Exception):
    """The file cannot be read by this version of the sandbox."""


class _Writer(pickle.Pickler):
    def __init__(self, file: IO[bytes], roots: Mapping[int, str]) -> None:
        super().__init__(file)
        self._roots = roots

    def persistent_id(self, thing: object) -> str | None:
        """Name a root instead of writing it, wherever another object refers to it."""
        return self._roots.get(id(thing))


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes], roots: Mapping[str, object]) -> None:
        super().__init__(file)
        self._roots = roots

    def persistent_load(self, name: str) -> object:
        """Put the living object in the place of its name."""
        return self._roots[name]


def save(path: Path, halves: Mapping[str, Roots]) -> None:
    """Write all halves in one step; only the owner may read the file, it holds tokens."""
    roots = _named(halves)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        names = {id(root): name for name, root in roots.items()}
        _Writer(file, names).dump({name: _kept(root) for name, root in roots.items()})
    draft.replace(path)


def load(path: Path, halves: Mapping[str, Roots]) -> None:
    """Give all halves back what ``save`` wrote; does nothing if there is no file.

    Raises:
        ForgottenError: the file is damaged, or of another version.
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
    """A root's attributes, without those that wire it to other objects by functions."""
    return {
        name: value
        for name, value in vars(root).items()
        if not callable(value) and name != "listeners"
    }
