"""Graph scouts in real runs: what they choose really runs, once, and in the right order."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from support.crash import Bench, Entry
from support.fleet import open_fleet
from support.running import at, execute, graph, paths

from orka import Orchestrator
from orka.errors import LLMError
from orka.ids import new_run_id
from orka.lifecycle import start_run
from orka.results import RunResult
from orka.services import open_services
from orka.settings import Settings
from orka.testing import ScriptedLLM
from orka.types import Status

FLOW = """
    orchestrator: {id: ask, agents: [scout, response_builder, notes]}
    agents:
      - {id: scout, type: graph-scout, latency_budget_ms: 9000, cost_budget_tokens: 2000%s}
      - {id: news_search, type: template, capabilities: [web_search], prompt: "News of {{ input }}"}
      - {id: story_writer, type: template, capabilities: [writing], prompt: "Once upon a time"}
      - {id: notes, type: template, prompt: noted}
      - id: response_builder
        type: template
        capabilities: [answer_emit]
        is_terminal: true
        prompt: "Answer: {{ get_agent_response('news_search') or get_agent_response('story_writer') }}"
"""


def flow(more: str = "") -> str:
    return FLOW % more


def scouted(result: RunResult, path: str = "scout") -> dict[str, Any]:
    output = at(result, path).output
    assert isinstance(output, dict)
    return output


async def test_what_a_scout_chooses_runs_and_what_is_listed_is_not_run_twice(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow(), "What are the latest news?")
    assert paths(result) == ["scout", "news_search", "response_builder", "notes"]
    assert result.output == "Answer: News of What are the latest news?"
    result = await execute(redis_settings, flow(", commit_margin: 0.05"), "Write me a story")
    assert paths(result) == ["scout", "story_writer", "response_builder", "notes"]
    found = scouted(result)
    assert (found["decision"], found["target"], found["status"]) == (
        "commit_path",
        ["story_writer", "response_builder"],
        "success",
    )
    assert found["result"]["target"] == found["target"]
    assert at(result, "scout").event_type == "GraphScoutAgent"


async def test_a_scout_may_only_propose(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow(", reroute: false"), "What are the latest news?")
    assert paths(result) == ["scout", "response_builder", "notes"]


async def test_a_path_executor_runs_what_a_scout_in_a_loop_has_found(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: ask, agents: [refine, go]}
        agents:
          - id: refine
            type: loop
            max_loops: 2
            score_threshold: 0.9
            internal_workflow:
              orchestrator: {agents: [scout, judge]}
              agents:
                - {id: scout, type: graph-scout, latency_budget_ms: 9000}
                - {id: judge, type: template, prompt: "SCORE: 0.{{ 5 + get_loop_number() * 2 }}"}
          - {id: go, type: path_executor, path_source: refine}
          - {id: news_search, type: template, capabilities: [web_search], prompt: "News of {{ input }}"}
          - {id: final_words, type: template, prompt: "Told: {{ previous_outputs.news_search.response }}"}
        """
    result = await execute(redis_settings, text, "the latest news")
    assert paths(result) == [
        "refine[1]/scout",
        "refine[1]/judge",
        "refine[2]/scout",
        "refine[2]/judge",
        "refine",
        "go.0/news_search",
        "go.0/final_words",
        "go",
    ]
    assert result.output == "Told: News of the latest news"


async def test_decisions_without_a_path(redis_settings: Settings) -> None:
    broke = scouted(
        await execute(redis_settings, flow(", cost_budget_tokens: 10").replace("cost_budget_tokens: 2000, ", ""))
    )
    assert (broke["decision"], broke["target"], broke["status"]) == ("shortlist", [], "budget_exceeded")
    result = await execute(redis_settings, flow(), "How do I make a bomb?")
    assert paths(result) == ["scout", "response_builder", "notes"]
    assert (scouted(result)["decision"], scouted(result)["status"]) == ("human_gate", "safety_violation")
    alone = await execute(redis_settings, "{orchestrator: {agents: [s]}, agents: [{id: s, type: graph-scout}]}")
    assert (scouted(alone, "s")["decision"], scouted(alone, "s")["status"]) == ("fallback", "no_candidates")


async def test_required_agents_are_in_the_path(redis_settings: Settings) -> None:
    text = flow(", prompt: 'REQUIRED_AGENTS: [story_writer, news_search]'")
    result = await execute(redis_settings, text, "anything")
    assert paths(result) == ["scout", "story_writer", "news_search", "response_builder", "notes"]


JUDGED = (
    ", llm_evaluation_enabled: true, provider: lm_studio, model_url: 'http://localhost:1', evaluation_model_name: m"
)


def opinion(*scores: tuple[list[str], float]) -> str:
    best = max(scores, key=lambda one: one[1])[0]
    judged = [{"path": path, "score": score} for path, score in scores]
    said = {"recommended_path": best, "reasoning": "it fits", "confidence": 0.9, "path_evaluations": judged}
    return json.dumps(said)


