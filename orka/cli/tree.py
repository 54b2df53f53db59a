"""A run as a tree of visits, folded from its events. Pure, and bounded however many branches or rounds a run has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orka.graph.graph import Graph
from orka.graph.nodes import ForkNode, MapNode
from orka.journal.entries import ENDED, Kind
from orka.journal.paths import frame_of, parents
from orka.types import Json, Path, Status

CROWD = 12
"""A group of more branches shows how many are done instead of what each of them does."""
KEPT = 40
"""Visits kept below one parent; the oldest finished ones are only counted."""

_LONG_MS = 150
"""What a pure agent takes before it is shown as running."""
_MOST_SAID = 60
"""Characters of what a running agent says."""
_MOST_BEGUN = 1000
"""Pure agents under way that are watched."""

State: TypeAlias = Literal["waiting", "running", "retrying", "success", "error", "skipped", "cancelled"]

UNDER_WAY: tuple[State, ...] = ("running", "retrying")

_ENDS: dict[str, State] = {Kind.RUN_COMPLETED: "success", Kind.RUN_FAILED: "error", Kind.RUN_CANCELLED: "cancelled"}
_MEMBER = re.compile(r"\.(\d+)$")
_ROUND = re.compile(r"\[(\d+)\]$")


@dataclass(slots=True)
class Visit:
    """One line of the tree. Changed by `RunTree` only."""

    path: Path
    label: str
    state: State = "running"
    since_ms: int = 0
    duration_ms: float | None = None
    note: str = ""
    text: str = ""
    """The end of what it has said, while it is running."""
    attempt: int = 0
    """That it is of."""
    children: dict[Path, Visit] = field(default_factory=dict["Path", "Visit"])
    dropped: int = 0
    """Finished children that are no longer kept."""
    branches: int = 0
    """Of a fork or a map: how many it opened."""
    done: int = 0
    failed: int = 0
    progress: dict[int, int] = field(default_factory=dict[int, int])
    """Members finished in each branch that is under way."""
    troubled: set[int] = field(default_factory=set[int])
    """Branches under way in which a member failed."""

    @property
    def crowded(self) -> bool:
        return self.branches > CROWD


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one line shows, without any decoration."""

    depth: int
    state: State
    label: str
    note: str
    seconds: float | None


