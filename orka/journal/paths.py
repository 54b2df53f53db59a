"""How visits are named. Pure.

The path of a visit is the path of its frame, `/`, the escaped id, and `#n` for the n-th visit of that id in that frame.
Frames: the run (empty path); a branch or map item `<visit>.<index>`, from 0; a failover's child `<visit>.<index>`;
the list of a path executor `<visit>.0`; a round of a loop `<visit>[<round>]`, from 1. What a router chooses runs in the
router's own frame, one after another, so its visits are numbered there: the paths of a routing cycle do not grow.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from orka.types import NodeId, Path

_MEMBER = re.compile(r"\.\d+$")
ROOT = Path("")
"""The frame of the run itself."""

FRAME_SUFFIX = re.compile(r"(?:\.\d+|\[\d+\])$")
"""What a frame's last segment has behind the visit."""


def escape(node_id: NodeId) -> str:
    """The id with everything that has a meaning in a path (`/ . [ ] # %`) percent-encoded; other letters stay."""
    if node_id.isidentifier():
        return node_id
    return "".join(c if c.isalnum() or c in "_- :@" else quote(c, safe="") if c != "." else "%2E" for c in node_id)


def unescape(name: str) -> str:
    """The id that `escape` made this of."""
    return unquote(name) if "%" in name else name


def readable(path: str) -> str:
    """A path for people: ids as they are. It names no visit any more, for a point or a slash may be part of an id."""
    return unescape(path)


def visit(frame: Path, escaped: str, number: int) -> Path:
    """`number` counts from 1 within the frame."""
    name = escaped if number == 1 else f"{escaped}#{number}"
    return Path(f"{frame}/{name}" if frame else name)


def member(parent: Path, index: int) -> Path:
    """The frame of a branch, map item or failover child; `index` counts from 0."""
    return Path(f"{parent}.{index}")


def round_of(loop: Path, number: int) -> Path:
    """The frame, and the name, of a round; `number` counts from 1."""
    return Path(f"{loop}[{number}]")


def parents(path: Path) -> list[Path]:
    """Visits and rounds that `path` lies under, innermost first, without `path` itself.

    `debate[2]/spread.1/critic` -> `debate[2]/spread`, `debate[2]`, `debate`.
    """
    found: list[Path] = []
    whole = path
    while True:
        if (match := FRAME_SUFFIX.search(whole)) is not None:
            visit_path = whole[: match.start()]
            if whole.endswith("]") and whole != path:
                found.append(Path(whole))
            found.append(Path(visit_path))
            whole = visit_path
            continue
        frame, slash, _ = whole.rpartition("/")
        if not slash:
            return found
        if FRAME_SUFFIX.search(frame) is None:
            found.append(Path(frame))
        whole = frame


def frame_of(path: Path) -> Path:
    """The frame that a visit belongs to."""
    return Path(path.rpartition("/")[0])


def named_in(frame: Path, path: Path) -> tuple[Path, NodeId]:
    """The visit of `frame` that `path`, which lies in it, is or lies under, and the id that it names."""
    whole = path[len(frame) + 1 :].partition("/")[0] if frame else path.partition("/")[0]
    name = FRAME_SUFFIX.sub("", whole)
    return Path(f"{frame}/{name}" if frame else name), NodeId(unescape(name.partition("#")[0]))


def frames(path: Path) -> list[Path]:
    """Branches, items and children that `path` lies in or is, outermost first: `a.1/b[2]/c.0/d` -> `a.1`, `a.1/b[2]/c.0`."""
    if "." not in path:
        return []
    found: list[Path] = []
    end = path.find("/")
    while end >= 0:
        if _MEMBER.search(path, 0, end) is not None:
            found.append(Path(path[:end]))
        end = path.find("/", end + 1)
    if _MEMBER.search(path) is not None:
        found.append(path)
    return found