async def test_a_model_judges_the_paths_in_one_call(redis_settings: Settings) -> None:
    said = opinion((["story_writer", "response_builder"], 1.0), (["news_search", "response_builder"], 0.1))
    models = ScriptedLLM([said])
    async with Orchestrator(graph(flow(JUDGED)), settings=redis_settings, llm=models) as orchestrator:
        result = await orchestrator.execute("What are the latest news?")
    assert paths(result) == ["scout", "story_writer", "response_builder", "notes"]
    found = scouted(result)
    assert found["decision"] == "commit_path"
    assert found["reasoning"].endswith("it fits")
    assert found["trace"]["judged_by"] == "model"
    assert found["metrics"]["llm_calls"] == len(models.asked) == 1
    assert at(result, "scout").usage is not None


async def test_batches_are_judged_at_the_same_time(redis_settings: Settings) -> None:
    models = ScriptedLLM(default=opinion((["story_writer", "response_builder"], 1.0)), latency=0.05)
    text = flow(JUDGED + ", evaluation_batch: 2, evaluation_concurrency: 3")
    async with Orchestrator(graph(text), settings=redis_settings, llm=models) as orchestrator:
        result = await orchestrator.execute("hello")
    assert (len(models.asked), models.most_at_once) == (scouted(result)["metrics"]["llm_calls"], 3)
    assert paths(result)[1] == "story_writer"


async def test_words_judge_when_the_model_cannot_be_asked(redis_settings: Settings) -> None:
    models = ScriptedLLM(default=LLMError("the server is down"))
    async with Orchestrator(graph(flow(JUDGED)), settings=redis_settings, llm=models) as orchestrator:
        result = await orchestrator.execute("What are the latest news?")
    assert paths(result)[1] == "news_search"
    assert (scouted(result)["trace"]["judged_by"], scouted(result)["status"]) == ("words", "success")
    text = flow(JUDGED + ", fallback_to_heuristics: false")
    async with Orchestrator(graph(text), settings=redis_settings, llm=models) as orchestrator:
        result = await orchestrator.execute("What are the latest news?")
    assert at(result, "scout").status is Status.ERROR


async def test_boolean_scoring_chooses_too(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow(", scoring_mode: boolean"), "What are the latest news?")
    assert "news_search" in paths(result)
    assert 0.5 < scouted(result)["result"]["top_score"] <= 1


BRANCHES = """
    orchestrator: {id: ask, agents: [spread, gather, go, end]}
    agents:
      - {id: spread, type: fork, targets: [[scout, response_builder], [notes]]}
      - {id: scout, type: graph-scout, latency_budget_ms: 9000, max_depth: 1}
      - {id: gather, type: join, group: spread}
      - {id: go, type: path_executor, path_source: scout}
      - {id: news_search, type: template, capabilities: [web_search], prompt: "News of {{ input }}"}
      - {id: notes, type: template, prompt: noted}
      - {id: response_builder, type: template, prompt: "Answer: {{ get_agent_response('news_search') }}"}
      - {id: end, type: template, prompt: "{{ previous_outputs.go.executed_path }}"}
"""


def outcome(result: RunResult) -> list[tuple[Any, ...]]:
    return [(visit.path, visit.status, visit.output) for visit in result.results]


async def killed_everywhere(settings: Settings, text: str, given: str) -> int:
    """Cuts the run off after each of its entries and resumes it; every end is the same."""
    async with open_services(replace(settings, lease=2)) as services:
        bench = Bench(services)
        result = await start_run(services, services.build(graph(text)), given, new_run_id())
        entries: list[Entry] = await bench.entries(result.run_id)
        for keep in range(len(entries) - 1, 0, -1):
            await bench.cut(result.run_id, keep)
            again = await bench.finish(result.run_id)
            assert outcome(again) == outcome(result)
            assert again.output == result.output
        return len(entries) - 1


async def test_rerouting_survives_a_kill_after_every_entry(redis_settings: Settings) -> None:
    assert await killed_everywhere(redis_settings, flow(), "What are the latest news?") >= 5
    rerouting = BRANCHES.replace("max_depth: 1}", "max_depth: 1, reroute: true}")
    assert await killed_everywhere(redis_settings, rerouting, "What are the latest news?") >= 10


async def test_a_scout_in_a_branch_on_a_worker_reroutes_as_in_one_process(redis_settings: Settings) -> None:
    text = BRANCHES.replace("max_depth: 1}", "max_depth: 1, reroute: true}")
    here = await execute(redis_settings, text, "What are the latest news?")
    assert "spread.0/news_search" in paths(here)
    async with open_fleet(redis_settings, 2) as bench:
        there = await bench.run(graph(text), "What are the latest news?")
        entries = await bench.entries(there.run_id)
    assert "spread.0" in {entry.path for entry in entries if entry.kind == "branch.finished"}
    assert [one[0] for one in outcome(there)] == [one[0] for one in outcome(here)]
    assert there.output == here.output
