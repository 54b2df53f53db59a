"""Memory agents: what a run stores, a later one finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orka.errors import GraphError
from orka.orchestrator import Orchestrator
from orka.settings import Settings

BACKENDS = ("redis", "redisstack")

GRAPH = """
orchestrator: {{id: g, agents: [{order}], {more}}}
agents:
  - {{id: read, type: memory-reader, namespace: "{namespace}", config: {{similarity_threshold: 0.1, limit: 5}}}}
  - id: write
    type: memory-writer
    namespace: "{namespace}"
    metadata: {{from: "{{{{ input | length }}}}", deep: ["{{{{ run_id }}}}"]}}
"""


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, redis_settings: Settings) -> Settings:
    return replace(redis_settings, backend=request.param)


def written(folder: Path, text: str) -> Path:
    path = folder / "g.yml"
    path.write_text(text)
    return path


def output(result, node: str):
    [found] = [one.output for one in result.results if one.node_id == node]
    return found


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    return f"ns {request.node.name}"


async def test_a_later_run_recalls_what_an_earlier_one_stored(
    settings: Settings, tmp_path: Path, namespace: str
) -> None:
    file = written(tmp_path, GRAPH.format(order="read, write", more="", namespace=namespace))
    async with Orchestrator(file, settings=settings) as orchestrator:
        first = await orchestrator.execute("My parcel has not arrived")
    assert output(first, "read")["num_results"] == 0
    wrote = output(first, "write")
    assert wrote["status"] == "success"
    assert wrote["namespace"] == namespace
    assert wrote["content_length"] == 25
    assert wrote["stored_metadata"]["from"] == "25"
    assert wrote["stored_metadata"]["deep"] == [first.run_id]
    async with Orchestrator(file, settings=settings) as orchestrator:
        second = await orchestrator.execute("Where is my parcel?")
    read = output(second, "read")
    assert read["num_results"] == 1
    assert read["response"] == "My parcel has not arrived"
    [memory] = read["memories"]
    assert memory["key"] == wrote["memory_key"]
    assert memory["trace_id"] == first.run_id
    assert memory["node_id"] == "write"
    assert 0.1 < memory["similarity_score"] <= 1
    assert memory["metadata"]["namespace"] == namespace


async def test_neither_gives_the_runs_answer_where_another_node_does(
    settings: Settings, tmp_path: Path, namespace: str
) -> None:
    text = GRAPH.format(order="say, read, write", more="", namespace=namespace)
    file = written(tmp_path, text + "  - {id: say, type: template, prompt: hello}\n")
    async with Orchestrator(file, settings=settings) as orchestrator:
        assert await orchestrator.run("anything") == "hello"


async def test_a_visit_that_is_repeated_writes_one_memory(settings: Settings, tmp_path: Path, namespace: str) -> None:
    file = written(
        tmp_path,
        f"""
orchestrator: {{id: g, agents: [f, j, read]}}
agents:
  - {{id: f, type: fork, targets: [[a], [b], [c]]}}
  - {{id: a, type: memory-writer, namespace: "{namespace}", prompt: apples are red}}
  - {{id: b, type: memory-writer, namespace: "{namespace}", prompt: apples are red}}
  - {{id: c, type: memory-writer, namespace: "{namespace}", prompt: apples are red, key_template: "{{{{ input }}}}"}}
  - {{id: j, type: join, group: f}}
  - {{id: read, type: memory-reader, namespace: "{namespace}", prompt: red apples, config: {{similarity_threshold: 0.1}}}}
""",
    )
    async with Orchestrator(file, settings=settings) as orchestrator:
        first = await orchestrator.execute("name")
        assert output(first, "read")["num_results"] == 3
        again = await orchestrator.execute("name")
        assert output(again, "read")["num_results"] == 5  # `c` has a name of its own


async def test_an_empty_text_is_said_so(settings: Settings, tmp_path: Path, namespace: str) -> None:
    file = written(tmp_path, GRAPH.format(order="write, read", more="", namespace=namespace))
    async with Orchestrator(file, settings=settings) as orchestrator:
        result = await orchestrator.execute("  ")
    assert output(result, "write")["status"] == "error"
    assert output(result, "read") == {
        "response": "",
        "memories": [],
        "query": "",
        "backend": settings.memory_backend,
        "search_type": "enhanced_vector",
        "num_results": 0,
        "error": "there is nothing to search for",
    }


async def test_presets_and_decay_take_effect(settings: Settings, tmp_path: Path, namespace: str) -> None:
    text = f"""
orchestrator: {{id: g, agents: [a, b, c], memory_preset: working, memory: {{decay: {{short_term_hours: 3}}}}}}
agents:
  - {{id: a, type: memory-writer, namespace: "{namespace}", prompt: one, config: {{memory_type: short_term, importance: 0}}}}
  - {{id: b, type: memory-writer, namespace: "{namespace}", prompt: two, decay: {{short_term_hours: 5}},
      config: {{memory_type: short_term, importance: 0}}}}
  - {{id: c, type: memory, namespace: "{namespace}", prompt: one two, config: {{similarity_threshold: -1}}}}
