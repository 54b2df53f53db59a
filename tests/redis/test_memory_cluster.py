"""Memories on a real cluster of three primaries, each with a search module that knows nothing of the others."""

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError
from servers import Servers, Started, join_cluster, start_cluster
from support.crew import becomes
from support.indexes import AT_MS, COUNTS, WordCounts, by_meaning, by_words, contents, newest, note, opened
from support.memory import BACKENDS, open_memories
from support.resharding import open_cluster

from orka.errors import BackendMissing, IndexMismatch
from orka.memory.layout import INDEX
from orka.memory.query import Filters, Look
from orka.memory.record import key_for
from orka.memory.redisstack import RedisStackStore
from orka.memory.reindex import reindex
from orka.memory.writer import MemoryWriter
from orka.redis.client import RedisHandle, open_redis
from orka.settings import Settings

TEXTS = [f"memory number {n}" for n in range(300)]


def cluster_url(nodes: list[Started]) -> str:
    return "redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0"


@pytest.fixture
async def nodes(servers: Servers) -> list[Started]:
    return await start_cluster(servers, search=True)


@pytest.fixture
async def redis(nodes: list[Started], with_url: Callable[[str], Settings]) -> AsyncIterator[RedisHandle]:
    async with open_redis(with_url(cluster_url(nodes))) as redis:
        yield redis


async def fill(store: RedisStackStore) -> None:
    records = [note(text, timestamp_ms=AT_MS + n, namespace=f"n{n % 3}") for n, text in enumerate(TEXTS)]
    assert list(await store.write(records, COUNTS.vectors(TEXTS))) == [None] * len(records)


async def ask(node: Started, *words: str) -> object:
    async with Redis(port=node.port, password="hunter2", protocol=2) as client:
        return await client.execute_command(*words)


async def test_memories_spread_and_searches_find_all_of_them(redis: RedisHandle, nodes: list[Started]) -> None:
    async with opened(redis) as store:
        assert len(store._places) == 3
        await fill(store)
        sizes = [await ask(node, "DBSIZE") for node in nodes]
        assert min(int(str(size)) for size in sizes) > 50, sizes
        for n in (0, 7, 299):
            [found] = await by_meaning(store, TEXTS[n], 1)
            assert (found.record.content, found.similarity) == (TEXTS[n], pytest.approx(1, abs=0.01))
        assert len(await by_meaning(store, "memory", 1000)) == 300
        assert contents(await by_words(store, "memory 123"))[0] == "memory number 123"
        assert len(await by_words(store, "memory", 1000, namespace="n1")) == 100
        assert contents(await newest(store, 20, 35)) == TEXTS[-36:-56:-1]
        similarities = [one.similarity for one in await by_meaning(store, TEXTS[9], 50)]
        assert similarities == sorted(similarities, key=lambda one: -(one or 0))


async def test_all_primaries_are_asked_in_one_round_trip_each(redis: RedisHandle) -> None:
    async with opened(redis) as store:
        await fill(store)
        before = store._searching.round_trips
        looks = [Look(count=3, filters=Filters(), at_ms=AT_MS, vector=COUNTS.vectors([text])[0]) for text in TEXTS[:20]]
        assert [contents(found)[0] for found in await store.search(looks)] == TEXTS[:20]
        assert store._searching.round_trips == before + 3


async def test_what_is_written_again_or_deleted_is_gone_on_every_primary(redis: RedisHandle) -> None:
    async with opened(redis) as store:
        keys = [key_for(str(n)) for n in range(30)]
        for text in ("first", "second"):
            assert set(await store.write([note(text, key=key) for key in keys], COUNTS.vectors([text] * 30))) == {None}
        assert await by_words(store, "first", 100) == []
        assert len(await by_words(store, "second", 100)) == 30
        assert await store.delete(keys[:20]) == 20
        assert len(await by_meaning(store, "second", 100)) == 10
        assert len([1 async for records in store.scan() for _ in records]) == 10


async def test_many_that_open_at_once_make_one_index_on_each(
    redis: RedisHandle, nodes: list[Started], with_url: Callable[[str], Settings]
) -> None:
    async def one() -> None:
        async with open_redis(with_url(cluster_url(nodes))) as other, opened(other):
            pass

    await asyncio.gather(*(one() for _ in range(8)))
    listed = [await ask(node, "FT._LIST") for node in nodes]
    assert all(isinstance(names, list) and len(names) == 1 for names in listed), "no probe is left behind"
    home = next(node for node, names in zip(nodes, listed, strict=True) if names == [f"{{{INDEX}}}:1".encode()])
    found = await ask(home, "FT.SEARCH", INDEX, "*", "NOCONTENT")
    assert found == [0], "the documented name answers for the primary that holds it"


async def test_a_rebuild_changes_all_primaries(redis: RedisHandle, nodes: list[Started]) -> None:
    other = WordCounts("others", 24)
    async with opened(redis) as store:
        await fill(store)
        done = await reindex(redis, await redis.open_router(), other.layout(), other)
        assert (done.memories, done.embedded, done.layout.version) == (300, 300, 2)
        with pytest.raises(IndexMismatch):
            await by_meaning(store, "x")
    async with opened(redis, other.layout()) as store:
        assert contents(await by_meaning(store, TEXTS[44], 1, by=other)) == [TEXTS[44]]
    for node in nodes:
        names = await ask(node, "FT._LIST")
        assert isinstance(names, list)
        assert [name.endswith(b":2") for name in names] == [True]


