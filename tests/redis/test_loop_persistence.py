"""Loops with `persist_across_runs`: rounds that later runs see, each once, whatever dies in between."""

import asyncio
import json
from typing import Any

import pytest
from redis.crc import key_slot
from support.crash import check_journal, open_bench
from support.crew import working
from support.graphs import load
from support.reference import comparable
from support.running import at, execute, opened, paths, said

from orka.redis.client import RedisHandle
from orka.redis.keys import past_loops_key, past_loops_written_key
from orka.redis.loop_scripts import KEEP_ROUNDS, keep_rounds
from orka.settings import Settings

LOOP = """
    orchestrator: {id: t, agents: [debate, end]}
    agents:
      - id: debate
        type: loop
        persist_across_runs: true
        max_loops: 2
        score_threshold: 0.9
        past_loops_metadata: {note: "{{ input }}{{ loop_number }}", had: "{{ get_past_loops() | length }}"}
        internal_workflow:
          orchestrator: {id: inner, agents: [look, judge]}
          agents:
            - {id: look, type: template, prompt: "{{ get_past_loops() | map(attribute='note') | join(',') }}|{{ past_loops_metadata.note }}"}
            - {id: judge, type: template, prompt: "SCORE: 0.7"}
      - {id: end, type: template, prompt: "{{ previous_outputs.debate.past_loops | length }}"}
    """  # noqa: E501


async def stored(redis: RedisHandle, loop: str = "debate") -> Any:
    raw: Any = await redis.client.get(past_loops_key(loop))
    return None if raw is None else json.loads(raw)


