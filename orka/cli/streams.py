"""The standard streams of the process: present even where the caller closed them, and a full disk is no defect."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO


class OutputLost(Exception):
    """Standard output cannot be written, for another reason than that its reader went away."""


class _Output(io.FileIO):
    def write(self, data: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(error.strerror or str(error)) from error


class _Messages(io.FileIO):
    """There is nobody to tell that messages cannot be written, and no reason to stop a run for it."""

    def write(self, data: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return len(data)


def open_streams() -> None:
    """Once, at the start of the process. A closed descriptor is taken by the null device, or else the next file that
    is opened would get its number; `sys.stdin` stays None then, so that whoever reads it can say so."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    # A lone surrogate in an answer must not be a traceback.
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr, line_buffering=True)


@contextmanager
def set_output_aside() -> Generator[TextIO]:
    """Gives the real standard output. Whatever else in this process writes to it meanwhile (a function's `print`, a
    library) writes to standard error: nothing but the answer of a run belongs on standard output."""
    sys.stdout.flush()
    sys.stderr.flush()
    before, kept = sys.stdout, os.dup(1)
    out = _text(_Output(kept, "w", closefd=False), before)
    os.dup2(2, 1)
    sys.stdout = _text(_Messages(1, "w", closefd=False), before, line_buffering=True)
    try:
        yield out
        out.flush()
    except (BrokenPipeError, OutputLost):
        discard(kept)  # what is still in the buffer must not raise once more
        raise
    finally:
        sys.stdout.flush()
        sys.stdout = before
        os.dup2(kept, 1)
        out.close()
        os.close(kept)


def discard(number: int) -> None:
    """What is written to this descriptor from now on goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def _text(raw: io.FileIO, like: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    """Text on `raw`, encoded like another stream (None: it was closed)."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=(like.encoding if like is not None else None) or "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or raw.isatty(),
    )
