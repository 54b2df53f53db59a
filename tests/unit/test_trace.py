"""What a trace says of a run: workflow-format 6.5, from results alone."""

import json
from typing import Any

from support.running import graph

from orka.engine.costs import cost_analysis, find_calls
from orka.engine.trace import Blobs, TraceFacts, make_trace, node_at, resolve
from orka.results import Failure, NodeResult, RunResult, Usage
from orka.traces import chunks_of
from orka.types import Json, NodeId, Path, RunId, RunStatus, Status

GRAPH = graph("""
    orchestrator: {id: traced, agents: [ask, again, recall, pick]}
    agents:
      - {id: ask, type: template, prompt: "{{ input }} and {{ nope }}"}
      - id: again
        type: loop
        internal_workflow:
          orchestrator: {id: inner, agents: [ask, plain]}
          agents:
            - {id: ask, type: template, prompt: "{% if true %}inner{% endif %}"}
            - {id: plain, type: template, prompt: "no template"}
      - {id: recall, type: echo}
      - {id: pick, type: failover, children: [{id: child, type: template, prompt: "{{ a }}{{ b }}{{ c }}"}]}
    """)


def visit(path: str, output: Json, event_type: str = "TemplateAgent", **more: Any) -> NodeResult:
    node_id = NodeId(path.rpartition("/")[2])
    return NodeResult(
        path=Path(path),
        node_id=node_id,
        event_type=event_type,
        output=output,
        started_ms=1_767_225_600_000,
        **{"status": Status.SUCCESS, "duration_ms": 5.0, **more},
    )


def metrics(model: str, cost: float, **more: Json) -> dict[str, Json]:
    return {
        "_metrics": {"model": model, "provider": "openai", "tokens": 15, "latency_ms": 40.0, "cost_usd": cost, **more}
    }


ASKED = [
    visit(
        "ask",
        {"response": "A" * 300, **metrics("m1", 0.25)},
        "LocalLLMAgent",
        prompt="x and ",
        usage=Usage(prompt_tokens=10, completion_tokens=5, cost_usd=0.25),
        warnings=("`{{ nope }}` (line 1): 'nope' is undefined",),
    ),
    visit("again[1]/ask", {"response": "B", **metrics("m2", 0.5, latency_ms=20.0)}, prompt="inner", inner=True),
    visit("again[1]/plain", {"response": "P"}, prompt="no template", inner=True),
    visit("again", {"result": {}, "loops_completed": 1, "final_score": 1.0, "threshold_met": True, "past_loops": []}, "LoopNode"),
    visit(
        "recall",
        {"memories": [{"key": "k1", "timestamp": 7, "content": "c" * 150}, {"key": "k2", "content": "short"}], "query": "q"},
        "MemoryReaderNode",
    ),
    visit("pick.0/child", None, status=Status.ERROR, error=Failure(kind="LLMError", message="down"), inner=True,
          usage=Usage(prompt_tokens=1)),
    visit("store", {"response": "k3", "memory_key": "k3"}, "MemoryWriterNode", prompt="what is kept"),
]  # fmt: skip


def result(results: list[NodeResult] = ASKED, **more: Any) -> RunResult:
    values: dict[str, Any] = {
        "run_id": RunId("run-1"),
        "status": RunStatus.COMPLETED,
        "output": "B",
        "results": tuple(results),
        "usage": Usage(),
        "duration_ms": 1234.5,
        **more,
    }
    return RunResult(**values)


def made(**more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "graph": GRAPH,
        "at_ms": 1_767_225_601_000,
        "input": "x",
        "environment": {"platform": "p"},
        **more,
    }
    return make_trace(result(), TraceFacts(**facts))