"""
    async with Orchestrator(written(tmp_path, text), settings=settings) as orchestrator:
        result = await orchestrator.execute("x")
    found = {one["content"]: one["ttl_seconds"] / 3600 for one in output(result, "c")["memories"]}
    assert found["one"] == pytest.approx(3, abs=0.02)
    assert found["two"] == pytest.approx(5, abs=0.02)
    assert output(result, "c")["search_type"] == "hybrid"


async def test_memories_of_other_sessions_and_categories_are_not_seen(
    settings: Settings, tmp_path: Path, namespace: str
) -> None:
    text = f"""
orchestrator: {{id: g, agents: [a, b, c, d]}}
agents:
  - {{id: a, type: memory-writer, namespace: "{namespace}", prompt: red apples, config: {{session: "s-1"}}}}
  - {{id: b, type: memory-writer, namespace: "{namespace}", prompt: red apples too, metadata: {{category: other}},
      config: {{session: "s-2"}}}}
  - {{id: c, type: memory, namespace: "{namespace}", prompt: apples, config: {{similarity_threshold: -1, session: "s-1"}}}}
  - {{id: d, type: memory, namespace: "{namespace}", prompt: apples,
      config: {{similarity_threshold: -1, memory_category_filter: other}}}}
"""
    async with Orchestrator(written(tmp_path, text), settings=settings) as orchestrator:
        result = await orchestrator.execute("x")
    assert output(result, "c")["response"] == "red apples"
    assert output(result, "d")["response"] == "red apples too"


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        ("{id: a, type: memory, config: {limit: 0}}", "limit"),
        ("{id: a, type: memory, config: {operation: forget}}", "operation"),
        ("{id: a, type: memory, memory_preset: episodc}", "episodic"),
        ("{id: a, type: memory, decay: {short_term_hour: 1}}", "short_term_hours"),
        ("{id: a, type: memory, metadata: {x: '{{ broken'}}", "bad template"),
    ],
)
async def test_bad_options_are_told_at_load(agent: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=why):
        Orchestrator(written(tmp_path, f"orchestrator: {{id: g, agents: [a]}}\nagents:\n  - {agent}\n"))


async def test_metadata_sees_the_names_of_the_contract(settings: Settings, tmp_path: Path, namespace: str) -> None:
    file = written(
        tmp_path,
        f"""
orchestrator: {{id: g, agents: [own, inner, none]}}
agents:
  - id: own
    type: memory-writer
    namespace: "{namespace} {{{{ input.user }}}}"
    key_template: "{{{{ namespace }}}}/{{{{ agent_id }}}}"
    metadata: {{where: "{{{{ namespace }}}}", input: "{{{{ original_input.user }}}}"}}
    config: {{metadata: {{deep: ["{{{{ namespace }}}}"]}}}}
    prompt: "{{% set box = namespace(n=2) %}}{{{{ box.n }}}}"
  - {{id: inner, type: memory-writer, config: {{namespace: "c", metadata: {{where: "{{{{ namespace }}}}"}}}}, prompt: x}}
  - {{id: none, type: memory-writer, metadata: {{where: "{{{{ namespace }}}}"}}, prompt: x}}
""",
    )
    async with Orchestrator(file, settings=settings) as orchestrator:
        result = await orchestrator.execute({"user": "ada"})
    assert [one.warnings for one in result.results] == [(), (), ()]
    whole = f"{namespace} ada"
    stored = output(result, "own")["stored_metadata"]
    assert (stored["where"], stored["deep"], stored["input"]) == (whole, [whole], "ada")
    assert stored["memory_key_template"] == f"{whole}/own"
    assert output(result, "own")["content_length"] == 1
    assert output(result, "inner")["stored_metadata"]["where"] == "c"
    assert output(result, "none")["stored_metadata"]["where"] == "default"


async def test_a_guardians_object_brings_its_judgement_along(
    settings: Settings, tmp_path: Path, namespace: str
) -> None:
    file = written(
        tmp_path,
        f"""
orchestrator: {{id: g, agents: [true_validation_guardian, write]}}
agents:
  - id: true_validation_guardian
    type: function
    function: support.functions:guarded
  - {{id: write, type: memory-writer, namespace: "{namespace}"}}
""",
    )
    async with Orchestrator(file, settings=settings, allow_functions=True) as orchestrator:
        stored = output(await orchestrator.execute("x"), "write")["stored_metadata"]
    assert (stored["analysis_type"], stored["confidence"]) == ("facts", 0.9)
    assert (stored["validation_status"], stored["structured_data"]["claim"]) == ("validated", "tea is green")


async def test_all_among_the_types_is_any_type(settings: Settings, tmp_path: Path, namespace: str) -> None:
    text = GRAPH.format(order="write, read", more="", namespace=namespace)
    file = written(tmp_path, text.replace("limit: 5", "memory_type_filter: [all, short_term]"))
    async with Orchestrator(file, settings=settings) as orchestrator:
        assert output(await orchestrator.execute("green tea"), "read")["num_results"] == 1
