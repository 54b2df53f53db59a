"""No-op tasks through arq and streaq, and a plain prototype over streams: what `bench_fanout.py` measures beside Orka.

The workers of all three are this file, in a process of their own: `python fanout_rivals.py arq|streaq|plain SOCKET SLOTS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio.connection import UnixDomainSocketConnection

BATCH = 200
"""Tasks that the plain prototype sends and takes at once."""
CLIENTS = 100
"""Loops that enqueue a task of arq or streaq and await its result; a tenth of them where they enqueue batches and await the
last task of each, which costs less than awaiting all: the figure that is kindest to them."""
Count = Callable[[int], None]


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _arq_settings(socket: str) -> Any:
    from arq.connections import RedisSettings

    return RedisSettings(unix_socket_path=socket)


def _streaq_worker(socket: str, slots: int) -> Any:
    from streaq import Worker

    # Whoever awaits a result holds a connection of its own, and needs a second one meanwhile.
    worker: Any = Worker(redis_url=f"unix://{socket}?max_connections={4 * CLIENTS}", concurrency=slots)

    @worker.task
    async def noop(number: int) -> int:
        return number

    worker.noop = noop
    return worker


async def _noop(_: object, number: int) -> int:
    return number


def work_arq(socket: str, slots: int) -> None:
    from arq.worker import func, run_worker

    class Settings:
        functions = (func(_noop, name="noop"),)
        redis_settings = _arq_settings(socket)
        max_jobs = slots
        poll_delay = 0.005  # half a second by default: it would be all that is measured

    run_worker(Settings)


def work_streaq(socket: str, slots: int) -> None:
    _streaq_worker(socket, slots).run_sync()


async def _plain(socket: str) -> None:
    """Takes tasks and answers each on another stream; acknowledged and deleted with the answers."""
    connection: Any = UnixDomainSocketConnection(path=socket, protocol=2, socket_timeout=None)
    await connection.connect()
    read = connection.pack_commands(
        [("XREADGROUP", "GROUP", "g", "w", "COUNT", BATCH, "BLOCK", 0, "STREAMS", "{plain}:tasks", ">")]
    )
    while True:
        await connection.send_packed_command(read, check_health=False)
        [[_, entries]] = await connection.read_response()
        ids = [entry_id for entry_id, _ in entries]
        replies = [("XADD", "{plain}:replies", "*", "path", fields[1], "data", fields[3]) for _, fields in entries]
        commands = [*replies, ("XACK", "{plain}:tasks", "g", *ids), ("XDEL", "{plain}:tasks", *ids)]
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        for _ in commands:
            await connection.read_response()


@asynccontextmanager
async def loops(one: Callable[[], Awaitable[int]], clients: int, count: Count) -> AsyncIterator[None]:
    """`one` again and again, `clients` at once, while the block lasts."""

    stop = False

    async def loop() -> None:
        while not stop:  # a client may swallow a cancellation
            count(await one())

    tasks = [asyncio.create_task(loop()) for _ in range(clients)]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        stop = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def drive_arq(socket: str, count: Count, batch: int) -> AsyncIterator[None]:
    from arq.connections import create_pool
    from arq.jobs import ResultNotFound

    pool: Any = await create_pool(_arq_settings(socket))

    async def one() -> int:
        jobs = [await pool.enqueue_job("noop", 1) for _ in range(batch)]
        while True:
            # It looks for the result and then for the job: one that ends in between is found by the next look.
            with contextlib.suppress(ResultNotFound):
                await jobs[-1].result(timeout=60, poll_delay=0.05)
                return batch

    try:
        async with loops(one, CLIENTS if batch == 1 else CLIENTS // 10, count):
            yield
    finally:
        await pool.aclose()


@asynccontextmanager
async def drive_streaq(socket: str, count: Count, batch: int) -> AsyncIterator[None]:
    worker = _streaq_worker(socket, CLIENTS)

    async def one() -> int:
        tasks = [worker.noop.enqueue(1) for _ in range(batch)]
        await worker.enqueue_many(tasks)
        await tasks[-1].result(60)
        return batch

    async with worker, loops(one, CLIENTS if batch == 1 else CLIENTS // 10, count):
        yield


@asynccontextmanager
async def drive_plain(socket: str, count: Count, _: int) -> AsyncIterator[None]:
    """Keeps up to 2,000 tasks under way."""
    sender: Any = UnixDomainSocketConnection(path=socket, protocol=2, socket_timeout=None)
    reader: Any = UnixDomainSocketConnection(path=socket, protocol=2, socket_timeout=None)
    for connection in (sender, reader):
        await connection.connect()
    data = b'{"response":"00001 00000"}' * 4
    packed = sender.pack_commands([("XADD", "{plain}:tasks", "*", "path", "spread.1", "task", data)] * BATCH)
    under_way = 0
    room = asyncio.Event()

    async def send() -> None:
        nonlocal under_way
        while True:
            while under_way > 10 * BATCH - BATCH:
                room.clear()
                await room.wait()
            under_way += BATCH
            await sender.send_packed_command(packed, check_health=False)
            for _ in range(BATCH):
                await sender.read_response()

    async def receive() -> None:
        nonlocal under_way
        last = "0"
        while True:
            read = ("XREAD", "COUNT", 500, "BLOCK", 0, "STREAMS", "{plain}:replies", last)
            await reader.send_packed_command(reader.pack_command(*read), check_health=False)
            [[_, entries]] = await reader.read_response()
            last = entries[-1][0].decode()
            trim = ("XTRIM", "{plain}:replies", "MINID", "~", last)
            await reader.send_packed_command(reader.pack_command(*trim), check_health=False)
            await reader.read_response()
            under_way -= len(entries)
            room.set()
            count(len(entries))

    tasks = [asyncio.create_task(send()), asyncio.create_task(receive())]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in (sender, reader):
            await connection.disconnect(nowait=True)


DRIVERS = {"arq": drive_arq, "streaq": drive_streaq, "plain": drive_plain}


def main(name: str, socket: str, slots: str) -> None:
    if name == "arq":
        work_arq(socket, int(slots))
    elif name == "streaq":
        work_streaq(socket, int(slots))
    else:
        asyncio.run(_plain(socket))


if __name__ == "__main__":
    main(*sys.argv[1:])
