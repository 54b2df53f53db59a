"""Vectors cached in Redis: computed once, on a cluster too, and without Redis as if there were no cache."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray
from redis.crc import key_slot
from servers import Servers, Started, start_cluster
from support import endpoint as served

from orka.embedding import cache
from orka.embedding.cache import CachedEmbedder
from orka.embedding.choice import open_embedder
from orka.embedding.local import LocalEmbedder
from orka.errors import EmbeddingError
from orka.redis.client import RedisHandle, open_redis
from orka.redis.pipeline import Pipe
from orka.settings import Settings
from orka.testing import HashEmbedder


class Counted:
    """A `HashEmbedder` that remembers what it was asked."""

    def __init__(self, name: str = "counted {v1}", dimension: int = 8) -> None:
        self._inner = HashEmbedder(dimension)
        self.name = name
        self.dimension = dimension
        self.asked: list[list[str]] = []

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        return await self._inner.embed(texts)


@asynccontextmanager
async def piped(redis: RedisHandle) -> AsyncIterator[Pipe]:
    pipe = Pipe(await redis.open_router())
    try:
        yield pipe
    finally:
        await pipe.aclose()


async def test_a_text_is_computed_once(clean_redis: RedisHandle) -> None:
    below = Counted()
    truth = await HashEmbedder(8).embed(["red", "green", "red", "", "blue"])
    async with piped(clean_redis) as pipe:
        embedder = CachedEmbedder(below, pipe, 60)
        assert (embedder.name, embedder.dimension) == ("counted {v1}", 8)
        assert (await embedder.embed(["red", "green", "red", ""]) == truth[:4]).all()
        assert (await embedder.embed(["red", "green", "red", "", "blue"]) == truth).all()
        another = CachedEmbedder(below, pipe, 60)
        assert (await another.embed(["blue"]) == truth[4:]).all()
        assert (await another.embed(["", " "])).tolist() == [[0.0] * 8] * 2
    assert below.asked == [["red", "green"], ["blue"]]
    assert embedder.statistics() == (2, 3, 0)


async def test_one_round_trip_reads_a_batch_and_one_writes_it(clean_redis: RedisHandle) -> None:
    async with piped(clean_redis) as pipe:
        embedder = CachedEmbedder(Counted(), pipe, 60)
        texts = [f"text {number}" for number in range(500)]
        await embedder.embed(texts)
        assert pipe.round_trips == 2
        await embedder.embed(texts)
        assert pipe.round_trips == 3
        await embedder.embed([])
        assert pipe.round_trips == 3


async def test_more_texts_than_a_batch_go_in_several(clean_redis: RedisHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BATCH_TEXTS", 100)
    texts = [f"text {number}" for number in range(250)]
    async with piped(clean_redis) as pipe:
        embedder = CachedEmbedder(Counted(), pipe, 60)
        assert (await embedder.embed(texts) == await HashEmbedder(8).embed(texts)).all()
        assert pipe.round_trips == 6


async def test_vectors_expire(clean_redis: RedisHandle) -> None:
    async with piped(clean_redis) as pipe:
        await CachedEmbedder(Counted(), pipe, 60).embed(["red"])
        [key] = await clean_redis.client.keys("*")
        assert key.startswith(b"orka:embedding:counted__v1_:")
        assert 59_000 < await clean_redis.client.pttl(key) <= 60_000
        below = Counted(name="short")
        embedder = CachedEmbedder(below, pipe, 0.001)
        with anyio.fail_after(5):
            while len(below.asked) < 3:
                await embedder.embed(["red"])


async def test_models_and_dimensions_are_kept_apart(clean_redis: RedisHandle) -> None:
    async with piped(clean_redis) as pipe:
        for below in (Counted("a"), Counted("b"), Counted("a", 16), Counted("a/1"), Counted("a 1"), Counted("a{1")):
            assert (await CachedEmbedder(below, pipe, 60).embed(["red"])).shape == (1, below.dimension)
            assert below.asked == [["red"]]


async def test_what_is_no_vector_is_computed_again(clean_redis: RedisHandle) -> None:
    async with piped(clean_redis) as pipe:
        below = Counted()
        embedder = CachedEmbedder(below, pipe, 60)
        truth = await embedder.embed(["red"])
        [key] = await clean_redis.client.keys("*")
        for broken in (b"", b"short", np.full(8, np.nan, dtype=np.float32).tobytes()):
            await clean_redis.client.set(key, broken)
            assert (await embedder.embed(["red"]) == truth).all()
        await clean_redis.client.delete(key)
        await clean_redis.client.hset(key, "a", "b")  # type: ignore[misc]
        assert (await embedder.embed(["red"]) == truth).all()
        assert len(below.asked) == 5


async def test_without_redis_it_embeds_without_the_cache(
    servers: Servers, with_url: Callable[[str], Settings], caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.start()
    async with open_redis(with_url(server.url)) as redis, piped(redis) as pipe:
        below = Counted()
        embedder = CachedEmbedder(below, pipe, 60)
        truth = await embedder.embed(["red"])
        server.kill()
        for _ in range(10):
            assert (await embedder.embed(["red"]) == truth).all()
        assert len(below.asked) == 11
        assert embedder.statistics().failures == 1
        assert [record.getMessage().split()[0] for record in caplog.records] == ["embedding.cache_skipped"]


async def test_redis_that_hangs_holds_nobody_up_for_long(
    servers: Servers, with_url: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PATIENCE", 0.1)
    monkeypatch.setattr(cache, "RECOVERY", 0.0)
    server = servers.start("--enable-debug-command", "yes")
    async with open_redis(with_url(server.url)) as redis, piped(redis) as pipe:
        below = Counted()
        embedder = CachedEmbedder(below, pipe, 60)
        truth = await embedder.embed(["red"])
        async with anyio.create_task_group() as group:
            group.start_soon(redis.client.execute_command, "DEBUG", "SLEEP", "1")
            await anyio.sleep(0.05)
            with anyio.fail_after(0.6):
                assert (await embedder.embed(["red"]) == truth).all()
            assert len(below.asked) == 2
        await embedder.embed(["red"])
        assert len(below.asked) == 2, "found again"


async def test_refused_text_keeps_its_place(clean_redis: RedisHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(Counted):
        async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
            if "bad" in texts:
                raise EmbeddingError("too long", index=list(texts).index("bad"))
            return await super().embed(texts)

    monkeypatch.setattr(cache, "BATCH_TEXTS", 4)
    async with piped(clean_redis) as pipe:
        embedder = CachedEmbedder(Picky(), pipe, 60)
        await embedder.embed(["a", "b"])
        for texts, place in ((["a", "", "b", "bad"], 3), (["x"] * 5 + ["bad"], 5)):
            with pytest.raises(EmbeddingError, match="too long") as caught:
                await embedder.embed(texts)
            assert caught.value.index == place


def cluster_url(nodes: list[Started]) -> str:
    return "redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0"


async def test_vectors_spread_over_a_cluster(servers: Servers, with_url: Callable[[str], Settings]) -> None:
    settings = with_url(cluster_url(await start_cluster(servers)))
    texts = [f"text {number}" for number in range(60)]
    async with open_redis(settings) as redis, piped(redis) as pipe:
        below = Counted()
        embedder = CachedEmbedder(below, pipe, 60)
        truth = await embedder.embed(texts)
        assert (await embedder.embed(texts) == truth).all()
        assert len(below.asked) == 1
        router = await redis.open_router()
        nodes = {router.node_of(key_slot(embedder._key(text).encode())) for text in texts}
        assert nodes == set(router.nodes)
        assert len(nodes) == 3


async def test_endpoints_are_cached_by_default_and_the_local_model_is_not(clean_redis: RedisHandle) -> None:
    router = await clean_redis.open_router()
    async with served.started() as server:
        settings = Settings(embedding_url=server.url, embedding_model="m")
        async with open_embedder(settings, router) as embedder:
            await embedder.embed(["red"])
        async with open_embedder(settings, router) as embedder:
            assert isinstance(embedder, CachedEmbedder)
            await embedder.embed(["red"])
        assert [asked["input"] for asked in server.asked] == [["dimension"], ["red"], ["dimension"]]
        [key] = await clean_redis.client.keys("*")
        assert await clean_redis.client.ttl(key) > 29 * 86400
        async with open_embedder(Settings(), router) as embedder:
            assert isinstance(embedder, LocalEmbedder)
        async with open_embedder(Settings(embedding_cache=60), router) as embedder:
            assert isinstance(embedder, CachedEmbedder)
        off = Settings(embedding_url=server.url, embedding_model="m", embedding_dimension=16, embedding_cache=0)
        async with open_embedder(off, router) as embedder:
            assert not isinstance(embedder, CachedEmbedder)
