"""A terminal of the test's own, to see what a person would see."""

from __future__ import annotations

import os
import pty
import select
import time
from typing import Any


def on_a_terminal(orka: Any, *arguments: str, seconds: float = 30) -> tuple[int, str]:
    """Exit code and everything that the terminal was sent, standard output and standard error together."""
    controller, terminal = pty.openpty()
    orka.environment |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = orka.start(*arguments, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    deadline = time.monotonic() + seconds
    sent = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([controller], [], [], 0.1)
        try:
            piece = os.read(controller, 65536) if ready else b""
        except OSError:  # Linux: the last process has closed the terminal
            break
        sent += piece
        if not piece and process.poll() is not None:
            break
    os.close(controller)
    return process.wait(timeout=5), sent.decode()