class RunTree:
    """Give it every event of a run in order; ask it for at most so many rows."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.root = Visit(Path(""), graph.id if graph else "run")
        self._visits: dict[Path, Visit] = {}
        self._sequence = graph.scope.sequence if graph else ()
        self._begun: dict[Path, int] = {}
        """Pure agents under way by what they began: only noted, for most of them are done before the next drawing."""
        self._lengths: dict[str, tuple[int, ...]] = dict(_lengths(graph)) if graph else {}

    def apply(self, kind: str, path: Path, at_ms: int, data: Mapping[str, Json]) -> None:
        """One event. Kinds that change nothing of what is shown are ignored."""
        self.root.since_ms = self.root.since_ms or at_ms
        if kind == Kind.RUN_STARTED:
            self.root.label = str(data.get("graph", self.root.label))
        elif kind == Kind.RUN_RESUMED:
            self.root.since_ms, self.root.note = at_ms, "resumed"
        elif kind in (Kind.NODE_STARTED, Kind.NODE_RETRYING, Kind.NODE_FINISHED):
            if kind == Kind.NODE_FINISHED:
                self._begun.pop(path, None)
                self._count(path, data)
            if (visit := self._place(path, at_ms)) is not None:
                _change(visit, kind, data)
                if kind == Kind.NODE_FINISHED:
                    _settle(visit.children.values(), visit.state)
        elif kind == Kind.NODE_TOKEN:
            self._speak(path, at_ms, data)
        elif kind in (Kind.FORK_OPENED, Kind.MAP_OPENED):
            if (visit := self._place(path, at_ms)) is not None:
                visit.branches = _integer(data.get("branches"))
        elif kind == Kind.ROUND_SCORED:
            place = path if _ROUND.search(path) else Path(f"{path}[{_integer(data.get('round'))}]")
            if (visit := self._place(place, at_ms)) is not None:
                visit.state, visit.note = "success", f"score {data.get('score')}"
        elif kind in ENDED:
            self._begun.clear()
            _settle(self._visits.values(), "success" if kind == Kind.RUN_COMPLETED else "cancelled")
            self.root.state, self.root.note = _ENDS[kind], _message(data)
            self.root.duration_ms = at_ms - self.root.since_ms

    def _speak(self, path: Path, at_ms: int, data: Mapping[str, Json]) -> None:
        visit = self._place(path, at_ms)
        if visit is None or visit.state not in UNDER_WAY:
            return
        attempt = _integer(data.get("attempt"))
        before = visit.text if attempt == visit.attempt and data.get("seq") else ""
        visit.state, visit.attempt = "running", attempt
        visit.text = f"{before}{data.get('text', '')}"[-2 * _MOST_SAID :]

    def begin(self, path: Path, at_ms: int) -> None:
        """A pure agent began, of which there will be no event before its end."""
        if len(self._begun) < _MOST_BEGUN:
            self._begun[path] = at_ms

    def show_begun(self, now_ms: int) -> None:
        """Pure agents become lines of their own once they take long. By then the events of what is around them, which
        have to be stored first, are there."""
        for path, at_ms in list(self._begun.items()):
            if now_ms - at_ms >= _LONG_MS:
                del self._begun[path]
                self.apply(Kind.NODE_STARTED, path, at_ms, {})

    def rows(self, limit: int, now_ms: int) -> list[Row]:
        """The run, its visits, and what is still to come as far as there is room.

        Over `limit` rows, finished visits lose their children, then the top is cut.
        """
        head = _row(self.root, 0, now_ms)
        rows = list(_rows(self.root, now_ms, fold=False))
        if len(rows) >= limit:
            rows = list(_rows(self.root, now_ms, fold=True))
        if len(rows) >= limit:
            hidden = len(rows) - limit + 2
            rows = [_counted(f"{hidden:,} more above", 1), *rows[hidden:]]
        return [head, *rows, *self._to_come(limit - 1 - len(rows))]

    def _to_come(self, room: int) -> list[Row]:
        """The run's own sequence is visited in order, so its visits say how far it is."""
        left = self._sequence[self.root.dropped + len(self.root.children) :]
        if room <= 0 or not left or self.root.state not in UNDER_WAY:
            return []
        shown = left if len(left) <= room else left[: room - 1]
        rows = [Row(depth=1, state="waiting", label=node_id, note="", seconds=None) for node_id in shown]
        return rows if len(shown) == len(left) else [*rows, _counted(f"{len(left) - len(shown):,} more to come", 1)]

    def _place(self, path: Path, at_ms: int) -> Visit | None:
        """The visit of `path`, made with its parents if need be; None below a crowd, where visits are only counted."""
        if (known := self._visits.get(path)) is not None:
            return known
        above = parents(path)
        parent = self._place(above[0], at_ms) if above else self.root
        if parent is None or parent.crowded:
            return None
        visit = Visit(path, _label(path, parent.path), since_ms=at_ms)
        parent.children[path] = self._visits[path] = visit
        if len(parent.children) > KEPT:
            self._drop_oldest(parent)
        return visit

    def _drop_oldest(self, parent: Visit) -> None:
        finished = next((child for child in parent.children.values() if child.state not in UNDER_WAY), None)
        if finished is not None:
            del parent.children[finished.path]
            parent.dropped += 1
            for visit in _below(finished):
                self._visits.pop(visit.path, None)

    def _count(self, path: Path, data: Mapping[str, Json]) -> None:
        """Branch progress: a branch is done with its last member, or with a failure that ends it."""
        frame = frame_of(path)
        match = _MEMBER.search(frame)
        group = self._visits.get(Path(frame[: match.start()])) if match else None
        if match is None or group is None or not group.branches:
            return
        index = int(match[1])
        lengths = self._lengths.get(_node_id(group.path), ())
        length = lengths[min(index, len(lengths) - 1)] if lengths else 1
        failed = data.get("status") == Status.ERROR
        group.progress[index] = group.progress.get(index, 0) + 1
        if failed:
            group.troubled.add(index)
        if group.progress[index] >= length or (failed and not data.get("consumed")):
            del group.progress[index]
            group.done += 1
            group.failed += index in group.troubled
            group.troubled.discard(index)
            if group.done >= group.branches and group.state == "running":
                group.state = "success"


