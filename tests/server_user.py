"""A process that uses the private server of a folder: prints `ready PID STARTED SOCKET`, then obeys lines of words.

A line is sent as a command and its reply printed; `leave` ends the process cleanly. No client library is loaded, so
that many of these start quickly.
"""

import asyncio
import sys
from pathlib import Path

from orka.redis.control import ask
from orka.redis.server import private_server
from orka.settings import Settings


async def main(home: str, linger: str, fsync: str) -> None:
    loop = asyncio.get_running_loop()
    settings = Settings(home=Path(home), server_linger=float(linger), fsync=fsync, server_patience=15)
    async with private_server(settings) as server:
        print("ready", server.pid, server.started, server.socket, flush=True)
        while (words := (await loop.run_in_executor(None, sys.stdin.readline)).split()) != ["leave"]:
            print((await ask(server.socket, *words, timeout=10)).decode(), flush=True)
    print("left", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
