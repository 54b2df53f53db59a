"""`brain` nodes: what one workflow learns, another recalls; results as files of OrKa 0.9 read them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orka import Brain, ConfigError
from orka.agents.base import AgentTools
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings
from orka.testing import HashEmbedder, example_task, run_agent

ALWAYS = {"response", "confidence", "internal_reasoning"}
TASK = "Review the report step by step, then summarize it"

LEARNING = """
orchestrator: {id: learning, agents: [work, learn, record]}
agents:
  - {id: work, type: echo, value: {response: {steps: [{action: read it, result: done}, sum it up], task: "TASK"}}}
  - id: learn
    type: brain
    params: {operation: learn, timeout: 30}
    prompt: >
      {"domain": "finance", "task": "TASK", "confidence": "0.9",
       "steps": {{ previous_outputs.work.response.steps | tojson }}}
  - id: record
    type: brain
    operation: record_episode
    prompt: "{'task_input': 'TASK', 'domain': 'finance', 'success': False, 'quality': 0.2, 'lessons': 'read first, sum up later'}"
"""

USING = """
orchestrator: {id: using, agents: [recall, episodes, feedback, answer]}
agents:
  - id: recall
    type: brain
    operation: recall
    prompt: '{"domain": "law", "task": {{ get_input() | tojson }}}'
  - id: episodes
    type: brain
    operation: recall_episodes
    max_tokens: 200
    prompt: '{"task_input": {{ get_input() | tojson }}, "domain": "law"}'
  - id: feedback
    type: brain
    operation: feedback
    prompt: >
      {"skill_id": "{{ previous_outputs.recall.skill_id | default('') }}", "success": true, "domain": "law",
       "task": {{ get_input() | tojson }}}
  - id: answer
    type: template
    prompt: >-
      {% if previous_outputs.recall.skill_id is defined %}{{ previous_outputs.recall.skill_steps | join(', ') }};
      {{ previous_outputs.feedback.transfer_count }}{% else %}nothing{% endif %}
