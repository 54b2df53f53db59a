"""Many requests in few calls."""

import asyncio

import pytest

from orka.memory.batcher import Batcher


class Server:
    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.active = self.most_active = 0

    async def __call__(self, items):
        self.calls.append(list(items))
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            if "bad" in items:
                raise ValueError("bad")
            return [item * 2 for item in items]
        finally:
            self.active -= 1


async def test_a_lone_request_goes_at_once():
    server = Server()
    assert await Batcher(server, most=10).submit("a") == "aa"


async def test_others_gather_while_a_call_is_under_way():
    server = Server()
    batcher = Batcher(server, most=3)
    found = await asyncio.gather(*(batcher.submit(str(i)) for i in range(8)))
    assert found == [str(i) * 2 for i in range(8)]
    assert server.calls == [["0"], ["1", "2", "3"], ["4", "5", "6"], ["7"]]
    assert batcher.statistics() == (8, 4, 0)


async def test_so_many_calls_at_once():
    server = Server()
    batcher = Batcher(server, most=2, at_once=2)
    server.gate.clear()
    tasks = [asyncio.create_task(batcher.submit(str(i))) for i in range(6)]
    await asyncio.sleep(0)
    assert server.calls == [["0"], ["1"]]
    server.gate.set()
    assert await asyncio.gather(*tasks) == [str(i) * 2 for i in range(6)]
    assert server.most_active == 2


async def test_an_error_is_that_of_its_call_alone():
    server = Server()
    batcher = Batcher(server, most=2)
    found = await asyncio.gather(*(batcher.submit(item) for item in ("a", "bad", "b", "c")), return_exceptions=True)
    assert found[0] == "aa"
    assert isinstance(found[1], ValueError)
    assert isinstance(found[2], ValueError)
    assert found[3] == "cc"


@pytest.mark.parametrize("who", [0, 1, 2, 3])
async def test_a_cancelled_request_takes_no_other_with_it(who):
    server = Server()
    batcher = Batcher(server, most=2)
    server.gate.clear()
    tasks = [asyncio.create_task(batcher.submit(str(i))) for i in range(5)]
    await asyncio.sleep(0.01)
    tasks[who].cancel()
    await asyncio.sleep(0.01)
    server.gate.set()
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    for i, result in enumerate(found):
        if i == who:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert result == str(i) * 2
    assert await asyncio.wait_for(batcher.submit("later"), 5) == "laterlater"


async def test_a_leader_that_is_cancelled_under_way_leaves_its_items_to_others():
    server = Server()
    batcher = Batcher(server, most=3)
    server.gate.clear()
    first = asyncio.create_task(batcher.submit("0"))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(batcher.submit(str(i))) for i in range(1, 6)]
    await asyncio.sleep(0)
    server.gate.set()
    await first
    server.gate.clear()
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    server.gate.set()
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [str(i) * 2 for i in range(2, 6)]
