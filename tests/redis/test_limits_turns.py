"""Turns that many processes share: as many per time as the file says, exactly, and none is lost with who was cancelled."""

import time
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import anyio
import pytest
from support.limits import PARTITIONS, Gauge, process, until

from orka.dispatch.limits import Limit
from orka.redis.client import RedisHandle
from orka.redis.keys import limit_keys
from orka.redis.limit_scripts import ask, give_back
from orka.redis.pipeline import Pipe

FAST = Limit(name="agent:g/fast", interval=5_000)
SLOW = Limit(name="resource:slow", interval=60_000_000)


@pytest.fixture
async def pipe(clean_redis: RedisHandle) -> Any:
    opened = Pipe(await clean_redis.open_router())
    yield opened
    await opened.aclose()


async def asked(pipe: Pipe, limit: Limit, ticket: str) -> tuple[int, str]:
    """(seconds to wait, rounded; TAT) of a ticket."""
    keys = limit_keys(limit.name, PARTITIONS)
    tolerance = (limit.burst - 1) * limit.interval
    command = ask(
        keys, ticket=f"p/{ticket}/run/x", lease_ms=1000, most=limit.most, interval=limit.interval, tolerance=tolerance
    )
    [reply] = await pipe.roundtrip([(keys[0], command)])
    assert reply[0] == b"go", reply
    return round(reply[1] / 1e6), reply[2].decode()


async def returned(pipe: Pipe, limit: Limit, ticket: str, tat: str) -> None:
    keys = limit_keys(limit.name, PARTITIONS)
    command = give_back(keys, ticket=f"p/{ticket}/run/x", interval=limit.interval, unused=tat)
    assert await pipe.roundtrip([(keys[0], command)]) == [[b"ok"]]


async def test_a_rate_is_exact_over_a_window_however_many_processes_ask(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(process(clean_redis, f"p{i}")) for i in range(5)]
        async with anyio.create_task_group() as tasks:
            for number in range(301):
                tasks.start_soon(gauge.use, processes[number % 5], [FAST], str(number))
    times = sorted(gauge.times)
    assert times[-1] - times[0] == pytest.approx(300 * 0.005, rel=0.05)
    for begin in range(0, 200, 25):  # 100 turns are half a second; the loop of a busy machine wakes some of them late
        assert times[begin + 100] - times[begin] == pytest.approx(0.5, abs=0.1)


async def test_turns_are_a_whole_interval_apart_by_the_servers_clock(pipe: Pipe) -> None:
    keys = limit_keys(FAST.name, PARTITIONS)
    commands = [
        (keys[0], ask(keys, ticket=f"p{i % 7}/{i}/r/x", lease_ms=1000, most=0, interval=5000, tolerance=0))
        for i in range(200)
    ]
    tats = [int(reply[2]) for reply in await pipe.roundtrip(commands)]
    assert {later - earlier for earlier, later in pairwise(tats)} == {5000}


async def test_turns_are_reserved_in_the_order_of_asking_and_a_pause_earns_nothing(pipe: Pipe) -> None:
    assert [(await asked(pipe, SLOW, str(i)))[0] for i in range(4)] == [0, 60, 120, 180]
    quick = Limit(name="agent:g/quick", interval=1_000)
    assert (await asked(pipe, quick, "1"))[0] == 0
    await anyio.sleep(0.05)
    keys = limit_keys(quick.name, PARTITIONS)
    replies = await pipe.roundtrip(
        [(keys[0], ask(keys, ticket=f"p/{i}/r/x", lease_ms=1000, most=0, interval=1000, tolerance=0)) for i in "234"]
    )
    assert replies[0][1] == 0
    assert 0 < replies[1][1] <= 1000 < replies[2][1] <= 2000


async def test_a_burst_follows_a_pause_and_then_the_distance_holds(pipe: Pipe) -> None:
    burst = Limit(name="agent:g/burst", interval=60_000_000, burst=3)
    assert [(await asked(pipe, burst, str(i)))[0] for i in range(6)] == [0, 0, 0, 60, 120, 180]


async def test_the_last_turn_given_back_is_as_if_it_had_never_been(pipe: Pipe) -> None:
    for burst, waits in ((1, [0, 60]), (2, [0, 0])):
        limit = Limit(name=f"agent:g/{burst}", interval=60_000_000, burst=burst)
        assert [(await asked(pipe, limit, str(i)))[0] for i in range(2)] == waits
        wait, tat = await asked(pipe, limit, "late")
        await returned(pipe, limit, "late", tat)
        assert await asked(pipe, limit, "next") == (wait, tat)