async def test_rounds_of_earlier_runs_are_seen_and_those_of_this_one_are_added(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    first = await execute(redis_settings, LOOP, "a")
    assert [said(first, f"debate[{number}]/look") for number in (1, 2)] == ["|No note available", "a1|a1"]
    second = await execute(redis_settings, LOOP, "b")
    assert [said(second, f"debate[{number}]/look") for number in (1, 2)] == ["a1,a2|a2", "a1,a2,b1|b1"]
    assert (first.output, second.output) == ("2", "4")
    found = await stored(clean_redis)
    assert [(past["note"], past["had"], past["loop_number"], past["score"]) for past in found] == [
        ("a1", "0", 1, 0.7),
        ("a2", "1", 2, 0.7),
        ("b1", "2", 1, 0.7),
        ("b2", "3", 2, 0.7),
    ]
    output: Any = at(second, "debate").output
    assert output["past_loops"] == found
    assert output["loops_completed"] == 2


async def test_a_loop_that_does_not_persist_touches_no_stored_rounds(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    await execute(redis_settings, LOOP.replace("persist_across_runs: true", "persist_across_runs: false"))
    assert await stored(clean_redis) is None


async def test_rounds_that_orka_0_9_stored_are_seen_and_stay_as_they_are(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    old = '[{"note": "old \\"[x], {y}\\\\", "empty": [], "score": 0.123456789012345678}, {"note": "té", "n": null} ]'
    await clean_redis.client.set("past_loops:debate", old)
    result = await execute(redis_settings, LOOP, "a")
    assert said(result, "debate[1]/look") == 'old "[x], {y}\\,té|té'
    raw: Any = await clean_redis.client.get("past_loops:debate")
    assert raw.decode().startswith(old.rstrip(" ]"))
    assert [past["note"] for past in json.loads(raw)] == ['old "[x], {y}\\', "té", "a1", "a2"]


async def test_the_last_twenty_rounds_are_kept(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    old = [{"note": f"o{number}"} for number in range(25)]
    await clean_redis.client.set("past_loops:debate", json.dumps(old))
    result = await execute(redis_settings, LOOP, "a")
    assert said(result, "debate[1]/look").startswith("o5,o6,")
    assert [past["note"] for past in await stored(clean_redis)] == [*(f"o{n}" for n in range(7, 25)), "a1", "a2"]


@pytest.mark.parametrize("content", ["{}", '{"a": [1]}', "[1, 2", "", "text"])
async def test_what_is_no_list_fails_the_loop_and_is_left_alone(
    redis_settings: Settings, clean_redis: RedisHandle, content: str
) -> None:
    await clean_redis.client.set("past_loops:debate", content)
    result = await execute(redis_settings, LOOP, "a")
    error: Any = at(result, "debate").error
    assert (error.kind, "'past_loops:debate'" in error.message) == ("StoreError", True)
    assert paths(result) == ["debate", "end"]
    raw: Any = await clean_redis.client.get("past_loops:debate")
    assert raw.decode() == content


async def test_a_key_of_another_kind_fails_the_loop(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    await clean_redis.client.rpush("past_loops:debate", "x")
    assert at(await execute(redis_settings, LOOP, "a"), "debate").error.kind == "StoreError"  # type: ignore[union-attr]


async def test_runs_at_once_lose_no_round_of_each_other(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async with opened(redis_settings, LOOP) as orchestrator:
        await asyncio.gather(*(orchestrator.execute(f"run{number}-") for number in range(8)))
    notes = [past["note"] for past in await stored(clean_redis)]
    assert sorted(notes) == sorted(f"run{number}-{n}" for number in range(8) for n in (1, 2))


async def test_a_run_cut_off_anywhere_sees_the_same_rounds_again_and_adds_its_own_once(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with open_bench(redis_settings) as bench:
        await clean_redis.client.set("past_loops:debate", '[{"note": "before"}]')
        result = await bench.run(load(LOOP), "a")
        expected, answer = comparable(result.results), said(result, "debate[2]/look")
        assert answer == "before,a1|a1"
        entries = await bench.entries(result.run_id)
        assert [entry.path for entry in entries if entry.kind == "node.started"] == ["debate"]
        for keep in range(len(entries) - 1, 0, -1):
            if keep >= 2:  # a run that had begun its loop; another one has added rounds meanwhile
                await clean_redis.client.set(
                    "past_loops:debate", '[{"note": "before"}, {"note": "a1"}, {"note": "a2"}]'
                )
            else:
                await clean_redis.client.set("past_loops:debate", '[{"note": "before"}]')
            await bench.cut(result.run_id, keep)
            again = await bench.finish(result.run_id)
            check_journal(await bench.entries(result.run_id))
            assert comparable(again.results) == expected
            assert said(again, "debate[2]/look") == answer
            if keep >= 2:
                assert [past["note"] for past in await stored(clean_redis)] == ["before", "a1", "a2"]


async def test_a_loop_in_a_branch_on_a_worker_reads_and_adds_once(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    await clean_redis.client.set("past_loops:debate", '[{"note": "before"}]')
    text = LOOP.replace("agents: [debate, end]", "distributed: true, agents: [f, j, end]").replace(
        "    agents:\n      - id: debate",
        "    agents:\n      - {id: f, type: fork, targets: [[debate]]}\n"
        "      - {id: j, type: join, group: f}\n      - id: debate",
        1,
    )
    async with working(redis_settings), opened(redis_settings, text) as orchestrator:
        result = await orchestrator.execute("a")
        again = await orchestrator.finish(result.run_id)
    assert said(result, "f.0/debate[2]/look") == "before,a1|a1"
    assert result.output == "3"
    assert [past["note"] for past in await stored(clean_redis)] == ["before", "a1", "a2"]
    assert comparable(again.results) == comparable(result.results)


async def test_the_same_visit_adds_its_rounds_once(clean_redis: RedisHandle) -> None:
    client: Any = clean_redis.client
    await client.script_load(KEEP_ROUNDS.text)
    for visit, reply in (("r:a", b"ok"), ("r:b", b"ok"), ("r:a", b"again"), ("r:b", b"again")):
        command = keep_rounds("l", visit=visit, rounds=[json.dumps({"visit": visit}).encode()], most=20)
        assert await client.execute_command(*command) == [reply]
    assert await stored(clean_redis, "l") == [{"visit": "r:a"}, {"visit": "r:b"}]
    assert 0 < await client.pttl(past_loops_written_key("l")) <= 30 * 86400 * 1000
    assert await client.ttl(past_loops_key("l")) == -1


def test_both_keys_of_a_loop_are_in_one_slot() -> None:
    for loop in ("debate", "my loop-1_x"):
        assert key_slot(past_loops_key(loop).encode()) == key_slot(past_loops_written_key(loop).encode())
