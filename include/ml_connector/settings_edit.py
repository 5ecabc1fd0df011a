"""Edit a settings file: change single keys of a sync, keep every other byte.

The text is spliced where PyYAML's nodes say that a value is
(docs/decisions/0030-edit-the-settings-as-text.md).
"""

import difflib
import errno
import os
import stat
import tempfile
from copy import deepcopy
from io import FileIO
from pathlib import Path
from typing import Any

import yaml

from ml_connector.errors import SettingsError
from ml_connector.settings import syncs_in
from ml_connector.settings_source import Source
from ml_connector.yaml_splice import (
    Alias,
    Splice,
    compose,
    content_end,
    inline,
    is_same,
    line_end,
    pair_of,
    put_splices,
    spliced,
)

_HEAD = """\
# Which company feeds which audience, and how. No secrets: those are in Airflow's connections.
# docs/reference/configuration.md explains every key.
syncs:
"""
_SYNC = """\
  {name}:
    # The Airflow connections with the keys of both accounts.
    quickbooks_conn_id: quickbooks_default
    mailchimp_conn_id: mailchimp_default
    # The audience that is written.
    audience_id: ""
    # When a run starts: minute, hour, day, month, weekday. "*/15 * * * *" if you do not use webhooks.
    schedule: "0 4 * * *"
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

_MODE = 0o644
"""The permissions of a new file."""


class SettingsEdit:
    """The text of a settings file, changed key by key. ``path`` need not exist yet."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises ``SettingsError`` if it exists and cannot be read, or is no mapping of syncs.
        """
        self.path = path
        try:
            self._before = path.read_bytes().decode("utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the settings file {path} cannot be read: {error}") from None
        lines = self._before.count("\n")
        self._windows = 0 < lines == self._before.count("\r\n")
        text = self._before.replace("\r\n", "\n") if self._windows else self._before
        self._load(text + "\n" if text and not text.endswith("\n") else text or _HEAD)
        self._read = self._text

    def _load(self, text: str) -> None:
        try:
            tree, data = compose(text), yaml.safe_load(text)
        except yaml.YAMLError as error:
            said = " ".join(str(error).split())
            raise SettingsError(f"{self.path} is not valid YAML: {said}") from None
        syncs = data.get("syncs") if isinstance(data, dict) else None
        if not isinstance({} if data is None else data, dict) or not isinstance(syncs or {}, dict):
            raise SettingsError(
                f"{self.path} has no mapping `syncs`; docs/reference/configuration.md has one"
            )
        self._text, self._tree, self._data = text, tree, data or {}

    @property
    def syncs(self) -> list[str]:
        """Return the names of the syncs in the file."""
        return [str(name) for name in self._data.get("syncs") or ()]

    def sync(self, name: str) -> dict[str, Any]:
        """Return what the file says of a sync, empty if it has none of that name.

        Raises ``SettingsError`` if that is no mapping.
        """
        found = (self._data.get("syncs") or {}).get(name) or {}
        if not isinstance(found, dict):
            raise SettingsError(f"{self.path}: syncs.{name} is no mapping of settings")
        return dict(found)

    def add_sync(self, name: str) -> None:
        """Add a sync with the default of each key and a comment that explains it.

        Raises ``SettingsError`` if the file's syncs are in braces.
        """
        first, *body = _SYNC.format(name=name).splitlines(keepends=True)
        found = pair_of(self._tree, "syncs")
        if found is None:
            self._load(f"{self._text}syncs:\n")
            return self.add_sync(name)
        key, syncs = found
        column, step = key.start_mark.column + _PLAIN, _PLAIN
        if isinstance(syncs, yaml.MappingNode) and syncs.value:
            if syncs.flow_style:
                raise SettingsError(f"{self.path}: `syncs` is in braces; write one sync per line")
            column, step = syncs.value[0][0].start_mark.column, self._step()
        if empty := pair_of(syncs, name):
            key, syncs = empty
        lines = [" " * (column + step) + line[4:] for line in body]
        if not empty:
            lines.insert(0, " " * column + first[2:])
        if isinstance(syncs, yaml.MappingNode) and syncs.value:
            place = line_end(self._text, content_end(self._text, syncs))
            return self._splice([Splice(place, place, "".join(lines))])
        colon = self._text.index(":", key.end_mark.index) + 1
        end = max(colon, syncs.end_mark.index)
        place = line_end(self._text, end)
        return self._splice([Splice(colon, end, ""), Splice(place, place, "".join(lines))])

    def put(self, name: str, key: str, value: Any) -> None:
        """Set a key of a sync, unless it says so already.

        What anchors share with other syncs is copied: they keep their values.
        Raises ``SettingsError`` if they cannot.
        """
        text, before = self._text, deepcopy(self._data)
        present = self.sync(name).get(key)
        if key == "tags" and isinstance(value, list) and isinstance(present, dict):
            value = {**present, "static": value}
        if is_same(present, value):
            return
        if name not in self.syncs:
            raise SettingsError(f"{self.path} has no sync {name}")
        try:
            alone = self._put_alone(before, name, key, value)
        except SettingsError:  # the new text is no YAML
            alone = False
        if not alone:
            self._load(text)
            raise SettingsError(
                f"{self.path}: {key} of {name} cannot be changed alone, as an anchor or an unusual"
                " layout ties it to other settings; change it by hand"
            )

    def _put_alone(self, before: dict[str, Any], name: str, key: str, value: Any) -> bool:
        """Set a key; give other syncs back what changed. Return whether nothing else differs."""
        self._put(name, key, value)
        for other, body in before["syncs"].items():
            if other == name or not isinstance(body, dict):
                continue
            for each, kept in body.items():
                if self.sync(other).get(each) != kept:
                    self._put(other, each, kept)
        now = deepcopy(self._data)
        written = now["syncs"][name].pop(key, None)
        before["syncs"][name] = {**(before["syncs"][name] or {})}
        before["syncs"][name].pop(key, None)
        return bool(now == before) and is_same(written, value)

    def _put(self, name: str, key: str, value: Any) -> None:
        found = pair_of(self._syncs_node(), name)
        if found is None:
            raise SettingsError(f"{self.path}: sync {name} is behind an anchor")
        node = found[1]
        if isinstance(node, Alias):
            start, end = node.start_mark.index, node.end_mark.index
            self._splice([Splice(start, end, f"{{<<: {self._text[start:end]} }}")])
            return self._put(name, key, value)
        if not isinstance(node, yaml.MappingNode) or not node.value:
            start = max(self._text.index(":", found[0].end_mark.index) + 1, node.start_mark.index)
            self._splice([Splice(start, node.end_mark.index, " {" + inline({key: value})[1:])])
            return None
        present = self.sync(name).get(key)
        self._splice(put_splices(self._text, node, key, present, value, self._step()))
        return None

    def note(self, name: str, key: str, remark: str, *, instead_of: tuple[str, ...] = ()) -> None:
        """Put a remark behind a key that has none, or has one of ``instead_of``."""
        sync = pair_of(self._syncs_node(), name)
        found = pair_of(sync[1], key) if sync else None
        if sync is None or found is None or sync[1].flow_style:
            return
        end = content_end(self._text, found[1])
        rest = self._text[end : line_end(self._text, end)].rstrip("\r\n")
        present = rest.strip().strip("# ")
        remark = " ".join(remark.split())
        if rest.strip() and not rest.lstrip().startswith("#"):
            return
        if present in ("", *instead_of) and present != remark:
            gap = rest[: len(rest) - len(rest.lstrip())] if rest.strip() else "  "
            self._splice([Splice(end, end + len(rest), f"{gap}# {remark}")])

    def _syncs_node(self) -> Any:
        found = pair_of(self._tree, "syncs")
        return found[1] if found else None

    def _step(self) -> int:
        """Return the file's indentation: of the first sync's keys below its name."""
        found = pair_of(self._tree, "syncs")
        if not found or not isinstance(found[1], yaml.MappingNode) or not found[1].value:
            return _PLAIN
        for key, value in found[1].value:
            if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
                return int(value.value[0][0].start_mark.column - key.start_mark.column)
        if found[1].flow_style:
            return _PLAIN
        return int(found[1].value[0][0].start_mark.column - found[0].start_mark.column)

    def _splice(self, splices: list[Splice]) -> None:
        self._load(spliced(self._text, splices))

    def text(self) -> str:
        """Return the file's text with the changes, with the line ends that it had."""
        if self._before and self._text == self._read:
            return self._before
        return self._text.replace("\n", "\r\n") if self._windows else self._text

    def diff(self) -> str:
        """Return what changes, as a unified diff; empty if nothing does."""
        before, after = self._before.splitlines(), self.text().splitlines()
        return "\n".join(difflib.unified_diff(before, after, "before", "after", lineterm="", n=1))

    def check(self) -> None:
        """Read the new text as a run would. Raises ``SettingsError`` if it is not valid."""
        syncs_in(Source(str(self.path), text=self.text()))

    def save(self) -> None:
        """Write the file, if a run could read it: at once, or in place where it cannot be replaced.

        Raises ``SettingsError`` if it is not valid, was changed meanwhile or cannot be written.
        """
        self.check()
        path = self.path.resolve()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            there = path.read_bytes().decode("utf-8") if path.exists() else ""
            if there != self._before:
                raise SettingsError(f"{self.path} was changed meanwhile; give the command again")
            mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _MODE
            _write(path, self.text().encode("utf-8"), mode)
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{self.path} was changed meanwhile") from None


_IN_PLACE = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
"""A single mounted file, or a file in another user's folder, cannot be replaced."""


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file; write it in place where that cannot be."""
    try:
        _replace(path, content, mode)
    except OSError as error:
        if error.errno not in _IN_PLACE or not path.exists():
            raise
        _overwrite(path, content)


def _overwrite(path: Path, content: bytes) -> None:
    """Write a file in place. If that fails, its former content comes back."""
    with path.open("r+b", buffering=0) as file:
        before = file.readall()
        try:
            _fill(file, content)
        except OSError:
            _fill(file, before)
            raise


def _fill(file: FileIO, content: bytes) -> None:
    file.seek(0)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate()
    os.fsync(file.fileno())


def _replace(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
