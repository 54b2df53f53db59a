"""YAML text -> a tree in which every value knows its line and column.

The bounds against hostile files (nesting, number of values, aliases, size) are applied to the parser's event stream,
one event at a time and before anything recursive touches the text: composing first would crash on deep nesting
and never end on alias bombs. YAML 1.1 with the safe tags, as workflow files expect.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

from orka.graph.diagnostics import NOWHERE, Findings, Mark
from orka.graph.syntax import report_syntax
from orka.types import Json

MAX_BYTES: Final = 4 * 1024 * 1024
"""Of one file."""
MAX_NESTING: Final = 200
MAX_VALUES: Final = 100_000
"""Values of a file, each use of an alias counted with all that it stands for."""
MAX_TEXT: Final = 4 * MAX_BYTES
"""Characters of all values, counted in the same way."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.1, section 4.1.1, does not allow in a stream."""
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_TEXT_TAGS = frozenset((_TAG + "str", _TAG + "timestamp", _TAG + "value", "!"))
"""Values that stay as they are written. Dates too: JSON has none."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. `text` is what the file says, `value` what YAML makes of it."""

    value: bool | int | float | str | None
    text: str
    at: Mark
    literal: bool = False
    """Written as a `|` block: its lines are the file's lines, beginning on the next one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping with its value."""

    key: Scalar
    value: Tree


@dataclass(frozen=True, slots=True)
class ListTree:
    items: tuple[Tree, ...]
    at: Mark


@dataclass(frozen=True, slots=True)
class MapTree:
    entries: tuple[Entry, ...]
    """In file order; keys are unique."""
    at: Mark

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key.text == name), None)

    def value(self, name: str) -> Tree | None:
        entry = self.entry(name)
        return entry.value if entry is not None else None


Tree: TypeAlias = Scalar | ListTree | MapTree


def plain(tree: Tree) -> Json:
    """The value without its places. Keys become the text that the file has: `yes: 1` is `{"yes": 1}`."""
    match tree:
        case Scalar():
            return tree.value
        case ListTree():
            return [plain(item) for item in tree.items]
        case MapTree():
            return {entry.key.text: plain(entry.value) for entry in tree.entries}


def kind_of(tree: Tree) -> str:
    """What the value is, for messages: `text 'abc'`, `a list`."""
    match tree:
        case ListTree():
            return "a list"
        case MapTree():
            return "a mapping"
        case Scalar(value=None):
            return "empty"
        case Scalar(value=str()):
            return repr(tree.text if len(tree.text) <= 60 else tree.text[:57] + "...")
        case Scalar():
            return tree.text[:60]


