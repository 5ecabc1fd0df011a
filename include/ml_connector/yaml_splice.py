"""Splice values into a YAML text, at the places of its nodes."""

import json
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import yaml

_PLAIN = re.compile(r"[^\W\d_][\w./@-]*( [\w./@-]*[\w/@.])*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}
"""What YAML 1.1 or a reader of it takes for another type, in any case."""
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")


class Splice(NamedTuple):
    """A part of a text, and what takes its place."""

    start: int
    end: int
    text: str


class Alias(yaml.ScalarNode):
    """The place of an alias, which PyYAML replaces by the anchor's node."""

    flow_style = True


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        event = self.peek_event()  # type: ignore[no-untyped-call]
        super().compose_node(parent, index)
        return Alias("alias", event.anchor, event.start_mark, event.end_mark)


def compose(text: str) -> Any:
    """Return the root node of a text, None if it has none. Raises ``yaml.YAMLError``."""
    return yaml.compose(text, Loader=_Loader)


def spliced(text: str, splices: Sequence[Splice]) -> str:
    """Return the text after all splices, whose places are those before any of them.

    The text ends with a line end.
    """
    for start, end, new in sorted(splices, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def pair_of(node: Any, key: str) -> tuple[Any, Any] | None:
    """Return the nodes of a key and its value in a mapping's node, None if it has no such key."""
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            if pair[0].value == key:
                return pair[0], pair[1]
    return None


def content_end(text: str, node: Any) -> int:
    """Return where a node's own text ends: before comments, which PyYAML counts to it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return content_end(text, last[1] if isinstance(last, tuple) else last)
    end = int(node.end_mark.index)
    return len(text[:end].rstrip()) if _is_folded(node) else end


def _is_folded(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")


def line_end(text: str, place: int) -> int:
    """Return where the next line begins."""
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def is_same(present: Any, value: Any) -> bool:
    """Return whether both mean the same; a word and a list of this word do."""
    if isinstance(present, Mapping) and isinstance(value, Mapping):
        return present.keys() == value.keys() and all(
            is_same(present[key], value[key]) for key in value
        )
    return bool(_listed(present) == _listed(value))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else list(value) if _is_list(value) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def inline(value: Any, quote: str = "") -> str:
    """Return a value on one line. Words that YAML 1.1 takes for another type are quoted."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inline(k)}: {inline(v)}" for k, v in value.items()) + "}"
    if _is_list(value):
        return "[" + ", ".join(map(inline, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if quote == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if not quote and _PLAIN.fullmatch(value) and value.casefold() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


def put_splices(
    text: str, mapping: Any, key: str, present: Any, value: Any, step: int
) -> list[Splice]:
    """Return the splices that set a key in the node of a mapping that is not empty."""
    found = pair_of(mapping, key)
    if found:
        return _value_splices(text, found, present, value, step, block=not mapping.flow_style)
    end = content_end(text, mapping.value[-1][1])
    if mapping.flow_style:
        return [Splice(end, end, f", {inline({key: value})[1:-1]}")]
    place = line_end(text, end)
    column = mapping.value[0][0].start_mark.column
    return [Splice(place, place, _pair_lines(key, value, column, step))]


def _pair_lines(key: str, value: Any, column: int, step: int) -> str:
    head = f"{' ' * column}{inline(key)}:"
    if isinstance(value, Mapping) and value:
        return f"{head}\n" + "".join(
            _pair_lines(each, below, column + step, step) for each, below in value.items()
        )
    return f"{head} {inline(value)}\n"


def _value_splices(
    text: str, pair: tuple[Any, Any], present: Any, value: Any, step: int, *, block: bool
) -> list[Splice]:
    key, node = pair
    if is_same(present, value):
        return []
    if _is_list(present) and isinstance(value, str):
        value = [value]
    colon = text.index(":", key.end_mark.index) + 1
    is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    if isinstance(node, yaml.MappingNode) and isinstance(value, Mapping) and value:
        merged = any(each.value == "<<" for each, _ in node.value)
        if node.value and not merged:
            return _mapping_splices(text, node, present, value, step)
        if block and not node.value and text[colon : node.start_mark.index].strip() == "":
            column = key.start_mark.column + step
            place = line_end(text, node.end_mark.index)
            lines = "".join(_pair_lines(k, v, column, step) for k, v in value.items())
            return [Splice(colon, node.end_mark.index, ""), Splice(place, place, lines)]
    if is_block and isinstance(node, yaml.SequenceNode) and _is_list(value) and value:
        return _sequence_splices(text, node, value, present)
    start, end = node.start_mark.index, content_end(text, node)
    properties = _PROPERTIES.match(text, start, end)
    kept = properties[0].strip() + " " if properties else ""
    if is_block or _is_folded(node):
        remark = text[colon : line_end(text, colon)].strip()
        behind = f"  {remark}" if remark.startswith("#") else ""
        inside = text[line_end(text, colon) : end].splitlines() if is_block else []
        below = "".join(f"\n{line}" for line in inside if line.lstrip().startswith("#"))
        return [Splice(colon, end, f" {kept}{inline(value)}{behind}{below}")]
    quote = (node.style or "") if isinstance(node, yaml.ScalarNode) else ""
    new = kept + inline(value, quote if isinstance(value, str) else "")
    return [Splice(start, end, new if start > colon else f" {new}")]


def _mapping_splices(
    text: str, node: Any, present: Mapping[str, Any], value: Mapping[str, Any], step: int
) -> list[Splice]:
    """Return the splices for a mapping's keys: changed, added below the last, taken out."""
    known = {key.value for key, _ in node.value}
    block, gone = not node.flow_style, known - value.keys()
    if gone and not block:
        start = node.start_mark.index
        properties = _PROPERTIES.match(text, start)
        return [
            Splice(properties.end() if properties else start, node.end_mark.index, inline(value))
        ]
    splices: list[Splice] = []
    for key, below in node.value:
        if key.value in gone:
            start = _line_start(text, key.start_mark.index)
            splices.append(Splice(start, line_end(text, content_end(text, below)), ""))
        else:
            pair, name = (key, below), key.value
            splices += _value_splices(text, pair, present.get(name), value[name], step, block=block)
    added = {key: each for key, each in value.items() if key not in known}
    end = content_end(text, node.value[-1][1])
    if added and block:
        column, place = node.value[0][0].start_mark.column, line_end(text, end)
        lines = "".join(_pair_lines(key, each, column, step) for key, each in added.items())
        splices.append(Splice(place, place, lines))
    elif added:
        splices.append(Splice(end, end, f", {inline(added)[1:-1]}"))
    return splices


def _sequence_splices(
    text: str, node: Any, value: Sequence[Any], present: Sequence[Any]
) -> list[Splice]:
    """Return the splices for a list of one item per line. Other items keep their remarks."""
    items = node.value
    starts = [_line_start(text, each.start_mark.index) for each in items]
    ends = [line_end(text, content_end(text, each)) for each in items]
    prefix = text[starts[0] : items[0].start_mark.index]
    splices = []
    matcher = SequenceMatcher(None, [*map(inline, present)], [*map(inline, value)], autojunk=False)
    for said, first, last, new_first, new_last in matcher.get_opcodes():
        if said == "equal":
            continue
        new = value[new_first:new_last]
        if len(new) == last - first:
            for item, each in zip(items[first:last], new, strict=True):
                end = content_end(text, item)
                splices.append(Splice(item.start_mark.index, end, inline(each)))
            continue
        splices += [Splice(starts[n], ends[n], "") for n in range(first, last)]
        place = ends[last - 1] if last else starts[0]
        lines = "".join(f"{prefix}{inline(each)}\n" for each in new)
        splices.append(Splice(place, place, lines))
    return splices


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1
