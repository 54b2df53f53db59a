"""The documented API of memories: every method, inside `async with` and without, on both backends."""

import asyncio
import gc
import json
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Servers, start_cluster
from support.journals import client_of, own_server

from orka.clock import now_ms
from orka.errors import BackendMissing, ConfigError, RecordRefused, SettingsError, StoreError, WriteLost
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import PREFIX, new_record
from orka.memory_logger import MemoryLogger, RedisMemoryLogger, apply_memory_preset_to_config, create_memory_logger
from orka.redis.client import RedisHandle
from orka.redis.keys import memory_events_key
from orka.redis.wheels import find_wheels
from orka.settings import Settings


@pytest.fixture(params=["redis", "redisstack"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def settings(backend: str, clean_redis: RedisHandle, redis_settings: Settings) -> Settings:
    """Of the session's server, which is empty."""
    return replace(redis_settings, backend=backend)


@asynccontextmanager
async def opened(settings: Settings, block: bool, **options: Any) -> AsyncGenerator[MemoryLogger]:
    memory = create_memory_logger(settings=settings, **options)
    if block:
        async with memory:
            yield memory
    else:
        yield memory
        await memory.close()


BLOCK = pytest.mark.parametrize("block", [True, False], ids=["block", "lazy"])


def contents(found: list[dict[str, Any]]) -> list[str]:
    return [memory["content"] for memory in found]


@BLOCK
async def test_what_is_logged_is_found(block: bool, settings: Settings) -> None:
    async with opened(settings, block) as memory:
        assert await memory.ensure_index() is True
        before = now_ms()
        key = await memory.log_memory(
            "The customer likes green tea",
            "agent-1",
            "trace:1",
            {"namespace": "shop", "session": "s 1", "category": "note", "log_type": "memory", "colour": "green"},
            importance_score=0.9,
            memory_type="long_term",
            expiry_hours=2,
        )
        other = await memory.log_memory("Printers need paper", namespace="office", node_id="agent-2")
        assert key.startswith(PREFIX)
        [found] = await memory.search_memories("tea for the customer", 1)
        assert found["key"] == key
        assert found["similarity_score"] > 0.3
        assert 7100 < found["ttl_seconds"] <= 7200
        assert before <= found["timestamp"] <= now_ms()
        del found["score"], found["similarity_score"], found["text_score"], found["timestamp"]
        del found["ttl_seconds"], found["ttl_formatted"], found["expires_at"], found["expires_at_formatted"]
        assert found == {
            "key": key,
            "content": "The customer likes green tea",
            "node_id": "agent-1",
            "trace_id": "trace:1",
            "importance_score": 0.9,
            "memory_type": "long_term",
            "metadata": {
                "namespace": "shop",
                "session": "s 1",
                "category": "note",
                "log_type": "memory",
                "colour": "green",
            },
            "has_expiry": True,
        }
        for only, there in (
            ({"trace_id": "trace:1"}, [key]),
            ({"node_id": "agent-2"}, [other]),
            ({"memory_type": "long_term"}, [other, key]),
            ({"min_importance": 0.85}, [key]),
            ({"namespace": "office"}, [other]),
            ({"namespace": "offic"}, []),
            ({"log_type": "log"}, []),
            ({"log_type": "all"}, [other, key]),
            ({"num_results": 1}, [other]),
        ):
            assert sorted(one["key"] for one in await memory.search_memories(**only)) == sorted(there), only
        assert contents(await memory.search_memories("paper", similarity_threshold=0.99)) == ["Printers need paper"]
        assert await memory.search_memories("zzzz", similarity_threshold=0.99) == []
        assert contents(await memory.search(MemoryQuery(filters=Filters(metadata={"colour": "green"})))) == [
            "The customer likes green tea"
        ]
        assert sorted(contents(await memory.get_all_memories())) == [
            "Printers need paper",
            "The customer likes green tea",
        ]
        assert contents(await memory.get_all_memories("trace:1")) == ["The customer likes green tea"]
        assert contents(await memory.get_recent_stored_memories(5)) == ["Printers need paper"]
        assert await memory.delete_memory(key) is True
        assert await memory.delete_memory(key) is False
        assert contents(await memory.search_memories()) == ["Printers need paper"]
        assert await memory.clear_all_memories() == 1
        assert await memory.search_memories() == []


@BLOCK
async def test_a_vector_of_the_callers_own_is_used(block: bool, settings: Settings) -> None:
    async with opened(settings, block) as memory:
        east, north = np.eye(2, 256).tolist()
        await memory.log_memory("east", content_vector=east)
        await memory.write_many([{"content": "north", "content_vector": north}, "words"])
        [found] = await memory.search_memories("", 1, query_vector=[number * 3 for number in north])
        assert (found["content"], found["similarity_score"]) == ("north", pytest.approx(1, abs=1e-3))
        for bad in ([1.0], [0.0] * 256, [float("nan")] * 256):
            with pytest.raises(RecordRefused, match="content_vector"):
                await memory.log_memory("bad", content_vector=bad)


@BLOCK
async def test_a_key_names_one_memory_of_its_namespace_and_dedupe_makes_the_content_its_name(
    block: bool, settings: Settings
) -> None:
    async with opened(settings, block) as memory:
        first = await memory.log_memory("one", key="name")
        assert await memory.log_memory("two", key="name", metadata={"n": 2}) == first
        assert await memory.log_memory("three", key="name", namespace="other") != first
        assert await memory.log_memory("four", key="name", metadata={"namespace": "other"}) != first
        same = {await memory.log_memory("same", dedupe=True, metadata={"n": n}) for n in range(3)}
        assert len(same) == 1
        assert {await memory.log_memory("same", namespace="other", dedupe=True), *same} != same
        assert await memory.write_many([{"content": "five", "key": "name"}, {"content": "same", "dedupe": True}]) == [
            None,
            None,
        ]
        found = await memory.search_memories()
        assert sorted((one["metadata"]["namespace"], one["content"]) for one in found) == [
            ("default", "five"),
            ("default", "same"),
            ("other", "four"),
            ("other", "same"),
        ]


@BLOCK
async def test_write_many_takes_records_texts_and_mappings_and_says_what_it_refuses(
    block: bool, settings: Settings
) -> None:
    record = new_record("a record", namespace="n")
    async with opened(settings, block) as memory:
        given: list[Any] = [
            record,
            "a text",
            {"content": "a mapping", "namespace": "n", "importance_score": 0.25, "metadata": {"deep": [1]}},
            {"text": "unknown name"},
            {"content": 5},
            {"content": "bad hours", "expiry_hours": -1},
            {"content": "bad importance", "importance_score": "high"},
            {"content": "bad metadata", "metadata": ["list"]},
            {"content": "bad namespace", "namespace": 5, "key": "k"},
            {"content": "not JSON", "metadata": {"x": object()}},
            {"content": "short vector", "content_vector": [1, 0]},
            {"content": "no vector", "content_vector": 7},
            5,
            "\ud800 half a pair is replaced",
        ]
        found = await memory.write_many(given)
        assert [type(error).__name__ for error in found] == [
            *["NoneType"] * 3,
            *["RecordRefused"] * 10,
            "NoneType",
        ]
        assert len({str(error) for error in found}) == 11, "each says what is wrong with it"
        assert sorted(contents(await memory.get_all_memories())) == [
            "? half a pair is replaced",
            "a mapping",
            "a record",
            "a text",
        ]
        [mapping] = await memory.search_memories(namespace="n", min_importance=0, query="a mapping", num_results=1)
        assert (mapping["importance_score"], mapping["metadata"]["deep"]) == (0.25, [1])
        assert await memory.write_many([]) == []
        assert await memory.write_many(["accepted"] * 3, write="accepted") == [None] * 3
        await memory.flush()
        assert len(await memory.get_all_memories()) == 7


@BLOCK
async def test_a_bad_value_is_an_error_that_says_what_is_accepted(block: bool, settings: Settings) -> None:
    async with opened(settings, block) as memory:
        for bad, why in (
            ({"content": 5}, "content is text"),
            ({"content": "x", "expiry_hours": 0}, "above 0"),
            ({"content": "x", "expiry_hours": "3"}, "expiry_hours='3' must be above 0"),
            ({"content": "x", "importance_score": "high"}, "importance='high' is not a number"),
            ({"content": "x", "importance_score": 10**400}, "is not a number"),
            ({"content": "x", "memory_type": 5}, "memory_type of a memory is text"),
            ({"content": "x", "content_vector": [None] * 256}, "finite numbers"),
            ({"content": "x", "content_vector": [[1.0] * 256]}, "shape"),
            ({"content": "x", "content_vector": "x"}, "256 numbers"),
            ({"content": "x", "metadata": {5: 6}}, "text as names"),
            ({"content": "x", "metadata": "text"}, "is a mapping"),
            ({"content": "x", "metadata": {"x": object()}}, "JSON"),
            ({"content": "x", "namespace": 5}, "namespace"),
            ({"content": "x" * (8 * 1024 * 1024 + 1)}, "at most"),
        ):
            with pytest.raises(RecordRefused, match=why):
                await memory.log_memory(**bad)
        with pytest.raises(ConfigError, match="accepted, stored"):
            await memory.log_memory("x", write="later")  # type: ignore[arg-type]
        with pytest.raises(RecordRefused, match="payload of the event 'called' must be JSON"):
            await memory.log("agent", "called", object())  # type: ignore[arg-type]
        [unknown] = await memory.write_many([{"content": "x", "writer": 1}])
        assert str(unknown).startswith("a memory has no 'writer': it may have content, ")
        for number in (0, -1, 10_001):
            with pytest.raises(StoreError, match="1 to 10,000"):
                await memory.search_memories("x", number)
        with pytest.raises(StoreError, match="256"):
            await memory.search_memories(query_vector=[1.0])


@BLOCK
async def test_scalars_of_numpy_are_numbers(block: bool, settings: Settings) -> None:
    async with opened(settings, block) as memory:
        told = {"score": np.float32(0.5), "count": np.int64(3), "sure": np.bool_(True), "deep": [{"x": np.uint8(1)}]}
        await memory.log_memory("x", metadata=told, importance_score=np.float64(0.25), expiry_hours=np.int32(2))
        await memory.log("agent", "called", {"score": np.float32(0.5)})
        [found] = await memory.search(MemoryQuery(filters=Filters(metadata={"count": 3, "sure": True})))
        wanted = {"score": 0.5, "count": 3, "sure": True, "deep": [{"x": 1}]}
        assert {name: found["metadata"][name] for name in wanted} == wanted
        assert found["importance_score"] == 0.25
        assert [one["payload"] for one in await memory.tail(1)] == [{"score": 0.5}]
        assert await memory.tail(0) == []


@BLOCK
async def test_vectors_of_any_length_are_directions(block: bool, settings: Settings) -> None:
    async with opened(settings, block, write="stored") as memory:
        for size in (1e-300, 1e300):
            key = await memory.log_memory("x", content_vector=[size] * 256)
            [found] = await memory.search_memories(query_vector=[1.0] * 256)
            assert found["similarity_score"] == pytest.approx(1, abs=0.01)
            await memory.delete_memory(key)


@BLOCK
async def test_only_memories_are_deleted_as_memories(block: bool, settings: Settings) -> None:
    async with opened(settings, block) as memory:
        await memory.set("app:key", "mine")
        assert not await memory.delete_memory("app:key")
        assert await memory.get("app:key") == "mine"


@BLOCK
async def test_decay_presets_and_expiry_take_effect(block: bool, settings: Settings) -> None:
    async with opened(settings, block, memory_preset="working", decay_config={"long_term_hours": 5}) as memory:
        await memory.log_memory("short", memory_type="short_term", importance_score=0)
        await memory.log_memory("long", memory_type="long_term", importance_score=0.5)
        hours = {one["content"]: round(one["ttl_seconds"] / 3600, 1) for one in await memory.search_memories()}
        assert hours == {"short": 2.0, "long": 7.5}
        await memory.log_memory("gone", expiry_hours=0.2 / 3600)
        async with asyncio.timeout(5):
            while "gone" in contents(await memory.search_memories()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert "gone" not in contents(await memory.get_all_memories())
        assert (await memory.get_memory_stats())["decay_enabled"] is True


@BLOCK
async def test_counts_and_cleanup(block: bool, settings: Settings, clean_redis: RedisHandle) -> None:
    async with opened(settings, block) as memory:
        for number in range(4):
            await memory.log_memory(f"{number}", memory_type="long_term" if number else "short_term", expiry_hours=1)
        await memory.log_memory("note", category="note", namespace="n", memory_type="short_term")
        await memory.flush()
        old = {"content": "old", "memory_type": "short_term", "orka_expire_time": "1000", "metadata": "{}"}
        await clean_redis.client.hset(PREFIX + "old", mapping=old)
        await memory.log("agent", "event", {"a": 1})
        stats = await memory.get_memory_stats()
        assert abs(int(stats.pop("timestamp")) - now_ms()) < 5000  # type: ignore[call-overload]
        assert stats.pop("newest_ms") >= stats.pop("oldest_ms") > 0  # type: ignore[operator]
        assert stats == {
            "total_entries": 6,
            "active_entries": 5,
            "expired_entries": 1,
            "expiring_entries": 4,
            "stored_memories": 4,
            "orchestration_logs": 1,
            "entries_by_memory_type": {"long_term": 3, "short_term": 2},
            "entries_by_category": {"note": 1, "stored": 4},
            "entries_by_namespace": {"default": 4, "n": 1},
            "backend": settings.memory_backend,
            "index_name": "orka_enhanced_memory" if settings.memory_backend == "redisstack" else None,
            "vector_search_enabled": True,
            "decay_enabled": False,
        }
        assert "old" not in contents(await memory.search_memories())
        dry = await memory.cleanup_expired_memories(dry_run=True)
        assert (dry["total_checked"], dry["expired_found"], dry["cleaned"], dry["dry_run"]) == (6, 1, 0, True)
        done = await memory.cleanup_expired_memories()
        assert done == {
            "cleaned": 1,
            "deleted_count": 1,
            "total_checked": 6,
            "expired_found": 1,
            "dry_run": False,
            "cleanup_type": "expired",
            "errors": [],
        }
        assert await clean_redis.client.exists(PREFIX + "old") == 0


@BLOCK
async def test_statistics_say_what_writer_and_reader_have_done(block: bool, settings: Settings) -> None:
    async with opened(settings, block) as memory:
        await memory.write_many([f"{number}" for number in range(5)])
        await memory.search_memories("one")
        statistics = await memory.statistics()
        metrics = await memory.get_performance_metrics()
        assert metrics["backend"] == settings.memory_backend
        assert metrics["reader"] == {"searches": 1, "round_trips": 1, "waiting": 0}
        if block:
            assert statistics.writer is not None
            assert (statistics.writer.accepted, statistics.writer.stored, statistics.writer.waiting) == (5, 5, 0)
            assert metrics["writer"] == statistics.writer._asdict()
        else:
            assert statistics.writer is metrics["writer"] is None


@BLOCK
async def test_events_are_in_a_bounded_stream_and_never_among_memories(
    block: bool, settings: Settings, clean_redis: RedisHandle, tmp_path: Path
) -> None:
    async with opened(settings, block) as memory:
        assert await memory.tail() == []
        await memory.log(
            "agent", "started", {"message": "hi"}, step=3, run_id="r", parent="p", previous_outputs={"a": [1]}
        )
        await memory.log("agent", "ended", "text", agent_decay_config={"enabled": True}, log_type="memory")
        first, second = await memory.tail(5)
        assert first["id"] < second["id"]  # type: ignore[operator]
        assert {name: first[name] for name in first if name not in ("id", "timestamp")} == {
            "agent_id": "agent",
            "event_type": "started",
            "payload": {"message": "hi"},
            "step": 3,
            "run_id": "r",
            "parent": "p",
            "previous_outputs": {"a": [1]},
            "log_type": "log",
        }
        assert await memory.tail(1) == [second]
        assert await memory.search_memories(log_type="all") == []
        async with clean_redis.client.pipeline(transaction=False) as pipe:
            for number in range(12_000):
                pipe.xadd(memory_events_key(), {"payload": str(number)})
            await pipe.execute()
        await memory.log("agent", "last", None)
        assert 10_000 <= await clean_redis.client.xlen(memory_events_key()) < 10_300
        assert (await memory.tail(1))[0]["event_type"] == "last"
        written = await memory.save_to_file(tmp_path / "events.json")
        events = json.loads((tmp_path / "events.json").read_text())
        assert (written, events[-1]["event_type"]) == (len(events), "last")
        await memory.save_enhanced_trace(str(tmp_path / "trace.json"), {"agents": ["ü"]})
        assert json.loads((tmp_path / "trace.json").read_text()) == {"agents": ["ü"]}
        with pytest.raises(ConfigError, match="nowhere"):
            await memory.save_to_file(tmp_path / "nowhere" / "events.json")


@BLOCK
async def test_the_verbs_of_redis(block: bool, settings: Settings) -> None:
    async with opened(settings, block, stream_key="app:events") as memory:
        redis = memory.redis
        assert await redis.set("app:text", "ü") is True
        assert await memory.get("app:text") == "ü"
        assert await memory.get("app:none") is None
        assert [await memory.hset("app:hash", "a", 1), await memory.hset("app:hash", "a", b"2")] == [1, 0]
        assert await memory.hget("app:hash", "a") == "2"
        assert await memory.hkeys("app:hash") == ["a"]
        assert await memory.hdel("app:hash", "a", "b") == 1
        assert await memory.hdel("app:hash") == await memory.sadd("app:set") == await memory.srem("app:set") == 0
        assert await memory.sadd("app:set", "x", "y") == 2
        assert sorted(await memory.smembers("app:set")) == ["x", "y"]
        assert await memory.srem("app:set", "x") == 1
        await memory.log("a", "b", None)
        cursor, found = 0, list[str]()
        while True:
            cursor, keys = await memory.scan(cursor, "app:*", 50)
            found += keys
            if not cursor:
                break
        assert sorted(found) == ["app:events", "app:set", "app:text"]
        with pytest.raises(StoreError, match=r"WRONGTYPE|wrong kind"):
            await memory.sadd("app:text", 1)
        assert await memory.delete("app:set", "app:text", "app:none") == 2


async def test_two_event_loops_one_after_the_other(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    memory = create_memory_logger(settings=settings)

    def in_a_loop_of_its_own(text: str, close: bool) -> list[str]:
        async def main() -> list[str]:
            await memory.log_memory(text)
            found = contents(await memory.search_memories())
            if close:
                await memory.close()
            return sorted(found)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = asyncio.run(main())
            gc.collect()
        return found

    assert await asyncio.to_thread(in_a_loop_of_its_own, "one", True) == ["one"]
    assert await asyncio.to_thread(in_a_loop_of_its_own, "two", False) == ["one", "two"]
    async with memory:
        await memory.log_memory("three")
        assert await asyncio.to_thread(in_a_loop_of_its_own, "four", True) == ["four", "one", "three", "two"]
    assert len(await memory.search_memories()) == 4
    await memory.close()
    await memory.close()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_concurrent_first_use_opens_once(settings: Settings) -> None:
    async with client_of(settings) as client:
        before = len(await client.client_list())
        memory = create_memory_logger(settings=settings)
        await asyncio.gather(*(memory.log_memory(f"{number}") for number in range(100)))
        assert len(await client.client_list()) - before < 6
        found = await asyncio.gather(*(memory.search_memories(f"{number}", 1) for number in range(50)))
        assert all(found)
        tasks = len(asyncio.all_tasks())
        await memory.close()
        assert len(asyncio.all_tasks()) == tasks - 1
        async with asyncio.timeout(5):
            while len(await client.client_list()) > before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_block_within_a_block_of_the_same_object_is_an_error(settings: Settings) -> None:
    memory = create_memory_logger(settings=settings)
    async with memory:
        with pytest.raises(StoreError, match="async with"):
            await memory.__aenter__()
        await memory.log_memory("kept")
    async with memory:
        assert contents(await memory.search_memories()) == ["kept"]


async def test_a_failed_opening_is_tried_again_by_the_next_call(backend: str, tmp_path: Path) -> None:
    with own_server(tmp_path / "redis", "--loadmodule", str(find_wheels().search)) as server:
        server.close()
        memory = create_memory_logger(settings=replace(server.settings, backend=backend, redis_timeout=0.2))
        with pytest.raises(StoreError, match=r"redis\.sock"):
            await memory.log_memory("x")
        with pytest.raises(StoreError, match=r"redis\.sock"):
            await memory.__aenter__()
        server.start()
        async with memory:
            await memory.log_memory("x")
        assert contents(await memory.search_memories()) == ["x"]
        await memory.close()


async def test_the_end_of_a_block_tells_what_was_lost(backend: str, tmp_path: Path) -> None:
    with own_server(tmp_path / "redis", "--loadmodule", str(find_wheels().search)) as server:
        settings = replace(server.settings, backend=backend, redis_timeout=0.2, journal_patience=0.1)
        memory, keys = create_memory_logger(settings=settings), []

        async def block() -> None:
            async with memory:
                server.close()
                keys.append(await memory.log_memory("lost"))

        with pytest.raises(WriteLost, match=PREFIX) as caught:
            await block()
        assert list(caught.value.keys) == keys


# create_memory_logger


def test_arguments_are_checked_before_anything_is_opened() -> None:
    for bad in ("kafka", ""):
        with pytest.raises(SettingsError, match="redisstack, redis"):
            create_memory_logger(backend=bad)
        with pytest.raises(ValueError, match="redisstack, redis"):  # as OrKa 0.9
            create_memory_logger(backend=bad)
    assert create_memory_logger(backend="Redis").settings.memory_backend == "redis"  # as in the environment
    with pytest.raises(SettingsError, match="accepted, stored"):
        create_memory_logger(write="later")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="did you mean 'short_term_hours'"):
        create_memory_logger(decay_config={"short_term_hour": 1})
    with pytest.raises(ConfigError, match="episodic"):
        create_memory_logger(memory_preset="episodc")
    assert RedisMemoryLogger is MemoryLogger
    assert create_memory_logger(vector_dim=384, enable_hnsw=True, index_name="x", force_recreate_index=True)
    assert apply_memory_preset_to_config({"limit": 3}, "semantic", "read")["similarity_threshold"] == 0.65
    assert apply_memory_preset_to_config({"limit": 3}) == {"limit": 3}


def test_the_backend_comes_from_the_argument_and_else_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert create_memory_logger().settings.memory_backend == "redisstack"
    monkeypatch.setenv("ORKA_MEMORY_BACKEND", "redis")
    assert create_memory_logger().settings.memory_backend == "redis"
    assert create_memory_logger(backend="redisstack").settings.memory_backend == "redisstack"
    monkeypatch.setenv("ORKA_MEMORY_BACKEND", "redisstack")
    monkeypatch.setenv("ORKA_FORCE_BASIC_REDIS", "true")
    assert create_memory_logger().settings.memory_backend == "redis"
    assert create_memory_logger(backend="redisstack").settings.memory_backend == "redisstack"


@pytest.mark.parametrize("url", ["redis:/nothing", "http://localhost", "redis://localhost:99999/0"])
async def test_a_bad_url_is_named(url: str) -> None:
    with pytest.raises((ConfigError, StoreError), match=r"REDIS_URL|redis_url|localhost|nothing"):
        await create_memory_logger(backend="redis", redis_url=url).log_memory("x")


async def test_a_server_without_the_search_module_is_told_with_both_ways_out(servers: Servers) -> None:
    server = servers.start()
    memory = create_memory_logger(backend="redisstack", redis_url=server.url)
    with pytest.raises(BackendMissing) as caught:
        await memory.log_memory("x")
    assert "Redis 8" in str(caught.value) or "redis-stack" in str(caught.value)
    assert "ORKA_MEMORY_BACKEND=redis" in str(caught.value)
    basic = create_memory_logger(backend="redis", redis_url=server.url)
    await basic.log_memory("x")
    assert contents(await basic.search_memories("x")) == ["x"]
    await basic.close()


async def test_a_url_with_a_password(servers: Servers, backend: str) -> None:
    server = servers.start(password="hunter2", search=True)
    async with create_memory_logger(backend=backend, redis_url=server.url) as memory:
        await memory.log_memory("behind a password")
        assert contents(await memory.search_memories("password")) == ["behind a password"]
    wrong = server.url.replace("hunter2", "hunter3")
    with pytest.raises(StoreError, match="password") as caught:
        await create_memory_logger(backend=backend, redis_url=wrong).log_memory("x")
    assert "hunter" not in str(caught.value)


async def test_a_cluster_url(servers: Servers, with_url: Callable[[str], Settings]) -> None:
    nodes = await start_cluster(servers)
    url = "redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0"
    async with create_memory_logger(backend="redis", redis_url=url) as memory:
        keys = [await memory.log_memory(f"memory {number}", write="stored") for number in range(20)]
        assert len(await memory.search_memories("memory", 30)) == 20
        assert (await memory.get_memory_stats())["total_entries"] == 20
        assert await memory.set("app:x", 1)
        assert await memory.scan(match="app:*") == (0, ["app:x"])
        assert await memory.delete_memory(keys[0])
        assert await memory.clear_all_memories() == 19


async def test_the_documented_monitoring_commands_answer(clean_redis: RedisHandle, redis_settings: Settings) -> None:
    async with create_memory_logger(backend="redisstack", settings=redis_settings) as memory:
        await memory.write_many([f"memory {number}" for number in range(12)])
    client: Any = clean_redis.client
    info = await client.execute_command("FT.INFO", "orka_enhanced_memory")
    facts = dict(zip(info[::2], info[1::2], strict=True))
    assert int(facts[b"num_docs"]) == 12
    count, *rows = await client.execute_command("FT.SEARCH", "orka_enhanced_memory", "*")
    assert (count, len(rows)) == (12, 20)
    modules = await client.execute_command("MODULE LIST")
    assert "search" in str(modules).lower()
    assert (await client.info("memory"))["used_memory"] > 0
