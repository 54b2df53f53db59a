"""The writer of memories: batches, bounds, order, what becomes of each record. On a store that does as it is told."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import anyio
import numpy as np
import pytest
from support.stores import AWAY, FussyEmbedder, PlainStore

from orka.errors import OrkaError, RecordRefused, StoreError, WriteLost
from orka.memory.record import MemoryRecord, key_for, new_key, new_record
from orka.memory.turns import Turns
from orka.memory.writer import MOST_BYTES, MemoryWriter


@contextlib.asynccontextmanager
async def running(
    store: PlainStore, embedder: FussyEmbedder | None = None, *, patience: float = 5, **options: int
) -> AsyncGenerator[MemoryWriter]:
    writer = MemoryWriter(store, embedder or FussyEmbedder(), patience=patience, **options)
    async with anyio.create_task_group() as tasks:
        await tasks.start(writer.run)
        yield writer
        tasks.cancel_scope.cancel()


def named(name: str, content: str) -> MemoryRecord:
    return new_record(content, key=key_for(name))


def kept(store: PlainStore, name: str) -> str | None:
    return store.contents.get(key_for(name))


async def test_a_quiet_writer_stores_at_once_and_a_busy_one_fills_its_batches() -> None:
    store = PlainStore()
    async with running(store, batch=10) as writer:
        await writer.write(new_record("alone"), until="stored")
        assert store.batches == [["alone"]]
        store.held.clear()
        for number in range(35):
            await writer.write(new_record(f"{number}"))
        await asyncio.sleep(0)
        store.held.set()
        await writer.flush()
        assert [len(batch) for batch in store.batches[1:]] == [10, 10, 10, 5]
        assert [text for batch in store.batches[1:] for text in batch] == [str(number) for number in range(35)]
        assert writer.statistics()._asdict() | {"oldest_ms": 0} == {
            "accepted": 36,
            "stored": 36,
            "refused": 0,
            "retried": 0,
            "lost": 0,
            "waiting": 0,
            "batches": 5,
            "oldest_ms": 0,
        }


async def test_a_batch_is_embedded_while_another_is_stored_and_no_more_than_that() -> None:
    store, embedder = PlainStore(), FussyEmbedder()
    store.held.clear()
    async with running(store, embedder, batch=5) as writer:
        for number in range(20):
            await writer.write(new_record(f"{number}"))
        await asyncio.sleep(0.02)
        assert embedder.calls == [5, 5, 5], "one is stored, one waits behind it, one is ready"
        assert writer.statistics().waiting == 20
        assert writer.statistics().oldest_ms >= 10
        store.held.set()
        await writer.flush()
    assert embedder.calls == [5, 5, 5, 5]


async def test_accepted_returns_before_stored_and_stored_does_not() -> None:
    store = PlainStore()
    store.held.clear()
    async with running(store) as writer:
        await writer.write(new_record("one"))
        assert store.contents == {}
        task = asyncio.create_task(writer.write(new_record("two"), until="stored"))
        many = asyncio.create_task(writer.write_many([new_record("three")]))
        await asyncio.sleep(0.02)
        assert not task.done()
        assert not many.done()
        assert await writer.write_many([new_record("four")], until="accepted") == [None]
        store.held.set()
        await task
        assert await many == [None]
        assert {"one", "two", "three"} <= set(store.contents.values())


async def test_a_full_buffer_slows_whoever_writes_and_never_holds_more() -> None:
    store = PlainStore()
    store.held.clear()
    async with running(store, batch=10, capacity=30) as writer:
        task = asyncio.create_task(writer.write_many([new_record(f"{n}") for n in range(500)]))
        await asyncio.sleep(0.05)
        assert writer.statistics().waiting == 30 + 3 * 10
        store.held.set()
        assert await task == [None] * 500
        assert [text for batch in store.batches for text in batch] == [str(n) for n in range(500)]


@pytest.mark.parametrize("part", ["content", "metadata"])
async def test_the_buffer_is_bounded_in_bytes(part: str) -> None:
    store = PlainStore()
    store.held.clear()
    big = "x" * (1024 * 1024)
    async with running(store) as writer:
        text, metadata = (big, {}) if part == "content" else ("", {"page": big})
        with anyio.move_on_after(0.3):
            for _ in range(200):
                await writer.write(new_record(text, metadata=metadata))
        assert MOST_BYTES / 2**20 <= writer.statistics().accepted <= MOST_BYTES / 2**20 + 26
        store.held.set()


async def test_of_two_writes_of_a_key_the_later_one_stays() -> None:
    store = PlainStore()
    async with running(store, batch=3) as writer:
        for number in range(100):
            await writer.write(named(f"k{number % 4}", f"{number}"))
        await writer.flush()
    assert [kept(store, f"k{n}") for n in range(4)] == ["96", "97", "98", "99"]


@pytest.mark.parametrize("faults", [(1, 0, 0), (1, 1, 0), (0, 1, 0), (1, 0, 1, 1, 0), (1, 1, 1, 0, 1)])
async def test_a_batch_that_is_sent_again_does_not_undo_a_later_one(faults: tuple[int, ...]) -> None:
    store = PlainStore()
    store.faults = [AWAY if fault else None for fault in faults]
    store.held.clear()
    async with running(store, batch=2) as writer:
        await writer.write(named("k", "first"))
        await writer.write(named("a", "a"))
        await writer.write(named("k", "second"))
        await writer.write(named("b", "b"))
        last = asyncio.create_task(writer.write(named("c", "c"), until="stored"))
        await asyncio.sleep(0.12)  # longer than the pause before the first batch goes again
        store.held.set()
        await writer.flush()
        await last
        statistics = writer.statistics()
    assert [kept(store, name) for name in "kabc"] == ["second", "a", "b", "c"]
    assert (statistics.stored, statistics.lost, statistics.retried) == (5, 0, sum(faults))


async def test_what_goes_again_waits_for_what_is_under_way_and_lets_nothing_overtake_it() -> None:
    """A write behind a slow one would otherwise come after it, with an older value."""
    turns, order = Turns(), list[str]()

    async def batch(number: int, *, fails: bool, seconds: float) -> None:
        await turns.first(number)
        order.append(f"{number}")
        await asyncio.sleep(seconds)
        order.append(f"{number} back")
        if fails:
            turns.fail(number)
            await turns.again(number)
            order.append(f"{number} again")
        turns.end(number)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(batch(1, fails=True, seconds=0.06))
        tasks.create_task(batch(0, fails=True, seconds=0.02))
        await asyncio.sleep(0.04)
        tasks.create_task(batch(2, fails=False, seconds=0))
    assert order == ["0", "1", "0 back", "1 back", "0 again", "1 again", "2", "2 back"]
    turns.end(4)
    turns.end(3)
    await turns.first(5)


async def test_a_refused_record_leaves_its_neighbours_alone() -> None:
    store = PlainStore()
    async with running(store) as writer:
        records = [new_record(text) for text in ("one", "refused", "two")]
        found = await writer.write_many(records)
        assert [type(error) for error in found] == [type(None), RecordRefused, type(None)]
        with pytest.raises(RecordRefused):
            await writer.write(new_record("refused"), until="stored")
        await writer.flush()  # they were told
        await writer.write(new_record("refused"))
        await writer.write(new_record("three"))
        with pytest.raises(WriteLost, match=r"1 memor.* not stored: no"):
            await writer.flush()
        await writer.flush()
        assert sorted(store.contents.values()) == ["one", "three", "two"]
        assert writer.statistics().refused == 3


async def test_what_cannot_even_be_sent_is_refused_alone() -> None:
    store = PlainStore()
    async with running(store) as writer:
        records = [new_record(f"{number}") for number in range(20)]
        records[7] = MemoryRecord(key=new_key(), content="\ud800")
        records[13] = MemoryRecord(key=new_key(), content="\udfff")
        found = await writer.write_many(records)
        assert [i for i, error in enumerate(found) if error is not None] == [7, 13]
        assert all(isinstance(error, RecordRefused) for error in (found[7], found[13]))
        assert f"{found[7]}".startswith(f"memory {records[7].key!r} cannot be stored: UnicodeEncodeError")
        assert len(store.contents) == 18
        await writer.write(new_record("next"), until="stored")


async def test_a_text_that_the_model_refuses_is_refused_alone() -> None:
    store, embedder = PlainStore(), FussyEmbedder()
    async with running(store, embedder) as writer:
        found = await writer.write_many([new_record(text) for text in ("one", "bad 1", "two", "bad 2", "three")])
        assert [i for i, error in enumerate(found) if error is not None] == [1, 3]
        assert isinstance(found[1], RecordRefused)
        assert "refused: bad 1" in str(found[1])
        assert sorted(store.contents.values()) == ["one", "three", "two"]
        assert embedder.calls == [5, 4, 3]
        assert [str(error) for error in await writer.write_many([new_record("bad")])] != ["None"]


@pytest.mark.parametrize(("text", "why"), [("broken", "the endpoint is away"), ("wild", "out of memory")])
async def test_a_model_that_gives_no_vectors_loses_one_batch_and_says_so(text: str, why: str) -> None:
    store = PlainStore()
    async with running(store) as writer:
        record = new_record(text)
        with pytest.raises(WriteLost, match=why) as caught:
            await writer.write(record, until="stored")
        assert caught.value.keys == (record.key,)
        await writer.write(new_record("one"), until="stored")
        assert writer.statistics().lost == 1


async def test_a_vector_of_another_size_is_refused_alone() -> None:
    store = PlainStore()
    async with running(store) as writer:
        await writer.write(new_record("given"), vector=np.eye(1, 16, dtype=np.float32)[0])
        await writer.write(new_record("made"))
        with pytest.raises(RecordRefused, match=r"shape \(3,\).*\(16,\)"):
            await writer.write(new_record("wrong"), until="stored", vector=np.zeros(3, dtype=np.float32))
        await writer.flush()
        assert sorted(store.contents.values()) == ["given", "made"]


async def test_what_cannot_be_stored_for_too_long_is_lost_and_told_once() -> None:
    store = PlainStore()
    store.faults = [AWAY] * 3
    async with running(store, patience=0.1) as writer:
        records = [new_record(f"{number}") for number in range(3)]
        for record in records:
            await writer.write(record)
        with pytest.raises(WriteLost, match=r"3 memories were not stored: .*Redis is away") as caught:
            await writer.flush()
        assert caught.value.keys == tuple(record.key for record in records)
        await writer.flush()
        store.faults = []
        await writer.write(new_record("after"), until="stored")
        assert (writer.statistics().lost, writer.statistics().stored) == (3, 1)


async def test_closing_takes_nothing_more_and_lasts_no_longer_than_the_patience() -> None:
    store = PlainStore()
    store.faults = [AWAY] * 1000
    async with running(store, patience=0.3, batch=2, capacity=20) as writer:
        writing = asyncio.create_task(writer.write_many([new_record(f"{number}") for number in range(50)]))
        await asyncio.sleep(0.02)
        await writer.write(new_record("waited for by nobody"))
        with anyio.fail_after(2), pytest.raises(WriteLost) as caught:
            await writer.aclose()
        assert len(caught.value.keys) == 1
        found = [type(error) for error in await writing]
        with pytest.raises(StoreError, match="closed"):
            await writer.write(new_record("late"))
        accepted = writer.statistics().accepted
        assert accepted == writer.statistics().lost
        assert found == [WriteLost] * (accepted - 1) + [StoreError] * (50 - accepted + 1)


async def test_who_writes_much_does_not_keep_out_who_writes_little() -> None:
    store = PlainStore()
    async with running(store, batch=10, capacity=20) as writer:
        async with asyncio.TaskGroup() as tasks:
            much = tasks.create_task(writer.write_many([new_record("much") for _ in range(2000)]))
            await asyncio.sleep(0)
            await writer.write(new_record("little"), until="stored")
            assert len(store.contents) < 200
        assert much.result() == [None] * 2000


async def test_a_cancelled_wait_leaves_the_memory_to_be_stored_and_its_loss_to_be_told() -> None:
    store = PlainStore()
    store.held.clear()
    async with running(store, patience=0.01, capacity=3, batch=1) as writer:
        for text in ("one", "refused"):
            with anyio.move_on_after(0.01):
                await writer.write(new_record(text), until="stored")
        with anyio.move_on_after(0.01):
            await writer.write_many([new_record("two") for _ in range(10)])
        assert writer.statistics().accepted == 6
        store.held.set()
        with pytest.raises(WriteLost) as caught:
            await writer.flush()
        assert len(caught.value.keys) == 1
        assert sorted(store.contents.values()) == ["one", "two", "two", "two", "two"]
        assert writer.statistics().waiting == 0


async def test_who_waits_is_told_when_the_writer_is_cancelled() -> None:
    store = PlainStore()
    store.held.clear()
    async with running(store, capacity=2, batch=1) as writer:
        tasks = [asyncio.create_task(writer.write(new_record(f"{n}"), until="stored")) for n in range(8)]
        tasks.append(asyncio.create_task(writer.flush()))
        await asyncio.sleep(0.01)
    with anyio.fail_after(1):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found[:5]] == [WriteLost] * 5
    assert [type(one) for one in found[5:8]] == [StoreError] * 3, "they were never accepted"
    with pytest.raises(StoreError, match="closed"):
        await writer.write(new_record("late"))


class _ShakyStore(PlainStore):
    """Loses its connection before, in the middle of and behind writes, which take different times."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._lock = asyncio.Lock()

    async def write(self, records: Sequence[MemoryRecord], vectors: Any, /) -> Sequence[OrkaError | None]:
        async with self._lock:  # as the one connection to a server
            await asyncio.sleep(self._chance.choice((0, 0.001, 0.08)))
            cut = self._chance.choice((*[None] * 6, 0, len(records) // 2, len(records)))
            if cut == 0:
                raise AWAY
            found = await super().write(records[:cut], vectors[:cut])
            if cut is not None:
                raise AWAY
            return found


async def test_whatever_fails_the_last_write_of_each_key_stays() -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")

    async def one(number: int) -> None:
        chance = random.Random(seed + number)
        store, last = _ShakyStore(chance), dict[str, str]()
        async with running(store, batch=chance.randint(1, 6), capacity=10, patience=30) as writer:
            for step in range(10):
                name = f"{chance.randrange(3)}"
                last[name] = f"{step}"
                await writer.write(named(name, f"{step}"))
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.choice((0, 0.01, 0.06)))
            await writer.flush()
            assert writer.statistics().stored == 10
        assert {name: kept(store, name) for name in last} == last

    async with asyncio.TaskGroup() as tasks:
        for number in range(40):
            tasks.create_task(one(number))
