"""Read a YAML file with the lines of its keys."""

from typing import Any

import yaml

from ml_connector.errors import SettingsError
from ml_connector.settings_source import Source

# PyYAML's C loader, if built: each task reads the file, and 200 syncs take 0.04 s instead of 0.4 s.
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Tree = yaml.Node | None
"""The file's nodes, by which a key's line is found."""


def read_yaml(source: Source) -> tuple[object, Tree]:
    """Return what a source holds, and its nodes.

    Raises ``SettingsError`` if it cannot be read, is not YAML, or has a key twice.
    """
    path = source.place
    try:
        text = source.read()
        data = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe one
        tree = yaml.compose(text, Loader=_LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {_one_line(error)}") from None
    _refuse_duplicates(tree, path)
    return data, tree


def line_of(tree: Tree, where: tuple[str, ...]) -> int:
    """Return the line (1-based) of the deepest key of ``where`` that exists in the file."""
    node, line = tree, 1
    for part in where:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == part:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line


def _refuse_duplicates(node: Tree, path: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise SettingsError(f"{path}, line {line}: {key.value} is a duplicate key")
        seen.add(key.value)
        _refuse_duplicates(value, path)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return where + str(getattr(error, "problem", None) or error).split("\n", 1)[0]
