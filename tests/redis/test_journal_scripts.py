"""The scripts themselves, as a writer, a resumer and a stale owner call them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.journals import keys_of

from orka.redis import lease_scripts, scripts
from orka.redis.client import RedisHandle
from orka.redis.pipeline import Pipe
from orka.redis.scripts import Command, Entry
from orka.types import Digest

KEYS = keys_of("r")
GRAPH = Digest("d1")
RETENTION = 60_000


class Caller:
    """Sends commands; replies come decoded."""

    def __init__(self, pipe: Pipe, client: Any) -> None:
        self.pipe = pipe
        self.client = client

    async def __call__(self, command: Command) -> list[Any]:
        [reply] = await self.pipe.roundtrip([(KEYS.run, command)])
        assert not isinstance(reply, Exception), reply
        return [part.decode() if isinstance(part, bytes) else part for part in reply]

    async def kinds(self) -> list[str]:
        return [fields[b"kind"].decode() for _, fields in await self.client.xrange(KEYS.journal)]

    async def field(self, name: str) -> str | None:
        value = await self.client.hget(KEYS.run, name)
        return value.decode() if value is not None else None


@pytest.fixture
async def call(clean_redis: RedisHandle) -> AsyncIterator[Caller]:
    pipe = Pipe(await clean_redis.open_router())
    yield Caller(pipe, clean_redis.client)
    await pipe.aclose()


def entries(*kinds: str) -> list[Entry]:
    return [Entry(kind, "", b"{}") for kind in kinds]


def creation(lease: str = "1-aa", holder: str = "h1") -> Command:
    return scripts.create(
        KEYS,
        GRAPH,
        lease=lease,
        lease_ms=10_000,
        run_id="r",
        graph=b"{}",
        retention_ms=RETENTION,
        deadline_ms=0,
        entry=Entry("run.started", "", b"{}"),
        fields=("digest", GRAPH, "holder", holder),
    )


def appending(first: int, *kinds: str, lease: str = "1-aa") -> Command:
    return scripts.append(KEYS, lease=lease, lease_ms=10_000, first=first, entries=entries(*kinds))


def taking(nonce: str, *, dead: str = "", force: bool = False, holder: str = "h2") -> Command:
    return lease_scripts.take(KEYS, nonce=nonce, holder=holder, lease_ms=10_000, dead=dead, force=force)


def reopening(lease: str, seq: int) -> Command:
    return lease_scripts.reopen(
        KEYS,
        GRAPH,
        lease=lease,
        lease_ms=10_000,
        seq=seq,
        data=b"{}",
        run_id="r",
        graph=b"{}",
        before=GRAPH,
        retention_ms=RETENTION,
        holder="h2",
    )


def finishing(first: int, *kinds: str, lease: str = "1-aa", status: str = "failed") -> Command:
    return scripts.finish(
        KEYS,
        GRAPH,
        lease=lease,
        lease_ms=10_000,
        first=first,
        entries=entries(*kinds),
        run_id="r",
        status=status,
        retention_ms=RETENTION,
    )


async def test_an_append_that_is_sent_twice_is_stored_once(call: Caller) -> None:
    await call(creation())
    first = await call(appending(2, "a", "b"))
    again = await call(appending(2, "a", "b"))
    assert (first[:2], again) == (["ok", 3], ["ok", 3, [None, None]])
    assert await call.kinds() == ["run.started", "a", "b"]


async def test_of_an_append_that_is_there_in_part_only_the_rest_is_stored(call: Caller) -> None:
    await call(creation())
    await call(appending(2, "a"))
    reply = await call(appending(2, "a", "b", "c"))
    assert reply[:2] == ["ok", 4]
    assert [entry_id is None for entry_id in reply[2]] == [True, False, False]
    assert await call.kinds() == ["run.started", "a", "b", "c"]


async def test_an_append_behind_a_gap_is_refused_with_the_last_number(call: Caller) -> None:
    await call(creation())
    assert await call(appending(4, "c")) == ["gap", 1]
    assert await call.kinds() == ["run.started"]


async def test_the_former_owner_can_neither_append_nor_renew_nor_end_nor_reopen(call: Caller) -> None:
    await call(creation())
    assert (await call(taking("bb", force=True)))[1] == "2-bb"
    before = await call.client.hgetall(KEYS.run)
    assert await call(appending(2, "a")) == ["stale"]
    assert await call(lease_scripts.renew(KEYS, lease="1-aa", lease_ms=99_000)) == ["stale"]
    assert await call(finishing(2, "run.failed")) == ["stale"]
    assert await call(reopening("1-aa", 2)) == ["stale"]
    assert await call(lease_scripts.release(KEYS, nonce="aa", retention_ms=RETENTION)) == ["stale"]
    assert await call.kinds() == ["run.started"]
    assert await call.client.hgetall(KEYS.run) == before


async def test_two_leases_of_one_epoch_are_told_apart_by_their_nonce(call: Caller) -> None:
    await call(creation(lease="1-aa"))
    assert await call(appending(2, "a", lease="1-zz")) == ["stale"]
    assert await call(creation(lease="1-zz")) == ["stale"]


async def test_a_run_that_is_gone_is_missing(call: Caller) -> None:
    assert await call(appending(2, "a")) == ["missing"]
    assert await call(lease_scripts.renew(KEYS, lease="1-aa", lease_ms=1)) == ["missing"]
    assert await call(taking("bb")) == ["missing"]
    assert await call.client.keys("*") == []


async def test_a_creation_that_is_sent_twice_makes_one_run(call: Caller) -> None:
    await call(creation())
    assert await call(creation()) == ["ok", 1, [None]]
    assert await call.kinds() == ["run.started"]


async def test_epochs_rise_at_every_take_over(call: Caller) -> None:
    await call(creation())
    leases = [(await call(taking(nonce, force=True)))[1] for nonce in ("bb", "cc", "dd")]
    assert leases == ["2-bb", "3-cc", "4-dd"]


async def test_a_lease_that_lasts_is_refused_with_its_holder_and_the_time_left(call: Caller) -> None:
    await call(creation())
    word, holder, left = await call(taking("bb"))
    assert (word, holder) == ("alive", "h1")
    assert 9_000 < left <= 10_000
    assert await call.field("lease") == "1-aa"


async def test_a_holder_that_is_known_to_be_dead_is_replaced_unless_it_is_another_one_by_now(call: Caller) -> None:
    await call(creation())
    assert (await call(taking("bb", dead="h1", holder="h2")))[0] == "ok"
    assert (await call(taking("cc", dead="h1", holder="h3")))[:2] == ["alive", "h2"]


async def test_taking_that_is_sent_twice_takes_once(call: Caller) -> None:
    await call(creation())
    first = await call(taking("bb", force=True))
    assert await call(taking("bb", force=True)) == first == ["ok", "2-bb", 1, 1, "running"]


async def test_reopening_that_is_sent_twice_opens_one_generation(call: Caller) -> None:
    await call(creation())
    await call(finishing(2, "run.failed"))
    await call(taking("bb"))
    assert (await call(reopening("2-bb", 3)))[:2] == ["ok", 3]
    assert await call(reopening("2-bb", 3)) == ["ok", 3, [None]]
    assert await call.field("generation") == "2"
    assert await call.kinds() == ["run.started", "run.failed", "run.resumed"]


async def test_an_end_that_is_sent_twice_is_counted_once(call: Caller) -> None:
    await call(creation())
    graph = scripts.graph_key(KEYS.tag, GRAPH)
    await call.client.hincrby(graph, "runs", 1)  # another run of the same graph
    await call(finishing(2, "run.completed", status="completed"))
    await call(finishing(2, "run.completed", status="completed"))
    assert await call.client.hget(graph, "runs") == b"1"
    assert await call.client.ttl(graph) == -1
    assert await call.kinds() == ["run.started", "run.completed"]


async def test_an_owner_whose_take_over_the_server_forgot_goes_on(call: Caller) -> None:
    """A failover gave back an older epoch: ours is higher, so nobody took the run meanwhile."""
    await call(creation())
    await call(taking("bb", force=True))
    await call.client.hset(KEYS.run, mapping={"lease": "1-aa", "holder": "h1"})
    assert (await call(reopening("2-bb", 2)))[:2] == ["ok", 2]
    assert (await call(appending(3, "a", lease="2-bb")))[:2] == ["ok", 3]
    assert (await call.field("lease"), await call.field("holder")) == ("2-bb", "h2")
    assert await call(appending(3, "a", lease="1-aa")) == ["stale"]


async def test_an_owner_in_whose_place_the_former_one_wrote_is_refused(call: Caller) -> None:
    """The server forgot the take-over, and the former owner, who does not know of it, has gone on."""
    await call(creation())
    await call(taking("bb", force=True))
    await call.client.hset(KEYS.run, mapping={"lease": "1-aa", "holder": "h1"})
    assert (await call(appending(2, "a", "b")))[:2] == ["ok", 3]
    assert await call(lease_scripts.renew(KEYS, lease="2-bb", lease_ms=10_000)) == ["ok", 3, ""]
    assert await call.field("lease") == "1-aa"
    assert await call(reopening("2-bb", 2)) == ["stale"]
    assert await call(appending(3, "other", lease="2-bb")) == ["stale"]
    assert await call(finishing(3, "other", lease="2-bb")) == ["stale"]
    assert await call.kinds() == ["run.started", "a", "b"]


async def test_a_graph_that_a_resumption_leaves_is_kept_as_long_as_its_other_runs(call: Caller) -> None:
    await call(creation())
    before, after = (scripts.graph_key(KEYS.tag, Digest(digest)) for digest in (GRAPH, "d2"))
    now = int((await call.client.time())[0]) * 1000
    await call.client.hset(before, "keep", now + 5 * RETENTION)
    _, lease, *_ = await call(taking("bb", force=True))
    command = lease_scripts.reopen(
        KEYS,
        Digest("d2"),
        lease=lease,
        lease_ms=10_000,
        seq=2,
        data=b"{}",
        run_id="r",
        graph=b"{}",
        before=GRAPH,
        retention_ms=RETENTION,
        holder="h2",
    )
    assert (await call(command))[:2] == ["ok", 2]
    assert 4 * RETENTION < await call.client.pttl(before) <= 5 * RETENTION + 1_000
    assert await call.client.pttl(after) == -1
