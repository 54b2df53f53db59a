"""An MCP server for tests: `python -m tests.support.tool_server` speaks over its standard streams, `--http PORT` on 127.0.0.1.
Its process ids go to the file that ORKA_TEST_PIDS names."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import MCPServer
from mcp_types import TextContent

server = MCPServer("for tests")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(name="odd.name")
def odd_name() -> str:
    return "odd"


@server.tool()
def fails(why: str) -> list[TextContent]:
    raise ValueError(why)


@server.tool()
async def slow(seconds: float = 60.0) -> str:
    await anyio.sleep(seconds)
    return "at last"


@server.tool()
async def dies() -> str:
    print("about to die", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@server.tool()
async def keyed(seat: str, idempotency_key: str) -> str:
    """Books a seat."""
    return f"{seat} under {idempotency_key}"


@server.tool()
def variables(names: list[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int)
    options = parser.parse_args()
    if pids := os.environ.get("ORKA_TEST_PIDS"):
        with Path(pids).open("a") as file:
            file.write(f"{os.getpid()}\n")
    print("this is said on standard error", file=sys.stderr, flush=True)
    if options.http is None:
        server.run()
    else:
        server.run("streamable-http", port=options.http)