"""


@pytest.fixture
def settings(clean_redis: RedisHandle, redis_settings: Settings) -> Settings:
    return redis_settings


@pytest.fixture
async def brain(settings: Settings) -> AsyncIterator[Brain]:
    async with Brain(settings, HashEmbedder()) as opened:
        yield opened


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text.replace("TASK", TASK))
    return path


async def ask(brain: Brain, operation: str, payload: Any, path: str = "example", **options: Any) -> dict[str, Any]:
    """The whole result of one visit."""
    prompt = payload if isinstance(payload, str) else json.dumps(payload)
    task = replace(example_task(prompt, options={"operation": operation, **options}), path=path)
    output = await run_agent("brain", task, tools=AgentTools(embedder=HashEmbedder(), brain=brain))
    assert isinstance(output.fields["confidence"], str)
    return {"response": output.response, **output.fields}


async def test_what_one_workflow_learns_another_one_recalls_and_judges(settings: Settings, tmp_path: Path) -> None:
    learning, using = written(tmp_path, "learn.yml", LEARNING), written(tmp_path, "use.yml", USING)
    assert await Orchestrator(using, settings=settings).run(TASK) == "nothing"
    async with Orchestrator(learning, settings=settings) as orchestrator:
        first = await orchestrator.execute("x")
        await orchestrator.execute("x")
    by_id = {one.node_id: one.output for one in first.results}
    assert by_id["learn"]["skill_name"] == "procedural:finance:evaluation-sequential"
    assert by_id["learn"]["skill_steps"] == ["read it", "sum it up"]
    async with Orchestrator(using, settings=settings) as orchestrator:
        assert await orchestrator.run(TASK) == "read it, sum it up; 1"
        result = await orchestrator.execute(TASK)
    outputs = {one.node_id: one.output for one in result.results}
    assert outputs["recall"]["adaptations"] == {"domain": {"from": "finance", "to": "law"}}
    assert outputs["feedback"]["transfer_count"] == 2
    assert outputs["episodes"]["episode_count"] == 2
    assert "Lessons: read first; sum up later" in outputs["episodes"]["response"]
    async with Brain(settings) as brain:
        [skill] = await brain.get_skills()
        assert (skill.usage_count, skill.transfers) == (4, 2)


async def test_branches_that_learn_at_once_lose_nothing(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "fork.yml"
    branches = [f"b{n}" for n in range(12)]
    lines = [f"  - {{id: {name}, type: brain, prompt: '{{{{ input | tojson }}}}'}}" for name in branches]
    file.write_text(
        "orchestrator: {id: g, agents: [f, j]}\nagents:\n"
        f"  - {{id: f, type: fork, targets: [{', '.join(branches)}]}}\n  - {{id: j, type: join, group: f}}\n"
        + "\n".join(lines)
    )
    await Orchestrator(file, settings=settings).run({"domain": "d", "task": TASK, "steps": ["a", "b"]})
    async with Brain(settings) as brain:
        [skill] = await brain.get_skills()
        assert skill.usage_count == 12


async def test_a_visit_that_is_repeated_changes_nothing(brain: Brain) -> None:
    payload = {"domain": "d", "task": TASK, "steps": ["a"]}
    first = await ask(brain, "learn", payload)
    assert await ask(brain, "learn", payload) == first
    feedback = {"skill_id": first["skill_id"], "domain": "e", "task": TASK}
    judged = await ask(brain, "feedback", feedback, "judge")
    assert await ask(brain, "feedback", feedback, "judge") == judged
    assert judged["transfer_count"] == 1
    recorded = await ask(brain, "record_episode", {"task_input": "x"}, "record")
    assert await ask(brain, "record_episode", {"task_input": "x"}, "record") == recorded
    assert len(await brain.recall_episodes("x")) == 1


async def test_results_have_the_keys_of_their_operations(brain: Brain) -> None:
    context = {"domain": "law", "task": TASK}
    learned = await ask(brain, "learn", {**context, "steps": ["a"], "response": "done", "internal_reasoning": "so"})
    assert set(learned) == ALWAYS | {"skill_id", "skill_name", "skill_steps", "skill_tags"}
    assert (learned["response"], learned["internal_reasoning"], learned["confidence"]) == ("done", "so", "0.6")
    recalled = await ask(brain, "recall", context)
    scores = {"combined_score", "structural_score", "semantic_score", "adaptations", "all_candidates"}
    assert set(recalled) == set(learned) | scores
    [candidate] = recalled["all_candidates"]
    assert set(candidate) == {"skill_name", "score", "reasoning"}
    assert recalled["confidence"] == str(recalled["combined_score"])
    judged = await ask(brain, "feedback", {**context, "skill_name": learned["skill_name"], "success": "false"})
    assert set(judged) == ALWAYS | {"skill_id", "skill_name", "transfer_count", "transfer_success"}
    assert (judged["skill_id"], judged["transfer_success"]) == (learned["skill_id"], False)
    recipe = {**context, "agents": '[{"id": "a"}, {"id": "b"}]', "strategy": "fork-join"}
    path = {**context, "path": "a → b → c", "confidence": 0.9, "budget_used": {"tokens": 3}}
    for operation, payload, name, kind in (
        ("learn_recipe", recipe, "recipe:law:fork-join-a+b", "execution_recipe"),
        ("learn_anti", {**context, "what_failed": "No limit", "reason": "slow"}, "anti:law:no-limit", "anti_pattern"),
        ("learn_path", path, "path:law:a→b→c", "graph_path"),
    ):
        found = await ask(brain, operation, payload, operation)
        assert set(found) == ALWAYS | {"skill_id", "skill_name", "skill_type"}
        assert (found["skill_name"], found["skill_type"]) == (name, kind)
    recorded = await ask(brain, "record_episode", {**context, "task_input": "x", "success": False})
    assert set(recorded) == ALWAYS | {"episode_id", "episode_domain", "episode_success"}
    assert (recorded["episode_domain"], recorded["episode_success"], recorded["confidence"]) == ("law", False, "0.5")
    episodes = await ask(brain, "recall_episodes", {"task_input": "x"})
    assert set(episodes) == ALWAYS | {"episode_count", "episodes"}
    assert episodes["episodes"][0]["episode_id"] == recorded["episode_id"]


async def test_recalling_nothing_gives_no_skill(brain: Brain) -> None:
    for payload in ({"task": TASK}, "plain words", "{}", ""):
        found = await ask(brain, "recall", payload)
        assert set(found) == ALWAYS | {"all_candidates"}
        assert (found["confidence"], found["all_candidates"]) == ("0.0", [])
    episodes = await ask(brain, "recall_episodes", "plain words")
    assert (episodes["episode_count"], episodes["episodes"], episodes["confidence"]) == (0, [], "0.0")


async def test_what_cannot_be_learned_or_judged_is_no_error(brain: Brain) -> None:
    for operation, payload in (
        ("feedback", {"skill_id": "", "success": True}),
        ("feedback", {"skill_id": "nobody"}),
        ("learn", {"domain": "d", "task": TASK, "steps": ["a"], "success": False}),
        ("learn", ""),
        ("learn_recipe", {"agents": []}),
        ("learn_path", {"path": ""}),
        ("learn_anti", {"what_failed": ""}),
    ):
        found = await ask(brain, operation, payload, operation)
        assert set(found) == ALWAYS
        assert found["confidence"] == "0.0"
    assert await brain.get_skills() == []


async def test_a_text_is_learned_by_its_lines(brain: Brain) -> None:
    found = await ask(brain, "learn", "Plan the release:\n1. freeze the code\n2. run the tests")
    assert found["skill_steps"] == ["freeze the code", "run the tests"]
    assert found["skill_name"].startswith("procedural:general:planning")


async def test_options_say_how_to_recall_and_the_payload_wins(brain: Brain) -> None:
    for n in range(5):
        await brain.learn({"steps": ["a"]}, {"domain": f"d{n}", "task": TASK}, {"success": True})
    assert len((await ask(brain, "recall", {"task": TASK}))["all_candidates"]) == 3
    assert len((await ask(brain, "recall", {"task": TASK}, top_k=5))["all_candidates"]) == 5
    assert len((await ask(brain, "recall", {"task": TASK, "top_k": 2}, top_k=5))["all_candidates"]) == 2
    found = await ask(brain, "recall", {"task": TASK}, domain_filter="d3")
    assert found["skill_name"] == "procedural:d3:evaluation-sequential"
    assert (await ask(brain, "recall", {"task": TASK}, min_score=0.99))["all_candidates"] == []
    assert (await ask(brain, "recall", {"task": TASK, "skill_types": "graph_path"}))["all_candidates"] == []


async def test_the_input_is_the_payload_where_there_is_no_prompt(brain: Brain) -> None:
    task = example_task(input={"input": {"domain": "d", "task": TASK, "steps": ["a"]}})
    output = await run_agent("brain", task, tools=AgentTools(embedder=HashEmbedder(), brain=brain))
    assert output.fields["skill_steps"] == ["a"]


async def test_a_process_without_a_brain_says_so() -> None:
    with pytest.raises(ConfigError, match="this process has opened none"):
        await run_agent("brain", "x")
    with pytest.raises(ConfigError, match="operation"):
        await run_agent("brain", example_task("x", options={"operation": "forget"}))


async def test_many_agents_open_one_brain(settings: Settings, tmp_path: Path) -> None:
    file = written(tmp_path, "use.yml", USING)
    async with Orchestrator(file, settings=settings) as orchestrator, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(orchestrator.run, TASK)


async def test_a_payload_with_a_slip_is_read_all_the_same(brain: Brain) -> None:
    broken = '{"domain": "law", "task": "' + TASK + '", "steps": ["read it"], "response": "she said "read it" twice",}'
    found = await ask(brain, "learn", broken)
    assert (found["skill_name"], found["skill_steps"]) == ("procedural:law:evaluation-sequential", ["read it"])
    assert (await ask(brain, "learn", "{no object", "other"))["response"] == "{no object"
