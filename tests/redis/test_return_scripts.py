"""The scripts that put back what a server has lost of a branch: whose answer counts when several know something."""

from typing import Any

import pytest
from support.journals import keys_of

from orka.redis.client import RedisHandle
from orka.redis.keys import task_stream
from orka.redis.lua import Command
from orka.redis.pipeline import Pipe
from orka.redis.return_scripts import close_again, restore_branch, revive_claim
from orka.redis.scripts import Entry

KEYS = keys_of("r")
STREAM = task_stream(KEYS.tag, "default", 1)
TASK = b'{"run":"r","path":"f.0","fork":"f@1","digest":"d"}'
OTHER = b'{"run":"r","path":"f.0","fork":"f@2","digest":"d"}'
ENTRIES = [Entry("node.finished", "f.0/a", b"{}"), Entry("branch.finished", "f.0", b"{}")]
OWN = "5000-0"
"""The task that the caller was given."""


class Server:
    """A server on which run `r` is under way, and its branch `f.0` as the test says."""

    def __init__(self, pipe: Pipe, client: Any) -> None:
        self.pipe = pipe
        self.client = client

    async def __call__(self, command: Command) -> list[Any]:
        [reply] = await self.pipe.roundtrip([(KEYS.run, command)])
        assert not isinstance(reply, Exception), reply
        return [part.decode() if isinstance(part, bytes) else part for part in reply[:2]]

    async def record(self, *fields: str) -> None:
        await self.client.hset(KEYS.branches, "f.0", "|".join(fields))

    async def recorded(self) -> list[str]:
        return (await self.client.hget(KEYS.branches, "f.0") or b"").decode().split("|")

    async def paths(self) -> list[str]:
        return [fields[b"path"].decode() for _, fields in await self.client.xrange(KEYS.journal)]


@pytest.fixture
async def server(clean_redis: RedisHandle) -> Any:
    pipe = Pipe(await clean_redis.open_router())
    made = Server(pipe, clean_redis.client)
    await made.client.hset(KEYS.run, mapping={"status": "running", "process": "owner"})
    await made.client.xgroup_create(STREAM, "workers", "0", mkstream=True)
    yield made
    await pipe.aclose()


def restoring(*, ids: tuple[str, str] = ("6000-0", "6000-1"), fresh: bool = True, task: bytes = TASK) -> Command:
    return restore_branch(
        KEYS,
        STREAM,
        claim=f"me/{OWN}",
        path="f.0",
        run_id="r",
        task=task,
        parent="",
        fresh=fresh,
        first=1,
        entries=list(zip(ids, ENTRIES, strict=True)),
    )


def reviving(*ids: str, first: int = 1) -> Command:
    return revive_claim(KEYS, STREAM, claim=f"me/{OWN}", path="f.0", run_id="r", task=TASK, first=first, ids=ids)


@pytest.mark.parametrize(
    ("record", "taken"),
    [
        (("open", "", "0", "0", "0", OWN), True),  # it was given out, and the server does not know
        (("open", f"me/{OWN}", "1", "0", "0", OWN), True),
        (("open", "", "0", "0", "0", "4000-0"), True),  # it was queued again, and the server does not know
        (("open", "dead/4000-0", "2", "1", "0", "4000-0"), True),  # so did the one before
        (("open", "you/5000-0", "0", "0", "0", OWN), True),  # another has it, and has not begun
        (("open", "you/5000-0", "1", "0", "0", OWN), False),
        (("open", "you/7000-0", "1", "0", "0", "7000-0"), False),
        (("done", "you/7000-0", "2", "0", "0", "7000-0"), False),
    ],
)
async def test_an_answer_is_put_back_unless_another_claim_has_got_further(
    record: tuple[str, ...], taken: bool, server: Any
) -> None:
    await server.record(*record, STREAM, "", "", "")
    if record[1].startswith("me/"):
        await server.client.xadd(KEYS.journal, {"kind": "node.finished", "path": "f.0/a", "data": "{}"}, id="6000-0")
    reply = await server(restoring())
    if not taken:
        assert reply == ["stale"]
        assert (await server.paths(), (await server.recorded())[:3]) == ([], list(record[:3]))
        return
    assert reply == ["ok", 1 if record[1].startswith("me/") else 2]
    assert await server.paths() == ["f.0/a", "f.0"]
    assert (await server.recorded())[:3] == ["done", f"me/{OWN}", "2"]
    [told] = await server.client.xrange(f"{KEYS.tag}:inbox:owner")
    assert (told[1][b"kind"], told[1][b"path"]) == (b"done", b"f.0")
    assert await server(restoring()) == ["ok", 0]
    assert len(await server.paths()) == 2


@pytest.mark.parametrize(("task", "taken"), [(TASK, True), (OTHER, False)])
async def test_a_task_that_was_sent_again_is_answered_if_it_asks_for_the_same(
    task: bytes, taken: bool, server: Any
) -> None:
    await server.client.xadd(STREAM, {"run": "r", "path": "f.0", "task": task}, id="7000-0")
    await server.record("open", "", "0", "0", "0", "7000-0", STREAM, "", "", "")
    assert await server(restoring()) == (["ok", 2] if taken else ["stale"])
    assert await server.client.xlen(STREAM) == (0 if taken else 1)


