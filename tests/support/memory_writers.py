"""A process that forks writers of memories, at a few milliseconds each: every line of standard input starts one, whose pid is
printed. Writers are killed from outside.

    python -m support.memory_writers      then lines of JSON:
    {"environment": {...}, "name": ..., "log": FILE, "mode": "stored" | "flood"}

`stored` writes for ever, in several tasks, and adds a line `key seconds content` to FILE for each memory that was
acknowledged as stored. `flood` writes large memories without waiting for more than room; FILE gets its statistics as JSON.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from orka.embedding.local import LocalEmbedder
from orka.memory.record import key_for
from orka.memory_logger import MemoryLogger, create_memory_logger

BIG = 20_000
"""Characters of a memory of `flood`."""


async def store(memory: MemoryLogger, name: str, log: int) -> None:
    async def single(task: int) -> None:
        for number in range(1_000_000):
            content = f"writer {name} task {task} number {number}"
            key = await memory.log_memory(content, write="stored", key=f"{name} {task} {number % 50}")
            acknowledge([(key, content)])

    async def many() -> None:
        for number in range(1_000_000):
            texts = [f"writer {name} batch {number} number {i}" for i in range(30)]
            found = await memory.write_many([{"content": text, "key": text} for text in texts])
            done = [(key_for("name", "default", t), t) for t, error in zip(texts, found, strict=True) if error is None]
            acknowledge(done)

    def acknowledge(done: list[tuple[str, str]]) -> None:
        os.write(log, "".join(f"{key} {time.time():.3f} {content}\n" for key, content in done).encode())

    await asyncio.gather(*(single(task) for task in range(8)), many())


async def flood(memory: MemoryLogger, name: str, log: Path) -> None:
    async def tell() -> None:
        while True:
            writer = (await memory.statistics()).writer
            assert writer is not None
            part = log.with_suffix(".part")
            part.write_text(json.dumps(writer._asdict()))
            part.rename(log)
            await asyncio.sleep(0.05)

    vector = [1.0] + [0.0] * 255  # tokens of long texts would be what takes the time

    async def write() -> None:
        for number in range(1_000_000):
            text, key = f"{number} " + "x" * BIG, f"{name} {number % 100}"
            await memory.log_memory(text, key=key, content_vector=vector, write="accepted")
            if number % 20 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(tell(), write())


async def carry_out(job: dict[str, Any]) -> None:
    async with create_memory_logger() as memory:
        if job["mode"] == "flood":
            await flood(memory, job["name"], Path(job["log"]))
        await store(memory, job["name"], os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND))


def become(job: dict[str, Any]) -> int:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(job["environment"])
    try:
        asyncio.run(carry_out(job))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are none in a fork
    for name in ("redis.asyncio", "numpy", "orka.memory.basic"):
        importlib.import_module(name)
    asyncio.run(LocalEmbedder().embed(["loaded before the forks"]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = become(json.loads(line))
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main()
