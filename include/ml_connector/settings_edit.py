"""Edit a settings file: change single keys of a sync, keep comments and everything else.

Written with ruamel.yaml (docs/decisions/0030-ruamel-edits-the-settings.md).
"""

import difflib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import ScalarString
from ruamel.yaml.util import load_yaml_guess_indent

from ml_connector.errors import SettingsError

_HEAD = """\
# Which company feeds which audience, and how. No secrets: those are in Airflow's connections.
# docs/configuration.md explains every key.
syncs:
"""
_SYNC = """\
  {name}:
    # The Airflow connections with the keys of both accounts.
    quickbooks_conn_id: quickbooks_default
    mailchimp_conn_id: mailchimp_default
    # The audience that is written.
    audience_id: ""
    # When a run starts: minute, hour, day, month, weekday. "*/15 * * * *" does without webhooks.
    schedule: "0 2 * * *"
    timezone: UTC
    # The status of a contact that we create. It states the legal basis for mailing:
    #   subscribed     every customer agreed to the newsletter
    #   pending        Mailchimp asks each of them by e-mail
    #   transactional  no newsletter
    new_contact_status: ""
    first_run: ask                      # the first plan waits for your approval; or: write
    adopt: fill_empty                   # members from before: fill_empty | overwrite | skip
    on_member_edit: keep                # values changed in Mailchimp: keep | restore | suggest
    # Merge field: QuickBooks attribute, or a ranked list of them.
    fields: {{}}
    # Every contact of ours carries these.
    tags: []
    on_inactive: archive                # archive | keep | tag
    guard: {{max_archives: 25, max_archive_share: 0.10, max_updates: 100000}}
"""
_PLAIN = 2
"""Spaces by which a level is indented, unless the file uses another number."""


class SettingsEdit:
    """The text of a settings file, changed key by key. ``path`` need not exist yet."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises ``SettingsError`` if it exists and cannot be read, or is no mapping of syncs.
        """
        self.path = path
        try:
            self._before = path.read_text("utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the settings file {path} cannot be read: {error}") from None
        self._load(self._before or _HEAD)

    def _load(self, text: str) -> None:
        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 10_000
        try:
            _, sequence, offset = load_yaml_guess_indent(text)
            self._yaml.indent(mapping=_PLAIN, sequence=sequence or _PLAIN, offset=offset or 0)
            self._data = self._yaml.load(text)
        except YAMLError as error:
            said = str(error).split("\n", 1)[0]
            raise SettingsError(f"{self.path} is not valid YAML: {said}") from None
        if not isinstance(self._data, CommentedMap) or not isinstance(
            self._data.get("syncs") or CommentedMap(), CommentedMap
        ):
            raise SettingsError(
                f"{self.path} has no mapping `syncs`; docs/configuration.md has one"
            )

    @property
    def syncs(self) -> list[str]:
        """Return the names of the syncs in the file."""
        return list(self._data.get("syncs") or ())

    def sync(self, name: str) -> dict[str, Any]:
        """Return what the file says of a sync, empty if it has none of that name."""
        return dict((self._data.get("syncs") or {}).get(name) or {})

    def add_sync(self, name: str) -> None:
        """Add a sync with the default of each key and a comment that explains it."""
        text, block = self.text(), _SYNC.format(name=name)
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines.insert(_end_of_syncs(text), block)
        self._load("".join(lines))

    def put(self, name: str, key: str, value: Any) -> None:
        """Set a key of a sync, unless it says so already."""
        sync = self._data["syncs"][name]
        present = sync.get(key)
        if key == "tags" and isinstance(value, list) and isinstance(present, CommentedMap):
            sync, key, present = present, "static", present.get("static")
        if _plain(present) == value:
            return
        if isinstance(value, Mapping) and isinstance(present, CommentedMap) and present:
            _merge(present, value)
        elif key in sync:
            sync[key] = _written(value, present)
        else:
            _insert(sync, key, _written(value, present))

    def note(self, name: str, key: str, remark: str, *, instead_of: tuple[str, ...] = ()) -> None:
        """Put a remark behind a key that has none, or has one of ``instead_of``."""
        sync = self._data["syncs"][name]
        tokens = sync.ca.items.get(key) or [None] * 3
        there, _, below = (tokens[2].value if tokens[2] else "").partition("\n")
        present = there.strip("# ")
        if present in ("", *instead_of) and present != remark:
            if tokens[2]:
                tokens[2].value = f"# {remark}\n{below}"
            else:
                sync.yaml_add_eol_comment(remark, key)

    def text(self) -> str:
        """Return the file's text with the changes."""
        if not self._data.get("syncs"):
            return self._before or _HEAD
        stream = io.StringIO()
        self._yaml.dump(self._data, stream)
        return stream.getvalue()

    def diff(self) -> str:
        """Return what changes, as a unified diff; empty if nothing does."""
        before, after = self._before.splitlines(), self.text().splitlines()
        return "\n".join(difflib.unified_diff(before, after, "before", "after", lineterm="", n=1))

    def save(self) -> None:
        """Write the file. Raises ``SettingsError`` if that fails."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text(), "utf-8")
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written: {error.strerror}") from None


def _end_of_syncs(text: str) -> int:
    """Return the number of lines up to the end of the last sync."""
    tree = yaml.compose(text)
    for key, value in tree.value if isinstance(tree, yaml.MappingNode) else ():
        if key.value == "syncs" and isinstance(value, yaml.MappingNode) and value.value:
            last = value.value[-1][1]
            ends_below = isinstance(last, yaml.MappingNode) and not last.flow_style
            lines = text.splitlines()[: last.end_mark.line + (not ends_below)]
            while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
                lines.pop()  # what stands before the next key belongs to it
            return len(lines)
        if key.value == "syncs":
            return int(key.end_mark.line) + 1
    return len(text.splitlines())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, str) else value


def _written(value: Any, present: Any) -> Any:
    """Return a value as it is to be written: quoted and folded as the present one is."""
    if isinstance(value, str) and isinstance(present, ScalarString):
        return type(present)(value)
    if isinstance(value, list):
        listed = CommentedSeq(value)
        if not isinstance(present, CommentedSeq) or present.fa.flow_style() or not present:
            listed.fa.set_flow_style()
        return listed
    if isinstance(value, Mapping):
        return CommentedMap({key: _written(each, None) for key, each in value.items()})
    return value


def _merge(present: CommentedMap, wanted: Mapping[str, Any]) -> None:
    for key in [key for key in present if key not in wanted]:
        del present[key]
    for key, value in wanted.items():
        if key not in present:
            _insert(present, key, _written(value, None))
        elif _plain(present[key]) != value:
            present[key] = _written(value, present[key])


def _insert(mapping: CommentedMap, key: str, value: Any) -> None:
    """Add a key before the last one: comments below the last key belong to what follows."""
    mapping.insert(max(0, len(mapping) - 1), key, value)