async def test_an_answer_without_a_record_is_put_back_only_while_nobody_can_have_executed_the_branch_again(
    server: Any,
) -> None:
    assert await server(restoring(fresh=False)) == ["stale"]
    assert await server(restoring()) == ["ok", 2]
    assert (await server.recorded())[0] == "done"


async def test_an_answer_that_the_server_has_is_left_alone(server: Any) -> None:
    for number, entry in enumerate(ENTRIES):
        fields = {"kind": entry.kind, "path": entry.path, "data": entry.data}
        await server.client.xadd(KEYS.journal, fields, id=f"6000-{number}")
    assert await server(restoring(fresh=False)) == ["ok", 0]
    assert await server.recorded() == [""]


async def test_an_answer_for_a_run_that_has_ended_completes_its_journal_and_makes_no_record(server: Any) -> None:
    await server.client.hset(KEYS.run, "status", "completed")
    await server.client.pexpire(KEYS.run, 50_000)
    assert await server(restoring()) == ["ok", 2]
    assert await server.paths() == ["f.0/a", "f.0"]
    assert await server.recorded() == [""]


async def test_a_run_that_is_gone_is_not_made_by_its_branches(server: Any) -> None:
    await server.client.delete(KEYS.run)
    assert await server(restoring()) == ["missing"]
    assert await server(reviving()) == ["missing"]
    assert await server.client.exists(KEYS.journal, KEYS.branches) == 0


async def test_a_branch_under_way_goes_on_where_the_server_remembers(server: Any) -> None:
    await server.record("open", f"me/{OWN}", "3", "0", "0", OWN, STREAM, "", "", "")
    assert await server(reviving("6000-0", first=5)) == ["ok", 3]
    await server.record("open", "", "0", "0", "0", OWN, STREAM, "", "", "")
    assert await server(reviving("6000-0")) == ["ok", 0]
    assert (await server.recorded())[1] == f"me/{OWN}"
    await server.record("open", "you/7000-0", "2", "0", "0", "7000-0", STREAM, "", "", "")
    assert await server(reviving("6000-0")) == ["stale"]


@pytest.mark.parametrize("claim", ["", f"me/{OWN}"])
async def test_what_lies_below_a_branch_and_was_put_back_before_it_is_found_with_its_entries(
    claim: str, server: Any
) -> None:
    """Whoever reads the branch begins at its task's time, not at the first entry that it has written again."""
    await server.record("open", claim, "0", "0", "0", OWN, STREAM, "", "", "")
    assert await server(reviving("6000-0")) == ["ok", 0]
    assert (await server.recorded())[7:9] == ["5000-0", "+"]


async def test_a_branch_under_way_that_the_server_has_never_heard_of_is_queued_again_in_the_hands_of_its_worker(
    server: Any,
) -> None:
    assert await server(reviving()) == ["ok", 0]
    [(entry_id, fields)] = await server.client.xrange(STREAM)
    assert (fields[b"path"], fields[b"task"], fields[b"again"]) == (b"f.0", TASK, b"1")
    [held] = await server.client.xpending_range(STREAM, "workers", "-", "+", 10)
    assert (held["message_id"], held["consumer"]) == (entry_id, b"me")
    assert await server(reviving()) == ["ok", 0]
    assert await server.client.xlen(STREAM) == 1


@pytest.mark.parametrize("how", ["a later task", "an entry", "settled entries", "the end of the run"])
async def test_a_branch_under_way_whose_fork_was_closed_stays_closed(how: str, server: Any) -> None:
    ids, first = ("6000-0",), 1
    match how:
        case "a later task":
            ids = ()
            await server.client.xadd(STREAM, {"path": "x"}, id="5000-7")
        case "an entry":
            await server.client.xadd(KEYS.journal, {"path": "f.0/a"}, id="6000-0")
        case "settled entries":
            first = 4
        case _:
            await server.client.hset(KEYS.run, "status", "completed")
    assert await server(reviving(*ids, first=first)) == ["closed"]


@pytest.mark.parametrize(
    ("record", "closed"),
    [
        (("open", f"me/{OWN}", "1", "0", "0", OWN), True),
        (("open", "", "0", "0", "0", OWN), True),
        (("open", "", "0", "0", "0", "7000-0"), False),  # it was sent again: somebody wants it
        (("open", f"you/{OWN}", "0", "0", "0", OWN), False),
        (("done", f"me/{OWN}", "2", "0", "0", OWN), False),
    ],
)
async def test_a_branch_that_was_cut_off_is_closed_again_unless_it_is_wanted_again(
    record: tuple[str, ...], closed: bool, server: Any
) -> None:
    await server.record(*record, STREAM, "", "", "")
    assert await server(close_again(KEYS, claim=f"me/{OWN}", path="f.0")) == ["ok", 0]
    assert (await server.recorded() == [""]) == closed
