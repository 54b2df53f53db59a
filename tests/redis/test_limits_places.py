"""Places that many processes share: never more than there are, in the order of asking, and none is lost with the dead."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
from redis.crc import key_slot
from servers import Servers, start_cluster
from support.limits import PARTITIONS, Gauge, process, state, until

from orka.dispatch.limits import Limit
from orka.redis.client import RedisHandle, open_redis
from orka.redis.keys import inbox_key, limit_keys
from orka.settings import Settings

THREE = Limit(name="resource:three", most=3)
ONE = Limit(name="resource:one", most=1)


async def no_keys(redis: RedisHandle, limit: Limit) -> bool:
    return not await redis.client.exists(*limit_keys(limit.name, PARTITIONS))


async def test_never_more_at_once_than_there_are_places_whatever_the_processes(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(process(clean_redis, f"p{i}")) for i in range(6)]
        async with anyio.create_task_group() as tasks:
            for number in range(150):
                tasks.start_soon(gauge.use, processes[number % 6], [THREE], str(number), 0.004)
    assert gauge.most == 3
    assert len(gauge.order) == 150
    assert await no_keys(clean_redis, THREE)


async def test_places_are_given_in_the_order_of_asking_at_once(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    async with process(clean_redis, "a") as a, process(clean_redis, "b") as b, process(clean_redis, "c") as c:
        async with anyio.create_task_group() as tasks:
            first = a.limits.ask(ONE, "run", "first")
            await first.wait()
            for number in range(12):
                tasks.start_soon(gauge.use, (c, a, b)[number % 3], [ONE], str(number))
                await until(lambda number=number: _waiting(clean_redis, number + 1))
            began = time.monotonic()
            first.give_back()
        assert gauge.order == [str(number) for number in range(12)]
        assert gauge.most == 1
        assert time.monotonic() - began < 1.5  # a lease is ten seconds: nobody waited for a renewal
        assert b.limits.statistics()._replace(reconnects=0) == (4, 4, 0, 0, 0, 0)


async def _waiting(redis: RedisHandle, count: int) -> bool:
    return (await state(redis, ONE.name))[1] == count


async def test_the_place_of_a_dead_holder_comes_free_after_its_lease(clean_redis: RedisHandle) -> None:
    async with process(clean_redis, "dead", lease=0.6) as dead, process(clean_redis, "alive", lease=0.6) as alive:
        two = Limit(name="resource:two", most=2)
        beside = alive.limits.ask(two, "run", "w")
        await beside.wait()
        await dead.limits.ask(two, "run", "x").wait()
        dead.kill()
        began = time.monotonic()
        place = alive.limits.ask(two, "run", "y")
        with anyio.fail_after(2):
            await place.wait()
        assert 0.3 < time.monotonic() - began < 1.2
        place.give_back()
        beside.give_back()
        assert alive.limits.statistics().lost == 0


async def test_a_living_holder_keeps_its_place_for_many_leases(clean_redis: RedisHandle) -> None:
    async with process(clean_redis, "a", lease=0.3) as a, process(clean_redis, "b", lease=0.3) as b:
        held = a.limits.ask(ONE, "run", "x")
        await held.wait()
        waiting = b.limits.ask(ONE, "run", "y")
        with anyio.move_on_after(1.0):
            await waiting.wait()
        assert not waiting.granted.is_set()
        held.give_back()
        with anyio.fail_after(0.25):
            await waiting.wait()
        waiting.give_back()
        assert a.limits.statistics().lost == 0


async def test_a_dead_waiter_is_passed_over(clean_redis: RedisHandle) -> None:
    async with (
        process(clean_redis, "a", lease=0.4) as a,
        process(clean_redis, "dead", lease=0.4) as dead,
        process(clean_redis, "b", lease=0.4) as b,
    ):
        held = a.limits.ask(ONE, "run", "x")
        await held.wait()
        await dead.limits.ask(ONE, "run", "y").answered.wait()
        dead.kill()
        last = b.limits.ask(ONE, "run", "z")
        await anyio.sleep(0.5)
        held.give_back()
        with anyio.fail_after(0.3):
            await last.wait()
        last.give_back()


async def test_cancelling_while_waiting_gives_everything_back(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    async with process(clean_redis, "a") as a, process(clean_redis, "b") as b:
        held = a.limits.ask(ONE, "run", "x")
        await held.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gauge.use, b, [ONE], "cut off")
            await until(lambda: _waiting(clean_redis, 1))
            tasks.cancel_scope.cancel()
        await until(lambda: _waiting(clean_redis, 0))
        # Before the question has even left: the answer gives back what nobody wants any more.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gauge.use, b, [THREE], "cut off")
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        held.give_back()
        await gauge.use(b, [ONE], "later")
        await until(lambda: no_keys(clean_redis, ONE))
        await until(lambda: no_keys(clean_redis, THREE))
        assert gauge.order == ["later"]
        assert (b.limits.statistics().waiting, b.limits.statistics().held) == (0, 0)


async def test_a_lost_message_is_made_good_by_the_next_renewal(clean_redis: RedisHandle) -> None:
    async with process(clean_redis, "a", lease=0.6) as a, process(clean_redis, "b", lease=0.6) as b:
        held = a.limits.ask(ONE, "run", "x")
        await held.wait()
        waiting = b.limits.ask(ONE, "run", "y")
        await waiting.answered.wait()
        b.inbox.forget("limit", "", "", b.limits._told)
        began = time.monotonic()
        held.give_back()
        with anyio.fail_after(1):
            await waiting.wait()
        assert time.monotonic() - began < 0.5
        waiting.give_back()
        assert b.inbox.statistics().unwanted == 1


async def test_a_server_that_forgot_everything_learns_it_again(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    async with process(clean_redis, "a", lease=0.3) as a, process(clean_redis, "b", lease=0.3) as b:
        held = a.limits.ask(ONE, "run", "x")
        await held.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gauge.use, b, [ONE], "y")
            await until(lambda: _waiting(clean_redis, 1))
            await clean_redis.client.flushall()
            await until(lambda: a.limits.statistics().lost == 1)
            await until(lambda: _waiting(clean_redis, 1))
            assert gauge.order == []
            held.give_back()
        assert gauge.order == ["y"]
        assert await state(clean_redis, ONE.name) == (0, 0)


async def test_the_lengths_of_files_that_disagree_hold_for_their_own_askers(clean_redis: RedisHandle) -> None:
    async with process(clean_redis, "a") as a:
        wide = Limit(name=ONE.name, most=2)
        first, second = a.limits.ask(ONE, "run", "1"), a.limits.ask(wide, "run", "2")
        await first.wait()
        await second.wait()
        third = a.limits.ask(ONE, "run", "3")
        await third.answered.wait()
        first.give_back()
        with anyio.move_on_after(0.05):
            await third.wait()
        assert not third.granted.is_set()
        second.give_back()
        await third.wait()
        third.give_back()


async def test_messages_lie_in_the_slot_of_the_limit_and_are_deleted(clean_redis: RedisHandle) -> None:
    async with process(clean_redis, "a") as a:
        held, waiting = a.limits.ask(ONE, "run", "x"), a.limits.ask(ONE, "run", "y")
        await waiting.answered.wait()
        held.give_back()
        await waiting.wait()
        waiting.give_back()
        tag = limit_keys(ONE.name, PARTITIONS)[0].partition(":limit:")[0]
        assert 0 < await clean_redis.client.ttl(inbox_key(tag, "a")) <= 3600


async def test_connections_that_are_cut_lose_no_place(clean_redis: RedisHandle) -> None:
    gauge = Gauge()
    async with process(clean_redis, "a", lease=3) as a, process(clean_redis, "b", lease=3) as b:
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(gauge.use, (a, b)[number % 2], [THREE], str(number), 0.02)
            for _ in range(6):
                await anyio.sleep(0.05)
                await clean_redis.client.client_kill_filter(_type="normal", skipme=True)
        assert a.limits.statistics().reconnects + b.limits.statistics().reconnects > 0
    assert (gauge.most, len(gauge.order)) == (3, 60)
    assert await no_keys(clean_redis, THREE)


async def test_limits_spread_over_a_cluster_each_in_one_slot(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    nodes = await start_cluster(servers)
    settings = with_url("redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0")
    names = [f"resource:r{number}" for number in range(9)]
    gauges = {name: Gauge() for name in names}
    async with open_redis(settings) as redis:
        router = await redis.open_router()
        homes = {router.node_of(key_slot(limit_keys(name, PARTITIONS)[0].encode())) for name in names}
        assert homes == set(router.nodes)
        async with process(redis, "a") as a, process(redis, "b") as b, anyio.create_task_group() as tasks:
            for number in range(90):
                limit = Limit(name=names[number % 9], most=2, interval=2_000)
                tasks.start_soon(gauges[limit.name].use, (a, b)[number % 2], [limit], str(number), 0.01)
    assert {(gauge.most, len(gauge.order)) for gauge in gauges.values()} == {(2, 10)}
