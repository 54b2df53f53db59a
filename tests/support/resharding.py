"""Moves slots of a real cluster from one primary to another, as `redis-cli --cluster reshard` does, while others work on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from servers import Started

from orka.redis.keys import tag_of


class Cluster:
    """Clients of the single nodes, and who holds what."""

    def __init__(self, clients: dict[int, "Redis"], password: str) -> None:
        self._clients = clients
        self._password = password

    async def owner(self, slot: int) -> int:
        """The port of the primary that holds a slot."""
        for port, client in self._clients.items():
            found = (await client.execute_command("CLUSTER", "NODES")).decode()  # type: ignore[no-untyped-call]
            mine = next(line for line in found.splitlines() if "myself" in line).split()
            for part in mine[8:]:
                first, _, last = part.partition("-")
                if first.isdigit() and int(first) <= slot <= int(last or first):
                    return port
        raise AssertionError(f"slot {slot} has no node")

    async def move(self, slot: int, pause: float) -> None:
        """To the next primary, a few keys at a time, and with a pause in the middle."""
        async with self.moving(slot) as carry:
            await carry(3)
            await asyncio.sleep(pause)  # some keys are here, some there, and some not yet made
            while await carry(3):
                pass

    @asynccontextmanager
    async def moving(self, slot: int) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
        """The slot moves to the next primary, and has moved behind the block. What it gives carries some of its keys over,
        and tells how many; the block has to carry all of them."""
        source, ports = await self.owner(slot), list(self._clients)
        target = ports[(ports.index(source) + 1) % len(ports)]
        ids = {port: (await self.ask(port, "CLUSTER", "MYID")).decode() for port in ports}
        await self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        await self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])

        async def carry(count: int) -> int:
            keys = await self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, count)
            if keys:
                place = ("127.0.0.1", target, "", 0, 5000, "AUTH", self._password)
                await self.ask(source, "MIGRATE", *place, "KEYS", *keys)
            return len(keys)

        yield carry
        for port in (target, *ports):  # the new owner first, as the specification of clusters wants it
            await self.ask(port, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])

    async def ask(self, port: int, *words: Any) -> Any:
        """One node."""
        return await self._clients[port].execute_command(*words)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def open_cluster(nodes: Sequence[Started]) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        clients: dict[int, Redis] = {}
        for node in nodes:
            assert node.password is not None
            client = Redis(host="127.0.0.1", port=node.port, password=node.password)
            clients[node.port] = await stack.enter_async_context(client)
        yield Cluster(clients, nodes[0].password or "")


def slot_of(partition: int) -> int:
    return key_slot(tag_of(partition).encode())