async def test_an_index_is_made_where_slots_have_moved(redis: RedisHandle, nodes: list[Started]) -> None:
    """The slot of a primary's tag moves: its index there has no name any more that leads to it."""
    async with opened(redis) as store:
        await fill(store)
        slot = key_slot(INDEX.encode())
        home = store._router.node_of(slot)
        target = next(node for node in nodes if not home.endswith(f":{node.port}"))
        source = next(node for node in nodes if home.endswith(f":{node.port}"))
        identity, origin = [str(await ask(node, "CLUSTER", "MYID"), "ascii") for node in (target, source)]  # type: ignore[call-overload]
        await ask(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", origin)
        await ask(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", identity)
        keys = await ask(source, "CLUSTER", "GETKEYSINSLOT", str(slot), "100")
        assert isinstance(keys, list)
        if keys:
            await ask(source, "MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
        for node in (target, source, *nodes):
            await ask(node, "CLUSTER", "SETSLOT", str(slot), "NODE", identity)
        assert len(await by_meaning(store, "memory", 1000)) == 300
        assert len(await newest(store, 1000)) == 300


async def test_a_process_that_only_searches_finds_what_went_to_a_new_primary(
    servers: Servers, redis: RedisHandle, nodes: list[Started], with_url: Callable[[str], Settings]
) -> None:
    async with opened(redis) as writer:
        await fill(writer)
        found = await by_meaning(writer, TEXTS[5], 1)
        slot = key_slot(found[0].record.key.encode())
    async with open_redis(with_url(cluster_url(nodes))) as other, opened(other) as store:
        assert len(await by_meaning(store, "memory", 1000)) == 300
        new = await join_cluster(servers, nodes, search=True)
        home = next(node for node in nodes if store._router.node_of(slot).endswith(f":{node.port}"))
        async with open_cluster([home, new]) as cluster:
            await cluster.move(slot, 0)

        async def all_there() -> bool:
            return len(await by_meaning(store, "memory", 1000)) == 300

        await becomes(all_there)
        assert contents(await by_words(store, "5")) == [TEXTS[5]]
        assert len(store._places) == 4


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_search_waits_while_a_primary_is_down_for_a_moment(
    backend: str, nodes: list[Started], with_url: Callable[[str], Settings]
) -> None:
    async with open_memories(backend, with_url(cluster_url(nodes))) as memories:
        await memories.write(*TEXTS)
        used = {key_slot(record.key.encode()) for record in await memories.write("the last one")}
        for node in nodes:
            slot = await unused_slot(node, used)
            await ask(node, "CLUSTER", "DELSLOTS", slot)  # until it has them all again it refuses whatever it is asked
            with pytest.raises(ClusterDownError):
                await ask(node, "GET", "x{" + str(node.port) + "}")
            async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
                search = tasks.create_task(memories.newest(count=1))
                await asyncio.wait({search}, timeout=0.3)  # time for it to be refused, unless others have all it needs
                await ask(node, "CLUSTER", "ADDSLOTS", slot)
                assert await search == ["the last one"]


async def unused_slot(node: Started, used: set[int]) -> str:
    """One of the node's that holds no key."""
    identity = str(await ask(node, "CLUSTER", "MYID"), "ascii")  # type: ignore[call-overload]
    shards = await ask(node, "CLUSTER", "NODES")
    line = next(line for line in str(shards, "ascii").splitlines() if line.startswith(identity))  # type: ignore[call-overload]
    first, last = map(int, line.split()[8].split("-"))
    for slot in range(first, last):
        if slot not in used and await ask(node, "CLUSTER", "COUNTKEYSINSLOT", str(slot)) == 0:
            return str(slot)
    raise AssertionError("every slot has a key")


async def test_a_primary_without_the_module_is_named(
    servers: Servers, nodes: list[Started], with_url: Callable[[str], Settings]
) -> None:
    plain = await start_cluster(servers)
    async with open_redis(with_url(cluster_url(plain))) as redis:
        with pytest.raises(BackendMissing, match="no search module"):
            async with opened(redis):
                pass


async def test_of_many_writes_of_a_key_the_last_one_stays_while_its_slot_moves(
    redis: RedisHandle, nodes: list[Started]
) -> None:
    """Batches overlap on their connections, and some come back to be sent to another primary."""
    keys = [key_for(str(n)) for n in range(40)]
    last: dict[str, str] = {}
    async with opened(redis) as store, anyio.create_task_group() as tasks:
        writer = MemoryWriter(store, COUNTS, patience=20, batch=8)
        await tasks.start(writer.run)
        stopped = False

        async def write(share: list[str]) -> None:
            number = 0
            while not stopped:
                number += 1
                for key in share:
                    last[key] = f"value {number} of {key}"
                    await writer.write(note(last[key], key=key))
                await asyncio.sleep(0.001)

        async with open_cluster(nodes) as cluster, anyio.create_task_group() as writing:
            for share in (keys[:20], keys[20:]):
                writing.start_soon(write, share)
            for key in keys[::4]:
                await cluster.move(key_slot(key.encode()), 0.02)
            stopped = True
        await writer.aclose()
        assert writer.statistics().refused == writer.statistics().lost == 0
        found = await store._hashes.read(keys)
        assert {record.key: record.content for record in found if record is not None} == last
        assert len(await newest(store, 100)) == 40
        tasks.cancel_scope.cancel()
