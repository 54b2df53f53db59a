"""Processes that were started for tools end with the process that started them, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.openai_server import Call, Reply, started

SERVER = Path(__file__).resolve().parents[1] / "support" / "tool_server.py"
GRAPH = """\
orchestrator: {id: tools, agents: [ask]}
agents:
  - id: ask
    type: llm
    model: m
    prompt: x
    tools:
      - {mcp: {command: python, args: [%s], env: {ORKA_TEST_PIDS: %s}}}
"""


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not true():  # noqa: ASYNC110  # processes set no event
            await anyio.sleep(0.02)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_server_ends_with_the_run_that_is_stopped_in_mid_call(orka: Any, tmp_path: Path, sent: int) -> None:
    pids = tmp_path / "pids"
    (tmp_path / "tools.yml").write_text(GRAPH % (SERVER, pids))
    async with started() as model:
        model.default = Reply(calls=(Call(name="slow"),))
        orka.environment["ORKA_LLM_URL"] = model.url
        process = orka.start("run", "tools.yml", "x", "--allow-functions=mcp:python")
        await until(lambda: model.asked and pids.exists())
        os.kill(process.pid, sent)
        _, err = await anyio.to_thread.run_sync(process.communicate)
    (pid,) = map(int, pids.read_text().split())
    await until(lambda: not lives(pid))
    assert "standard error" not in err
    assert "Traceback" not in err


def test_without_the_library_the_extra_is_named(orka: Any, tmp_path: Path) -> None:
    """A module that cannot be imported stands in its place."""
    (tmp_path / "tools.yml").write_text(GRAPH % (SERVER, tmp_path / "pids"))
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError('no mcp', name='mcp')")
    done = orka(
        "run",
        "tools.yml",
        "x",
        "--allow-functions=mcp:python",
        PYTHONPATH=str(tmp_path),
        ORKA_LLM_URL="http://127.0.0.1:9",
    )
    assert done.returncode == 1
    assert "pip install 'orka[mcp]'" in done.stderr
