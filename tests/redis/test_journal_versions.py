"""Journals of other versions are refused with a reason, and nothing is written into them."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.journals import Gate, entries_of, field_of, graph_file, keys_of

from orka.errors import JournalMismatch
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings


async def cut_off(file: Path, settings: Settings, gate: Gate) -> str:
    """A run that was cancelled at its gate."""
    run_id = new_run_id()
    async with Orchestrator(file, settings=settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        run.cancel()
        await asyncio.wait({run})
    return run_id


async def write_by_hand(client: Any, run_id: str, kind: str, path: str, data: dict[str, Any]) -> None:
    keys = keys_of(run_id)
    await client.xadd(keys.journal, {"kind": kind, "path": path, "data": msgspec.json.encode(data)})
    await client.hincrby(keys.run, "seq", 1)


@pytest.mark.parametrize(
    ("kind", "path", "data", "reason"),
    [
        (
            "node.finished",
            "gate",
            {"id": "gate", "node": "n", "at_ms": 1, "ms": 1, "rules": 2},
            "under version 2 of the interpreter's rules .* version 1; resume it with the version that wrote it",
        ),
        (
            "run.resumed",
            "",
            {"digest": "d", "at_ms": 1, "version": "9", "holder": "h", "rules": 7},
            "under version 7 of the interpreter's rules",
        ),
        ("node.paused", "gate", {}, "kind 'node.paused', which this version of Orka does not know"),
        ("node.finished", "gate", {"id": 5}, "kind 'node.finished' at 'gate' that cannot be read"),
    ],
    ids=["commit of newer rules", "resumption of newer rules", "unknown kind", "unreadable"],
)
async def test_an_entry_of_a_newer_version_is_refused_and_nothing_written(
    kind: str,
    path: str,
    data: dict[str, Any],
    reason: str,
    tmp_path: Path,
    redis_settings: Settings,
    clean_redis: RedisHandle,
) -> None:
    gate = Gate()
    client = clean_redis.client
    file = graph_file(tmp_path, "gate", "- {id: gate, type: gate}")
    run_id = await cut_off(file, redis_settings, gate)
    await write_by_hand(client, run_id, kind, path, data)
    before = await entries_of(client, run_id)
    gate.opened.set()
    async with Orchestrator(file, settings=redis_settings, registry=gate.registry()) as orchestrator:
        for _ in range(2):  # the lease was given back: the second time is refused for the same reason
            with pytest.raises(JournalMismatch, match=reason) as refused:
                await orchestrator.finish(run_id)
            assert refused.value.run_id == run_id
    assert await entries_of(client, run_id) == before
    assert await field_of(client, run_id, "status") == "cancelled"
    assert await field_of(client, run_id, "generation") == "1"
    assert gate.calls == 1


async def test_a_newer_run_that_is_complete_is_refused_too(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    file = graph_file(tmp_path, "a", "- {id: a, type: echo}")
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        result = await orchestrator.execute("x")
        data = {"id": "a", "node": "n", "at_ms": 1, "ms": 1, "rules": 2}
        await write_by_hand(clean_redis.client, result.run_id, "node.finished", "a", data)
        with pytest.raises(JournalMismatch, match="rules"):
            await orchestrator.resume(result.run_id)


async def test_fields_that_a_later_version_of_the_same_rules_adds_are_skipped(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """Within one version of the rules, entries may grow: an older Orka reads what it knows."""
    gate = Gate()
    client = clean_redis.client
    file = graph_file(tmp_path, "a, gate", "- {id: a, type: echo}\n- {id: gate, type: gate}")
    run_id = await cut_off(file, redis_settings, gate)
    [(kind, path, data)] = [entry for entry in await entries_of(client, run_id) if entry[1] == "a"]
    await write_by_hand(client, run_id, kind, path, {**data, "colour": "green"})
    gate.opened.set()
    async with Orchestrator(file, settings=redis_settings, registry=gate.registry()) as orchestrator:
        assert (await orchestrator.finish(run_id)).output == "through"


async def test_a_journal_whose_path_this_graph_does_not_reach_is_refused_naming_it(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    client = clean_redis.client
    file = graph_file(tmp_path, "a, gate", "- {id: a, type: echo}\n- {id: gate, type: gate}")
    run_id = await cut_off(file, redis_settings, gate)
    [(kind, _, data)] = [entry for entry in await entries_of(client, run_id) if entry[1] == "a"]
    await write_by_hand(client, run_id, kind, "a#2", data)
    gate.opened.set()
    before = await entries_of(client, run_id)
    async with Orchestrator(file, settings=redis_settings, registry=gate.registry()) as orchestrator:
        for _ in range(2):  # the lease was given back
            with pytest.raises(JournalMismatch, match="'a#2'"):
                await orchestrator.finish(run_id)
    after = await entries_of(client, run_id)
    assert after[: len(before)] == before
    assert {kind for kind, _, _ in after[len(before) :]} <= {"run.resumed"}