def test_the_deduplicated_form_has_the_keys_of_the_format() -> None:
    trace = made()
    assert list(trace) == ["_metadata", "run", "blob_store", "events", "cost_analysis", "meta_report"]
    assert trace["_metadata"] == {
        "version": "1.2.0",
        "deduplication_enabled": True,
        "blob_threshold_chars": 200,
        "total_blobs_stored": len(trace["blob_store"]),
        "stats": {"total_entries": 7, "blob_references": len(trace["blob_store"]), "characters_saved": 0},
        "generated_at": "2026-01-01T00:00:01.000+00:00",
    }
    assert trace["run"]["status"] == "completed"
    assert (trace["run"]["input"], trace["run"]["output"], trace["run"]["session_id"]) == ("x", "B", "run-1")
    first = trace["events"][0]
    assert (first["agent_id"], first["event_type"], first["step"], first["run_id"]) == (
        "ask",
        "LocalLLMAgent",
        1,
        "run-1",
    )
    assert first["timestamp"] == "2026-01-01T00:00:00.000+00:00"
    reference = first["payload"]
    assert (reference["_type"], len(reference["ref"])) == ("blob_reference", 64)
    payload = resolve(trace, reference)
    assert reference["_original_keys"] == list(payload)  # type: ignore[arg-type]
    assert payload["response"] == "A" * 300  # type: ignore[index,call-overload]
    assert payload["formatted_prompt"] == "x and "  # type: ignore[index,call-overload]


def test_inner_visits_are_events_of_the_step_that_they_are_part_of() -> None:
    events = made()["events"]
    assert [(event["path"], event["step"], event.get("inner", False)) for event in events] == [
        ("ask", 1, False),
        ("again[1]/ask", 2, True),
        ("again[1]/plain", 2, True),
        ("again", 2, False),
        ("recall", 3, False),
        ("pick.0/child", 4, True),
        ("store", 4, False),
    ]


def test_events_tell_of_templates() -> None:
    by_path = {event["path"]: event["template_resolution"] for event in made()["events"]}
    assert by_path["ask"] == {
        "has_template": True,
        "was_rendered": True,
        "has_unresolved_vars": True,
        "variable_count": 2,
    }
    inner = by_path["again[1]/ask"]  # the loop's own, not the outer one of that name
    assert (inner["has_template"], inner["variable_count"], inner["has_unresolved_vars"]) == (True, 0, False)
    assert by_path["again[1]/plain"]["has_template"] is False
    assert by_path["pick.0/child"] == {
        "has_template": True,
        "was_rendered": False,
        "has_unresolved_vars": False,
        "variable_count": 3,
    }


def test_events_name_the_memories_that_were_read_and_written() -> None:
    by_path = {event["path"]: event.get("memory_references") for event in made()["events"]}
    assert by_path["recall"] == [
        {"key": "k1", "timestamp": 7, "content_preview": "c" * 100},
        {"key": "k2", "timestamp": None, "content_preview": "short"},
    ]
    assert by_path["store"] == [{"key": "k3", "timestamp": 1_767_225_600_000, "content_preview": "what is kept"}]
    assert by_path["ask"] is None


def test_costs_are_summed_by_agent_model_and_provider_inner_visits_included() -> None:
    found = made()["cost_analysis"]
    assert found["summary"] == {
        "total_agents": 2,
        "total_calls": 3,
        "failed_calls": 1,
        "total_tokens": 31,
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "total_cost_usd": 0.75,
        "avg_latency_ms": 21.667,
    }
    assert found["agents"]["ask"]["calls"] == 2
    assert found["agents"]["ask"]["cost_usd"] == 0.75
    assert {name: one["calls"] for name, one in found["by_model"].items()} == {"m1": 1, "m2": 1, "unknown": 1}
    assert {name: one["tokens"] for name, one in found["by_provider"].items()} == {"openai": 30, "unknown": 1}


def test_a_run_without_models_costs_nothing() -> None:
    assert find_calls([visit("a", {"response": "r"})]) == []
    assert cost_analysis([])["summary"]["total_calls"] == 0  # type: ignore[index,call-overload]


def test_the_report_has_real_values_in_both_forms() -> None:
    for trace in (made(), made(whole=True)):
        assert trace["meta_report"] == {
            "total_duration": 1.234,
            "total_llm_calls": 3,
            "total_tokens": 31,
            "total_cost_usd": 0.75,
            "avg_latency_ms": 21.667,
            "agent_breakdown": {
                "ask": {"calls": 2, "tokens": 30, "cost_usd": 0.75, "avg_latency_ms": 30.0},
                "child": {"calls": 1, "tokens": 1, "cost_usd": 0.0, "avg_latency_ms": 5.0},
            },
            "model_usage": {
                "m1": {"calls": 1, "tokens": 15, "cost_usd": 0.25},
                "m2": {"calls": 1, "tokens": 15, "cost_usd": 0.5},
                "unknown": {"calls": 1, "tokens": 1, "cost_usd": 0.0},
            },
            "runtime_environment": {"platform": "p"},
            "execution_stats": {
                "total_agents_executed": 7,
                "failed": 1,
                "run_id": "run-1",
                "generated_at": "2026-01-01T00:00:01.000+00:00",
            },
        }