def _settle(visits: Iterable[Visit], state: State) -> None:
    """What is around them ended, so nothing of them is under way any more."""
    for visit in visits:
        if visit.state in UNDER_WAY:
            visit.state = state


def _change(visit: Visit, kind: str, data: Mapping[str, Json]) -> None:
    message = _message(data)
    match kind:
        case Kind.NODE_FINISHED:
            visit.state = Status(str(data.get("status", Status.SUCCESS))).value
            duration = data.get("ms")
            visit.duration_ms = float(duration) if isinstance(duration, int | float) else None
            attempts = _integer(data.get("attempts"))
            visit.note, visit.text = message or (f"{attempts} attempts" if attempts > 1 else ""), ""
        case Kind.NODE_RETRYING:
            visit.state, visit.note = "retrying", f"attempt {data.get('attempt')} failed: {message}"
            visit.text = ""
        case _:
            visit.state = "running"


def _message(data: Mapping[str, Json]) -> str:
    error = data.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def _counted(label: str, depth: int) -> Row:
    return Row(depth=depth, state="skipped", label=label, note="", seconds=None)


def _row(visit: Visit, depth: int, now_ms: int) -> Row:
    seconds = visit.duration_ms / 1000 if visit.duration_ms is not None else None
    if visit.state in UNDER_WAY and visit.since_ms:
        seconds = max(0, now_ms - visit.since_ms) / 1000
    return Row(depth=depth, state=visit.state, label=visit.label, note=_note(visit), seconds=seconds)


def _rows(parent: Visit, now_ms: int, *, fold: bool, depth: int = 1) -> Iterator[Row]:
    if parent.dropped:
        yield _counted(f"{parent.dropped:,} earlier", depth)
    for visit in _in_order(parent):
        yield _row(visit, depth, now_ms)
        if not fold or any(below.state in UNDER_WAY for below in _below(visit)):
            yield from _rows(visit, now_ms, fold=fold, depth=depth + 1)


def _in_order(parent: Visit) -> Iterable[Visit]:
    """Below a fork or a map by branch, whatever began or ended first; otherwise in the order of the events."""
    if not parent.branches:
        return parent.children.values()
    return sorted(parent.children.values(), key=_branch_of)


def _branch_of(visit: Visit) -> int:
    match = _MEMBER.search(frame_of(visit.path))
    return int(match[1]) if match else -1


def _note(visit: Visit) -> str:
    if visit.text and visit.state == "running":
        said = " ".join(visit.text.split())
        return said if len(said) <= _MOST_SAID else f"…{said[-_MOST_SAID + 1 :]}"
    if not visit.branches:
        return visit.note
    failed = f", {visit.failed:,} failed" if visit.failed else ""
    return f"{visit.done:,} of {visit.branches:,} branches{failed}" + (f"; {visit.note}" if visit.note else "")


def _below(visit: Visit) -> Iterator[Visit]:
    yield visit
    for child in visit.children.values():
        yield from _below(child)


def _label(path: Path, parent: Path) -> str:
    """The id as the file has it, with the branch or round in front that tells it from its neighbours."""
    if match := _ROUND.search(path):
        return f"round {match[1]}"
    frame = frame_of(path)
    branch = _MEMBER.search(frame) if frame != parent else None
    number = path.rpartition("#")[2] if "#" in path.rpartition("/")[2] else ""
    return f"{branch[1] + ': ' if branch else ''}{_node_id(path)}{' #' + number if number else ''}"


def _node_id(path: Path) -> str:
    from urllib.parse import unquote

    return unquote(path.rpartition("/")[2].partition("#")[0])


def _integer(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _lengths(graph: Graph) -> Iterator[tuple[str, tuple[int, ...]]]:
    for node in graph.nodes():
        if isinstance(node, ForkNode):
            yield node.id, tuple(len(branch) for branch in node.branches)
        elif isinstance(node, MapNode):
            yield node.id, (len(node.sequence),)