def decode_text(data: bytes | str, source: str) -> tuple[str, Findings]:
    """The text of a file, and the collector for its faults. On an error the collector has `failed` set."""
    if len(data) > MAX_BYTES:
        findings = Findings(source)
        findings.error(f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")
        return "", findings
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
    except UnicodeDecodeError as exc:
        assert isinstance(data, bytes)
        line = data.count(b"\n", 0, exc.start) + 1
        findings = Findings(source)
        findings.error(
            f"the file is not UTF-8: byte 0x{data[exc.start]:02x}",
            Mark(line, exc.start - data.rfind(b"\n", 0, exc.start)),
            hint="save it as UTF-8",
        )
        return "", findings
    findings = Findings(source, text)
    if found := _FORBIDDEN.search(text):
        before = text[: found.start()]
        at = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
        findings.error(
            f"character U+{ord(found[0]):04X} is not allowed in YAML", at, hint="write it as an escape in double quotes"
        )
    return text, findings


def read_tree(text: str, findings: Findings) -> Tree | None:
    """The document in `text`; None when it cannot be read, in which case the reason is among the findings.

    A value that YAML cannot make anything of is reported too, and stands in the tree as its text.
    """
    loader = _LOADER(text)
    try:
        return _Composer(loader, findings).document()
    except _Unreadable as exc:
        findings.error(exc.message, exc.at, hint=exc.hint)
    except yaml.MarkedYAMLError as exc:
        report_syntax(exc, findings, most_nested=MAX_NESTING)
    except yaml.YAMLError as exc:
        findings.error(f"not YAML: {exc}")
    finally:
        loader.dispose()
    return None


class _Unreadable(Exception):
    def __init__(self, message: str, at: Mark, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.at, self.hint = message, at, hint


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A node that aliases can stand for, with what one use of it costs."""

    tree: Tree
    values: int
    chars: int
    height: int


class _Composer:
    """Turns the events of one document into a tree, counting as it goes. Recursion is bounded by `MAX_NESTING`."""

    def __init__(self, loader: Any, findings: Findings) -> None:
        self._loader = loader
        self._findings = findings
        self._anchors: dict[str, _Anchored | None] = {}
        """None while the anchored node is still being read: an alias to it would contain itself."""
        self._values = 0
        self._chars = 0
        self._deepest = 0

    def document(self) -> Tree:
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            raise _Unreadable("the file is empty", NOWHERE, "a graph needs 'orchestrator:' and 'agents:'")
        tree = self._node(self._next(), 1)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise _Unreadable("a second document begins here", _mark(event), "one graph per file; remove the '---'")
        return tree

    def _next(self) -> Any:
        return self._loader.get_event()

    def _node(self, event: Any, depth: int) -> Tree:
        at = _mark(event)
        if depth > MAX_NESTING:
            raise _Unreadable(f"nested deeper than {MAX_NESTING} levels", at)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), at, depth)
        self._deepest = max(self._deepest, depth)
        anchor: str | None = event.anchor
        if anchor is None:
            return self._content(event, at, depth)
        self._anchors[anchor] = None
        values, chars, deepest = self._values, self._chars, self._deepest
        self._deepest = depth
        tree = self._content(event, at, depth)
        self._anchors[anchor] = _Anchored(tree, self._values - values, self._chars - chars, self._deepest - depth)
        self._deepest = max(deepest, self._deepest)
        return tree

    def _content(self, event: Any, at: Mark, depth: int) -> Tree:
        self._count(1, len(event.value) if isinstance(event, yaml.ScalarEvent) else 0, at)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, at)
        if isinstance(event, yaml.SequenceStartEvent):
            self._refuse_tag(event.tag, "seq", at)
            return ListTree(tuple(self._items(depth)), at)
        self._refuse_tag(event.tag, "map", at)
        return MapTree(self._entries(depth, at), at)

    def _count(self, values: int, chars: int, at: Mark) -> None:
        self._values += values
        self._chars += chars
        if self._values > MAX_VALUES:
            raise _Unreadable(f"more than {MAX_VALUES:,} values, counting what aliases stand for", at)
        if self._chars > MAX_TEXT:
            raise _Unreadable(f"more than {MAX_TEXT:,} characters, counting what aliases stand for", at)

    def _alias(self, name: str, at: Mark, depth: int) -> Tree:
        if name not in self._anchors:
            self._spoil(f"alias '*{name}' has no anchor '&{name}' before it", at)
            return Scalar(f"*{name}", f"*{name}", at)
        anchored = self._anchors[name]
        if anchored is None:
            self._spoil(f"alias '*{name}' stands inside its own anchor", at)
            return Scalar(f"*{name}", f"*{name}", at)
        self._count(anchored.values, anchored.chars, at)
        if depth + anchored.height > MAX_NESTING:
            raise _Unreadable(f"nested deeper than {MAX_NESTING} levels", at)
        self._deepest = max(self._deepest, depth + anchored.height)
        return anchored.tree

    def _items(self, depth: int) -> list[Tree]:
        items: list[Tree] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _entries(self, depth: int, around: Mark) -> tuple[Entry, ...]:
        entries: dict[tuple[type, object], Entry] = {}
        merged: list[Tree] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            at = _mark(event)
            is_merge = isinstance(event, yaml.ScalarEvent) and self._tag(event) == _MERGE
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if is_merge:
                merged.append(value)
            elif not isinstance(key, Scalar):
                self._spoil(f"a key must be text, not {kind_of(key)}", at, 'a template needs quotes: "{{ ... }}"')
                self._findings.spoil(around)
            elif (first := entries.get(_identity(key))) is not None:
                self._findings.error(
                    f"key {key.text!r} appears twice in this mapping (first on line {first.key.at.line})",
                    key.at,
                    key=key.text,
                )
            else:
                entries[_identity(key)] = Entry(key, value)
        for tree in merged:
            self._merge(tree, entries)
        return tuple(entries.values())

    def _merge(self, tree: Tree, entries: dict[tuple[type, object], Entry]) -> None:
        """`<<: *other`; the mapping's own keys win, and among several sources the first."""
        for source in tree.items if isinstance(tree, ListTree) else (tree,):
            if not isinstance(source, MapTree):
                self._spoil("'<<' takes a mapping or a list of mappings", source.at)
                continue
            for entry in source.entries:
                entries.setdefault(_identity(entry.key), entry)

    def _tag(self, event: Any) -> str:
        if event.tag is not None and event.tag != "!":
            return str(event.tag)
        if event.tag == "!":
            return _TAG + "str"
        return str(self._loader.resolve(yaml.ScalarNode, event.value, event.implicit))

    def _scalar(self, event: Any, at: Mark) -> Scalar:
        tag, text = self._tag(event), str(event.value)
        if tag in _TEXT_TAGS or tag == _MERGE:
            return Scalar(text, text, at, literal=event.style == "|")
        value, fault, hint = self._value(tag, text)
        if fault is None:
            return Scalar(value, text, at)
        self._spoil(fault, at, hint)
        return Scalar(text, text, at)

    def _value(self, tag: str, text: str) -> tuple[Any, str | None, str | None]:
        """The value, what is wrong with it, and a hint."""
        if tag.removeprefix(_TAG) not in ("null", "bool", "int", "float"):
            return None, f"tag {_shown(tag)!r} is not allowed in a graph file", None
        large = f"{text[:60]!r} does not fit into 64 bits"
        try:
            value: Any = self._loader.construct_object(yaml.ScalarNode(tag, text))
        except (ValueError, KeyError, OverflowError, IndexError):
            if tag == _TAG + "int" and len(text) > 60 and text.lstrip("+-").isdigit():  # Python's limit of digits
                return None, large, "quote it to make it text"
            return None, f"{text[:60]!r} is not of type {_shown(tag)}", None
        if isinstance(value, float) and not math.isfinite(value):
            return None, f"{text[:60]!r} is not a finite number", None
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return None, large, "quote it to make it text"
        return value, None, None

    def _refuse_tag(self, tag: str | None, native: str, at: Mark) -> None:
        if tag not in (None, "!", _TAG + native):
            self._spoil(f"tag {_shown(str(tag))!r} is not allowed in a graph file", at)

    def _spoil(self, message: str, at: Mark, hint: str | None = None) -> None:
        """Reports a fault that leaves the rest of the document readable."""
        self._findings.error(message, at, hint=hint)
        self._findings.spoil(at)


def _identity(key: Scalar) -> tuple[type, object]:
    return type(key.value), key.value


def _mark(event: Any) -> Mark:
    mark = event.start_mark
    return Mark(mark.line + 1, mark.column + 1)


def _shown(tag: str) -> str:
    return tag.replace(_TAG, "!!")[:60]