def test_the_whole_form_has_every_payload_where_it_belongs() -> None:
    trace = made(whole=True)
    assert trace["execution_metadata"] == {
        "run_id": "run-1",
        "total_agents": 7,
        "execution_time": "2026-01-01T00:00:01.000+00:00",
        "memory_backend": "redisstack",
        "version": "1.1.0",
    }
    assert trace["memory_stats"] == {"backend": "redisstack", "memories_read": 2, "memories_written": 1}
    assert trace["agent_executions"][0]["payload"]["response"] == "A" * 300
    assert "blob_store" not in trace


def test_earlier_outputs_are_kept_only_when_asked_for() -> None:
    assert all("previous_outputs" not in event for event in made()["events"])
    trace = made(keep_previous=True)
    seen = [list(event["previous_outputs"]) for event in trace["events"]]
    assert seen == [
        [],
        ["ask"],
        ["ask"],
        ["ask"],
        ["ask", "again"],
        ["ask", "again", "recall"],
        ["ask", "again", "recall"],
    ]
    one: Any = resolve(trace, trace["events"][1]["previous_outputs"]["ask"])
    assert one["response"] == "A" * 300
    names = {event["previous_outputs"]["ask"]["ref"] for event in trace["events"][1:]}
    assert len(names) == 1  # written once
    assert trace["_metadata"]["stats"]["characters_saved"] > 300 * 4


def test_long_values_are_kept_once_and_short_ones_where_they_are() -> None:
    blobs = Blobs()
    assert blobs.put({"a": "b"}) == {"a": "b"}
    first, second = blobs.put({"b": "x" * 300, "a": 1}), blobs.put({"a": 1, "b": "x" * 300})
    assert first["ref"] == second["ref"]  # type: ignore[index,call-overload]
    assert len(blobs.kept) == 1
    assert blobs.put("\ud800" * 300)["_type"] == "blob_reference"  # type: ignore[index,call-overload]


def test_a_trace_holds_no_secrets() -> None:
    key = "sk-live-0123456789abcdefghij"
    visits = [
        visit("ask", {"response": f"you sent {key}", "api_key": "other-secret"}, prompt=f"use {key}"),
        visit("recall", None, status=Status.ERROR, error=Failure(kind="X", message=f"Authorization: Bearer {key}")),
    ]
    run = result(visits, output=key, error=Failure(kind="X", message=key))
    text = json.dumps(make_trace(run, TraceFacts(graph=GRAPH, at_ms=0, input={"password": "hunter22", "x": key})))
    for secret in (key, "other-secret", "hunter22"):
        assert secret not in text
    assert "you sent ***" in text


def test_what_is_written_is_json_with_an_event_a_line() -> None:
    trace = made()
    text = b"".join(chunks_of(trace))
    assert json.loads(text) == trace
    assert sum(line.startswith(b'{"agent_id"') for line in text.splitlines()) == 7
    assert json.loads(b"".join(chunks_of({"events": [], "blob_store": {}, "a": "\ud800"}))) == {
        "events": [],
        "blob_store": {},
        "a": "\ud800",
    }


def test_nodes_are_found_by_the_paths_of_their_visits() -> None:
    def prompt(path: str, node_id: str) -> Any:
        return getattr(node_at(GRAPH, Path(path), NodeId(node_id)), "prompt", None)

    assert prompt("ask", "ask") == "{{ input }} and {{ nope }}"
    assert prompt("again[3]/ask#2", "ask") == "{% if true %}inner{% endif %}"
    assert prompt("pick.0/child", "child") == "{{ a }}{{ b }}{{ c }}"
    assert node_at(GRAPH, Path("gone/x"), NodeId("x")) is None
