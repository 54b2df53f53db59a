"""What a run costs the server: round trips and bytes, from the server's own counters."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest
from support.crash import Bench, open_bench
from support.graphs import load

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.graph.load import check_graph
from orka.orchestrator import Orchestrator
from orka.redis.keys import run_keys
from orka.settings import Settings


def chain(count: int, node: str) -> str:
    """`count` nodes in a row; `{0}` in `node` is a node's own number and `{1}` that of the one before."""
    ids = ", ".join(f"n{number}" for number in range(count))
    nodes = "\n".join(
        f"  - {{id: n{i}, {node.replace('<i>', str(i)).replace('<before>', str(i - 1))}}}" for i in range(count)
    )
    return f"orchestrator: {{agents: [{ids}]}}\nagents:\n{nodes}\n"


async def calls(bench: Bench, command: str) -> int:
    """How often the server has executed a command."""
    return (await bench.client.info("commandstats")).get(f"cmdstat_{command}", {}).get("calls", 0)


async def costs(bench: Bench, text: str) -> tuple[int, int]:
    """Round trips of the journal's writer, and scripts that the server ran, for one run."""
    graph = load(text)
    await bench.run(graph)  # the graph is known, the scripts are loaded
    trips, scripts = bench.services.statistics().journal.round_trips, await calls(bench, "evalsha")
    await bench.run(graph)
    return (
        bench.services.statistics().journal.round_trips - trips,
        await calls(bench, "evalsha") - scripts,
    )


async def bytes_of(bench: Bench, run_id: str) -> dict[str, int]:
    keys = run_keys(run_id, bench.settings.partitions)
    found: dict[str, int] = {}
    for name in ("journal", "values"):
        found[name] = await bench.client.memory_usage(getattr(keys, name), samples=0) or 0
    return found


async def test_a_hundred_pure_steps_take_a_handful_of_round_trips(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        trips, scripts = await costs(bench, chain(100, "type: probe"))
        assert 2 <= trips <= 20  # the creation, the end, and what fits between at 2 ms each
        assert scripts == trips
        assert (await costs(bench, chain(1, "type: probe")))[0] <= 3


async def test_an_impure_step_takes_one_round_trip_before_it_begins(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        trips, _ = await costs(bench, chain(20, "type: probe, pure: false"))
        assert 21 <= trips <= 42  # creation and end, twenty beginnings, and at most one more for each end


async def test_a_fork_of_fifty_impure_branches_shares_its_round_trips(redis_settings: Settings) -> None:
    targets = ", ".join(f"[n{number}]" for number in range(50))
    nodes = chain(50, "type: probe, pure: false").split("agents:\n", 1)[1]
    text = f"orchestrator: {{agents: [f, j]}}\nagents:\n  - {{id: f, type: fork, targets: [{targets}]}}\n"
    text += f"  - {{id: j, type: join, group: f}}\n{nodes}"
    async with open_bench(redis_settings) as bench:
        trips, _ = await costs(bench, text)
        assert trips <= 25


async def test_no_entry_copies_an_earlier_output(redis_settings: Settings) -> None:
    """Each step is shown what all before it gave, a kilobyte each."""
    step = "type: template, prompt: \"<i> {{{{ previous_outputs.n<before>.response | truncate(20, true, '') }}}} {filler}\""
    text = chain(50, step.format(filler="x" * 1000).replace("{{{{", "{{").replace("}}}}", "}}"))
    async with open_bench(redis_settings) as bench:
        result = await bench.run(load(text))
        produced = sum(len(seen.output["response"]) for seen in result.results if isinstance(seen.output, dict))
        assert produced > 50_000
        used = await bytes_of(bench, result.run_id)
        assert used["values"] == 0
        assert used["journal"] < 1.6 * produced


async def test_bytes_stored_per_step_stay_the_same_however_long_the_run(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        per_step: list[float] = []
        for count in (20, 200):
            text = chain(count, 'type: template, prompt: "{{ previous_outputs.n<before>.response | length }} of some"')
            result = await bench.run(load(text))
            per_step.append((await bytes_of(bench, result.run_id))["journal"] / count)
        assert per_step[1] < 1.2 * per_step[0]


async def test_a_large_value_is_stored_once_and_referred_to(redis_settings: Settings) -> None:
    text = """
orchestrator: {agents: [big, same, m, small]}
agents:
  - {id: big, type: echo}
  - {id: same, type: echo}
  - {id: m, type: map, items: "[input, input]", agents: [same]}
  - {id: small, type: template, prompt: "{{ previous_outputs.big.response | length }}"}
"""
    async with open_bench(redis_settings) as bench:
        given = "y" * 70_000
        result = await bench.run(load(text), given)
        assert result.output == "70000"
        keys = run_keys(result.run_id, bench.settings.partitions)
        values = await bench.client.hgetall(keys.values)
        # The input, the output of `big`, `same` and both items (equal, so stored once), and the map's list.
        assert sorted(len(value) for value in values.values()) == [70_002, 70_015, 140_007]
        assert (await bytes_of(bench, result.run_id))["journal"] < 10_000
        refs = [
            e.data["output"]["ref"] for e in await bench.entries(result.run_id) if "ref" in e.data.get("output", {})
        ]
        assert len(refs) == 4
        assert len(set(refs)) == 1
        await bench.cut(result.run_id, len(await bench.entries(result.run_id)) - 2)
        again = await bench.finish(result.run_id)
        assert (again.output, [seen.output for seen in again.results]) == (
            "70000",
            [seen.output for seen in result.results],
        )


async def test_a_value_over_the_hard_limit_fails_its_visit(redis_settings: Settings) -> None:
    small = replace(redis_settings, value_limit=256, value_hard_limit=1024)
    text = """
orchestrator: {agents: [big, after]}
agents:
  - {id: big, type: template, prompt: "{{ 'z' * 1100 }}"}
  - {id: after, type: template, prompt: "{{ previous_outputs.big.error_type }}"}
"""
    async with open_bench(small) as bench:
        result = await bench.run(load(text))
        assert result.output == "ValueTooLarge"
        assert await bench.client.exists(run_keys(result.run_id, small.partitions).values) == 0


@pytest.mark.parametrize(("value", "named"), [(nan, "nan"), ([1, {"deep": b"raw"}], "bytes"), (object(), "object")])
async def test_what_is_not_json_fails_its_visit_and_is_not_stored(
    redis_settings: Settings, value: object, named: str
) -> None:
    async def give(_task: AgentInput) -> object:
        return value

    registry = Registry()
    registry.agent("give")(give)
    text = "orchestrator: {agents: [a, b]}\nagents: [{id: a, type: give}, {id: b, type: echo}]"
    graph = check_graph(text, source="x.yml", specs=registry.specs(), compile_template=lambda source: source).graph
    assert graph is not None
    result = await Orchestrator(graph, settings=redis_settings, registry=registry).execute("x")
    failed = result.results[0]
    assert (str(failed.status), failed.output) == ("error", None)
    assert failed.error is not None
    assert failed.error.kind == "ValueNotJson"
    assert named in failed.error.message.lower()
