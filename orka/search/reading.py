"""The texts in a folder: which files there are, and what is in them. Everything here blocks: call it in a thread.

What a folder holds is taken for foreign: links that lead out of it, files that are no text and very large ones are passed
over, and said so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orka.errors import ConfigError, SearchError

MOST_FILES: Final = 20_000
"""Files of one folder that are looked at."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""Of one file."""
MOST_DEPTH: Final = 32
"""Folders inside folders."""
_OPEN_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """One file as it was when the folder was listed."""

    name: str
    """Path inside the folder, with `/` on every system."""
    path: Path
    """The file itself: links are followed already."""
    size: int
    """Bytes."""
    changed_ns: int

    @property
    def version(self) -> tuple[int, int]:
        """Another one when the file has changed."""
        return self.size, self.changed_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a folder, by name, and what was passed over."""

    files: tuple[TextFile, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    """(name, why)."""


class NotText(Exception):
    """A file is passed over; its argument says why."""


def permitted_folder(path: str, roots: Sequence[Path]) -> Path:
    """The folder that a graph means by `path`, relative to the working directory. `ConfigError` when it is none, or lies
    outside of the `roots` that graphs may read."""
    folder = Path(path).expanduser().resolve()
    if not any(folder.is_relative_to(root.expanduser().resolve()) for root in roots):
        raise ConfigError(
            f"the folder {path!r} lies outside of what graphs may read here: name it, or a folder around it, in "
            "ORKA_SEARCH_FOLDERS"
        )
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {path!r}: a path is relative to the working directory, which is {str(Path.cwd())!r}"
        )
    return folder


def list_files(root: Path) -> Listing:
    """Every file that is not hidden, sorted by name. `SearchError` when the folder cannot be read."""
    found: list[TextFile] = []
    skipped: list[tuple[str, str]] = []
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as exc:
            if folder == root:
                raise SearchError(f"the folder {str(root)!r} cannot be read: {exc.strerror or exc}") from exc
            skipped.append((_name(folder, root), f"cannot be read: {exc.strerror or exc}"))
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < MOST_DEPTH:
                    waiting.append((path, depth + 1))
                else:
                    skipped.append((_name(path, root), f"lies more than {MOST_DEPTH} folders deep"))
                continue
            file = _file(path, root)
            if isinstance(file, str):
                skipped.append((_name(path, root), file))
            elif file is not None:
                found.append(file)
    found.sort(key=lambda file: file.name)
    if len(found) > MOST_FILES:
        skipped.append((".", f"has {len(found):,} files: only the first {MOST_FILES:,} are searched"))
    return Listing(files=tuple(found[:MOST_FILES]), skipped=tuple(skipped))


def _file(path: Path, root: Path) -> TextFile | str | None:
    """The file, or why it is passed over; None for what is no file at all."""
    try:
        real = path.resolve(strict=True)
        if path.is_symlink() and (not real.is_relative_to(root) or real.is_dir()):
            return "is a link that leads elsewhere"
        facts = real.stat()
    except (OSError, RuntimeError) as exc:
        return f"cannot be read: {exc}"
    if not stat.S_ISREG(facts.st_mode):
        return None
    if facts.st_size > MOST_BYTES:
        return f"is larger than {MOST_BYTES // 1024 // 1024} MiB"
    return TextFile(name=_name(path, root), path=real, size=facts.st_size, changed_ns=facts.st_mtime_ns)


def _name(path: Path, root: Path) -> str:
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "replace")


def read_text(file: TextFile) -> str:
    """What is in it. `NotText` for a file that is no UTF-8 text, has grown too large, or cannot be read."""
    try:
        # Not followed: the file may have become a link since it was listed.
        with open(os.open(file.path, _OPEN_FLAGS), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise NotText("is no file any more")
            data = stream.read(MOST_BYTES + 1)
    except OSError as exc:
        raise NotText(f"cannot be read: {exc.strerror or exc}") from exc
    if len(data) > MOST_BYTES:
        raise NotText(f"is larger than {MOST_BYTES // 1024 // 1024} MiB")
    if b"\0" in data:
        raise NotText("is no text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotText("is no text in UTF-8") from None
