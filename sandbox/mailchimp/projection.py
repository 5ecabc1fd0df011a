"""Partial responses: the `fields` and `exclude_fields` parameters, paths with dots."""

from collections.abc import Iterable
from typing import Any

Tree = dict[str, "Tree"]


def parse(paths: str | None) -> Tree:
    """Parse `members.id,total_items` as a tree; an empty tree asks for nothing."""
    tree: Tree = {}
    for path in (paths or "").split(","):
        branch = tree
        for part in filter(None, path.strip().split(".")):
            branch = branch.setdefault(part, {})
    return tree


def keys(wanted: Tree, unwanted: Tree, available: Iterable[str]) -> list[str]:
    """Return the keys of an object that survive, so that the others need not be built."""
    return [
        key
        for key in available
        if (not wanted or key in wanted) and (key not in unwanted or unwanted[key])
    ]


def project(document: Any, wanted: Tree, unwanted: Tree) -> Any:
    """Project the document on the wanted paths minus the unwanted ones; lists are transparent."""
    if not wanted and not unwanted:
        return document
    if isinstance(document, list):
        return [project(each, wanted, unwanted) for each in document]
    if not isinstance(document, dict):
        return document
    return {
        key: project(document[key], wanted.get(key, {}), unwanted.get(key, {}))
        for key in keys(wanted, unwanted, document)
    }


def goes_below(wanted: Tree, unwanted: Tree) -> bool:
    """Return whether any of the paths reaches into the values of the keys."""
    return any(wanted.values()) or any(unwanted.values())
