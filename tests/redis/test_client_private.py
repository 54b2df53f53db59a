"""The shared client and dedicated connections, on the session's private server."""

import asyncio

import pytest
from redis.exceptions import ResponseError

from orka.errors import StoreError
from orka.redis.client import MAX_CONNECTIONS, RedisHandle, connection_for, translate
from orka.redis.facts import converse
from orka.redis.faults import reply_text


async def test_without_a_url_the_private_server_is_opened(clean_redis: RedisHandle) -> None:
    assert clean_redis.private
    assert clean_redis.facts.search
    assert clean_redis.facts.aof
    assert clean_redis.facts.maxmemory_policy == "noeviction"
    assert clean_redis.facts.run_id == (await clean_redis.client.info("server"))["run_id"]
    assert await clean_redis.client.dbsize() == 0


async def test_a_thousand_commands_at_once_wait_for_a_connection_instead_of_failing(clean_redis: RedisHandle) -> None:
    counts = await asyncio.gather(*(clean_redis.client.incr("count") for _ in range(1000)))
    assert sorted(counts) == list(range(1, 1001))
    assert (await clean_redis.client.info("clients"))["connected_clients"] <= MAX_CONNECTIONS + 5


async def test_a_cancelled_command_never_leaves_its_reply_to_the_next(clean_redis: RedisHandle) -> None:
    """Cancelled after every number of steps of the event loop that the command can take."""
    for steps in range(25):
        for _ in range(3):
            task = asyncio.create_task(clean_redis.client.echo("cancelled"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await asyncio.gather(*(clean_redis.client.echo(str(n)) for n in range(3))) == [b"0", b"1", b"2"]


async def test_a_blocking_read_on_its_own_connection_outlasts_the_timeout(clean_redis: RedisHandle) -> None:
    connection = connection_for(clean_redis.target, timeout=0.2)
    await connection.connect()
    reading = asyncio.create_task(converse(connection, "BLPOP", "list", "0"))
    await asyncio.sleep(0.5)
    assert not reading.done()
    await clean_redis.client.rpush("list", "value")
    assert await asyncio.wait_for(reading, 5) == [b"list", b"value"]
    await connection.disconnect()


async def test_replies_have_the_shapes_of_resp2(clean_redis: RedisHandle) -> None:
    connection = clean_redis.connection()
    await connection.connect()
    assert await converse(connection, "HSET", "hash", "a", "1") == 1
    assert await converse(connection, "HGETALL", "hash") == [b"a", b"1"]
    await connection.disconnect()


async def test_a_single_server_holds_every_slot(clean_redis: RedisHandle) -> None:
    router = await clean_redis.open_router()
    assert router.node_of(0) == router.node_of(16383) == clean_redis.target.label
    assert router.nodes == (clean_redis.target.label,)


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        ("MISCONF Errors writing to the AOF file: No space left on device", "cannot write to its disk"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "is full"),
        ("NOPERM User me has no permissions to run the 'xadd' command", "does not allow this user"),
        ("READONLY You can't write against a read only replica.", "is a replica"),
        ("CLUSTERDOWN The cluster is down", "is a cluster that is down"),
        ("LOADING Redis is loading the dataset in memory", "still loading"),
        ("ERR unknown command", "answered with an error"),
    ],
)
def test_error_replies_become_advice(reply: str, meaning: str) -> None:
    error = translate(ResponseError(reply), "host:1")
    assert type(error) is StoreError
    assert str(error).startswith("Redis at host:1")
    assert meaning in str(error)
    assert reply in str(error)


@pytest.mark.parametrize("place", ["", "1f2e" * 10 + ", "])
def test_the_place_in_our_own_scripts_is_left_out_of_error_replies(place: str) -> None:
    reply = f"MISCONF Errors writing to the AOF file: No space left on device. script: {place}on @user_script:27."
    assert reply_text(ResponseError(reply)) == "MISCONF Errors writing to the AOF file: No space left on device"