async def test_an_unused_turn_of_now_is_given_back_too(pipe: Pipe, clean_redis: RedisHandle) -> None:
    wait, tat = await asked(pipe, SLOW, "1")
    await returned(pipe, SLOW, "1", tat)
    assert wait == 0
    assert not await clean_redis.client.exists(*limit_keys(SLOW.name, PARTITIONS))
    assert (await asked(pipe, SLOW, "2"))[0] == 0


async def test_a_turn_given_back_between_others_is_the_next_ones(pipe: Pipe) -> None:
    tats = [(await asked(pipe, SLOW, str(i)))[1] for i in range(5)]
    await returned(pipe, SLOW, "2", tats[2])
    await returned(pipe, SLOW, "1", tats[1])
    assert [(await asked(pipe, SLOW, f"new{i}"))[0] for i in range(3)] == [60, 120, 300]


async def test_turns_given_back_in_any_order_leave_nothing(pipe: Pipe) -> None:
    tats = [(await asked(pipe, SLOW, str(i)))[1] for i in range(5)]
    for number in (3, 1, 4, 2):
        await returned(pipe, SLOW, str(number), tats[number])
    assert [(await asked(pipe, SLOW, f"new{i}"))[0] for i in range(2)] == [60, 120]
    await returned(pipe, SLOW, "new0", "")  # used: nothing is given back
    assert (await asked(pipe, SLOW, "last"))[0] == 180


async def test_after_turns_given_back_the_next_goes_as_if_nobody_had_asked(pipe: Pipe) -> None:
    limit = Limit(name="agent:g/tenth", interval=100_000)
    tats = [(await asked(pipe, limit, str(i)))[1] for i in range(8)]
    for number in (2, 4, 6, 5, 3, 1, 7):
        await returned(pipe, limit, str(number), tats[number])
    await anyio.sleep(0.11)
    keys = limit_keys(limit.name, PARTITIONS)
    command = ask(keys, ticket="p/next/run/x", lease_ms=1000, most=0, interval=limit.interval, tolerance=0)
    assert (await pipe.roundtrip([(keys[0], command)]))[0][1] == 0


async def test_whoever_is_cancelled_before_its_turn_gives_it_to_the_next(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    half = Limit(name="resource:half", interval=500_000)
    async with process(clean_redis, "a") as a, process(clean_redis, "b") as b:
        await gauge.use(a, [half], "first")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gauge.use, a, [half], "cut off")
            await until(lambda: a.limits.statistics().waited == 1)
            await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()
        await until(lambda: _no_turns(clean_redis, half))
        await gauge.use(b, [half], "second")
    assert gauge.order == ["first", "second"]
    assert gauge.times[1] - gauge.times[0] == pytest.approx(0.5, abs=0.05)


async def _no_turns(redis: RedisHandle, limit: Limit) -> bool:
    return not await redis.client.exists(limit_keys(limit.name, PARTITIONS)[3])


async def test_a_limit_may_have_places_and_turns(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    both = Limit(name="resource:both", most=2, interval=40_000)
    async with process(clean_redis, "a") as a, process(clean_redis, "b") as b, anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(gauge.use, (a, b)[number % 2], [both], str(number), 0.1)
    assert gauge.most == 2
    assert min(later - earlier for earlier, later in pairwise(gauge.times)) > 0.035
    # Two at once, each a tenth of a second: the places decide, and nobody waits for a turn on top of that.
    assert gauge.times[-1] - gauge.times[0] == pytest.approx(0.34, abs=0.1)


async def test_two_resources_do_not_know_each_other_and_a_call_may_need_both(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    one, other = Limit(name="resource:one", most=1), Limit(name="resource:other", interval=60_000_000)
    async with process(clean_redis, "a") as a, process(clean_redis, "b") as b:
        place = a.limits.ask(one, "run", "x")
        await place.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gauge.use, b, [other, one], "cut off")  # has its turn, and waits for the place
            await until(lambda: b.limits.statistics() == (2, 1, 1, 0, 0, 0))
            tasks.cancel_scope.cancel()
        began = time.monotonic()
        await gauge.use(b, [other], "other alone")  # at once: the turn was given back
        place.give_back()
        await gauge.use(b, [one], "one alone")
        assert time.monotonic() - began < 0.5
    assert gauge.order == ["other alone", "one alone"]
