"""Round trips that share a connection: sent without waiting for each other, answered in order, none with replies of another."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from support.crew import becomes

from orka.redis.client import RedisHandle
from orka.redis.pipeline import ConnectionLost, Keyed, Pipe

SLOW: Keyed = ("gate", ("BLPOP", "gate", "0"))
"""Answered when somebody pushes."""


@pytest.fixture
async def pipe(clean_redis: RedisHandle) -> AsyncIterator[Pipe]:
    opened = Pipe(await clean_redis.open_router(), at_once=2)
    yield opened
    await opened.aclose()


def echo(text: str) -> Keyed:
    return "any", ("ECHO", text)


async def received(redis: RedisHandle) -> int:
    """Bytes that have come over the connection whose command waits; 0 while none does."""
    clients: Any = await redis.client.client_list()
    return sum(int(one["tot-net-in"]) for one in clients if one["cmd"] == "blpop" and "b" in one["flags"])


async def waiting(
    redis: RedisHandle, pipe: Pipe, behind: Keyed
) -> tuple[asyncio.Task[list[Any]], asyncio.Task[list[Any]]]:
    """Two round trips under way, the second of which the server has and cannot answer yet."""

    async def blocked() -> bool:
        return await received(redis) > 0

    first = asyncio.create_task(pipe.roundtrip([SLOW]))
    await becomes(blocked)
    before = await received(redis)

    async def more() -> bool:
        return await received(redis) > before

    second = asyncio.create_task(pipe.roundtrip([behind]))
    await becomes(more)
    return first, second


async def test_the_second_is_sent_while_the_first_is_not_answered(clean_redis: RedisHandle, pipe: Pipe) -> None:
    with anyio.fail_after(10):
        first, second = await waiting(clean_redis, pipe, echo("behind"))
        assert not first.done()
        assert not second.done()
        await clean_redis.client.rpush("gate", "open")
        assert await first == [[b"gate", b"open"]]
        assert await second == [b"behind"]


async def test_one_connection_serves_all_from_the_first_on(clean_redis: RedisHandle, pipe: Pipe) -> None:
    before = (await clean_redis.client.info("stats"))["total_connections_received"]
    found = await asyncio.gather(*(pipe.roundtrip([echo(str(number))]) for number in range(50)))
    assert found == [[b"%d" % number] for number in range(50)]
    assert (await clean_redis.client.info("stats"))["total_connections_received"] - before == 1
    assert pipe.round_trips == 50


async def test_one_that_is_cancelled_takes_those_under_way_with_it_and_no_other(
    clean_redis: RedisHandle, pipe: Pipe
) -> None:
    with anyio.fail_after(10):
        first, second = await waiting(clean_redis, pipe, echo("behind"))
        third = asyncio.create_task(pipe.roundtrip([echo("later")]))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(ConnectionLost, match="shared the connection was cancelled"):
            await second
        assert await third == [b"later"]


async def test_a_cancelled_wait_behind_another_breaks_what_is_before_it(clean_redis: RedisHandle, pipe: Pipe) -> None:
    with anyio.fail_after(10):
        first, second = await waiting(clean_redis, pipe, echo("behind"))
        second.cancel()
        with pytest.raises(ConnectionLost):
            await first
        assert await pipe.roundtrip([echo("again")]) == [b"again"]


async def test_connections_that_break_at_any_moment_never_mix_up_replies(clean_redis: RedisHandle) -> None:
    pipe = Pipe(await clean_redis.open_router(), at_once=4)
    draw = random.Random(7)
    right = lost = 0

    async def ask(number: int) -> None:
        nonlocal right, lost
        names = [f"{number}-{i}" for i in range(draw.randint(1, 40))]
        try:
            assert await pipe.roundtrip([echo(name) for name in names]) == [name.encode() for name in names]
            right += 1
        except ConnectionLost:
            lost += 1

    with anyio.fail_after(60):
        for round_number in range(60):
            tasks = [asyncio.create_task(ask(round_number * 100 + number)) for number in range(20)]
            for _ in range(draw.randint(0, 6)):
                await asyncio.sleep(0)
            if round_number % 3 == 0:
                draw.choice(tasks).cancel()
            elif round_number % 3 == 1:
                await clean_redis.client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.gather(*tasks, return_exceptions=True)
            failures = [task.exception() for task in tasks if not task.cancelled() and task.exception() is not None]
            assert failures == []
    await pipe.aclose()
    assert right > 500
    assert lost > 10
