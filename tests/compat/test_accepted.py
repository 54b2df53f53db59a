"""`orka check` takes whatever the 82 known workflow files use: types, keys, templates. One small file per row of the contract."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from orka.services import check_file

TYPES = [
    "local_llm",
    "brain",
    "duckduckgo",
    "graph-scout",
    "plan_validator",
    "openai-answer",
    "openai-classification",
    "invariant_validator",
    "loop_validator",
    "failing",
    "validate_and_structure",
    "openai-binary",
    "binary",
    "classification",
    "rag",
    "openai-gpt-4",
    "anthropic",
    "memory",
    "memory-reader",
    "memory-writer",
    "graph_scout",
    "graphscout",
    "loop-validator",
    "plan-validator",
    "path-executor",
    "path_executor",
]


def braced(expression: str) -> str:
    return "{{ " + expression + " }}"


NEEDED: dict[str, dict[str, Any]] = {
    "local_llm": {"model": "m", "provider": "lm_studio", "model_url": "http://localhost:1234"},
    "brain": {"operation": "recall"},
    "loop-validator": {"llm_model": "m", "provider": "lm_studio", "model_url": "http://localhost:1234"},
    "plan-validator": {"llm_model": "m", "llm_provider": "lm_studio", "llm_url": "http://localhost:1234"},
    "path-executor": {"path_source": "spread"},
    "openai-classification": {"options": ["a", "b"]},
    "classification": {"options": ["a", "b"]},
    "graph-scout": {"params": {"k_beam": 3, "max_depth": 2}},
    "rag": {"model": "m", "provider": "lm_studio", "model_url": "http://localhost:1234"},
}
"""What the files always give."""
ALIASES = {"graphscout": "graph-scout"}

KEYS: dict[str, dict[str, Any]] = {
    "local_llm": {
        "temperature": 0.7, "max_tokens": 100, "timeout": 60, "max_concurrency": 2, "queue": "orka:q", "depends_on": ["x"],
        "capabilities": ["reasoning"], "is_terminal": True, "memory_preset": "sensory", "memory_config": {"a": 1},
        "config": {"vector": True}, "metadata": {"a": 1}, "parse_json": True,
        "structured_output": {"enabled": True, "mode": "tool_call", "schema": {"required": ["a"], "optional": {"b": "num"},
                              "types": {"a": "str"}}, "require_code_block": True, "coerce_types": True, "strict": False},
        "params": {"temperature": 0.1, "timeout": 30, "structured_output": {"enabled": True, "mode": "model_json"}},
    },
    "memory": {
        "namespace": "n", "memory_preset": "procedural", "queue": "q", "depends_on": "x", "key_template": "k_{{ timestamp }}",
        "decay": {"enabled": True, "default_short_term_hours": 1, "default_long_term_hours": 24, "check_interval_minutes": 5,
                  "memory_type_rules": {"long_term_events": ["a"], "short_term_events": ["b"]}, "default_long_term": False,
                  "importance_rules": {"base_score": 0.5, "event_type_boosts": {"a": 0.1}, "agent_type_boosts": {"b": 0.1}}},
        "metadata": {"category": "stored", "source": "{{ input }}", "timestamp": "{{ now() }}", "confidence": 0.5,
                     "query": "{{ input }}", "result": "x", "session_id": "{{ session_id }}", "round": "{{ loop_number }}"},
        "config": {
            "operation": "read", "vector": True, "similarity_threshold": 0.5, "memory_category_filter": "stored", "limit": 5,
            "force_recreate_index": True, "vector_field": "v", "temporal_weight": 0.2, "vector_params": {"M": 16},
            "metadata": {"a": "b"}, "enable_hybrid_search": True, "text_weight": 0.3, "vector_weight": 0.7,
            "enable_vector_search": True, "fallback_to_text": True, "memory_type_filter": "all", "ef_runtime": 10,
            "enable_context_search": True, "enable_temporal_ranking": True, "memory_type": "long_term",
            "vector_field_name": "v", "top_k": 3, "namespace": "n", "category": "stored", "embed_field": "x",
            "key_template": "k", "query_key": "q", "search_field": "f", "search_params": {"a": 1}, "store_metadata": True,
            "store_params": {"a": 1},
        },
    },
    "duckduckgo": {"prompt": "{{ input }}", "capabilities": ["web_search"], "queue": "orka:s", "max_results": 5,
                   "depends_on": "x", "params": {"timeout": 5}},
    "graph-scout": {
        "prompt": "Find a path", "params": {
            "k_beam": 3, "max_depth": 2, "commit_margin": 0.15, "cost_budget_tokens": 800, "latency_budget_ms": 1200,
            "score_weights": {"llm": 0.45, "heuristics": 0.2, "prior": 0.2, "cost": 0.1, "latency": 0.05, "compliance": 0.1,
                              "brain": 0.1},
            "require_terminal": True, "safety_profile": "moderate", "safety_threshold": 0.2, "max_preview_tokens": 192,
            "llm_evaluation_enabled": True, "fallback_to_heuristics": True, "evaluation_model": "local_llm",
            "evaluation_model_name": "m", "validation_model": "local_llm", "validation_model_name": "m",
            "provider": "lm_studio", "model_url": "http://localhost:1234", "scoring_mode": "boolean", "brain_assisted": True,
            "brain_boost_weight": 0.15, "optimal_path_length": [2, 3], "strict_mode": False, "require_critical": True,
            "important_threshold": 0.8, "include_nice_to_have": True, "min_success_rate": 0.7, "min_domain_overlap": 0.3,
            "max_acceptable_cost": 0.1, "max_acceptable_latency": 10000,
        },
    },
    "plan_validator": {"llm_model": "m", "llm_provider": "ollama", "llm_url": "http://localhost:11434/api/generate",
                       "temperature": 0.2, "scoring_preset": "strict", "scoring_context": "quality", "timeout": 60,
                       "custom_weights": {"completeness.has_all_required_steps": 0.5}, "prompt": "x",
                       "structured_output": {"enabled": True}},
    "loop_validator": {"llm_model": "m", "provider": "lm_studio", "model_url": "http://localhost:1234", "temperature": 0.1,
                       "scoring_preset": "moderate", "scoring_context": "quality", "evaluation_target": "x", "timeout": 60,
                       "custom_prompt": "Judge {content}", "mode": "path", "prompt": "ignored"},
    "path_executor": {"path_source": "a.response.target", "on_agent_failure": "abort", "input_source": "b.response",
                      "prompt": "ignored"},
    "brain": {"operation": "learn_path", "prompt": "{}", "params": {"timeout": 20}},
    "invariant_validator": {"prompt": "EXECUTION_DATA_JSON: {{ get_execution_artifacts(previous_outputs) | tojson }}",
                            "params": {"max_depth": 9, "strict_tool_errors": True, "allow_reentrant_nodes": ["a"],
                                       "execution_data": {"nodes_executed": []}}},
    "openai-answer": {"prompt": "x", "params": {"model": "gpt-4o", "temperature": 0.1, "structured_output": {"enabled": True}}},
    "openai-classification": {"prompt": "x", "params": {"categories": ["a", "b"], "model": "gpt-4o"}},
    "openai-gpt-4": {"params": {"model": "gpt-4", "temperature": 0, "max_tokens": 10}},
    "anthropic": {"params": {"model": "claude-3-opus", "temperature": 0, "max_tokens": 10}},
    "validate_and_structure": {"prompt": "x", "store_structure": '{"topic": ""}', "depends_on": "x"},
    "rag": {"top_k": 5, "score_threshold": 0.7, "timeout": 30, "max_concurrency": 10},
    "fork": {"targets": [["x"]], "depends_on": "x", "group": "g", "prompt": "ignored"},
    "join": {"group": "spread", "prompt": "ignored", "max_retries": 30, "depends_on": "spread"},
    "router": {"prompt": "ignored", "params": {"decision_key": "x", "routing_map": {True: ["x"], "false": "x"}}},
    "failover": {"input": "{{ input }}", "prompt": "x", "children": [{"id": "c", "type": "failing"}]},
    "loop": {
        "max_loops": 3, "score_threshold": 0.9, "fallback_score": 0.1, "timeout_score": 0.1, "persist_across_runs": True,
        "scoring": {"preset": "moderate", "custom_weights": {"improvement.better_than_previous": 0.4},
                    "context": "loop_convergence", "mode": "boolean"},
        "score_extraction_config": {"agreement_fallback": True, "strategies": [
            {"type": "direct_key", "key": "score"}, {"type": "pattern", "patterns": [r"([0-9.]+)"]},
            {"type": "agent_key", "agents": ["w"], "key": "response", "transform": "x"}]},
        "cognitive_extraction": {"enabled": True, "max_length_per_category": 300, "agent_priorities": {"w": ["insights"]},
                                 "extract_patterns": {"insights": ["a(.+)"], "improvements": ["b(.+)"], "mistakes": ["c(.+)"]}},
        "high_priority_agents": ["w"], "depends_on": "x", "prompt": "ignored", "score_extraction_pattern": "([0-9]+)",
        "score_extraction_key": "score",
        "past_loops_metadata": {name: braced(name) for name in (
            "loop_number", "score", "timestamp", "insights", "improvements", "mistakes", "reasoning_quality",
            "convergence_trend")},
        "internal_workflow": {"orchestrator": {"id": "i", "strategy": "sequential", "agents": ["w"]},
                              "agents": [{"id": "w", "type": "failing"}]},
    },
}  # fmt: skip

WITHOUT_EFFECT = {"local_llm": ("memory_preset", "memory_config", "config", "parse_json")}
"""Keys that 0.9 ignored and that could mislead: they are warned of."""

EXPRESSIONS = """
input | input.task | input.output | input.title | input.sequence | previous_outputs.x | previous_outputs.x.response
previous_outputs.x.task | previous_outputs.x.domain | previous_outputs.x.skill_name | previous_outputs.x.combined_score
previous_outputs.x.final_score | previous_outputs.x.loops_completed | previous_outputs.x.threshold_met
previous_outputs.x.skill_steps | previous_outputs.x.adaptations | previous_outputs.x.confidence
previous_outputs.x.semantic_score | previous_outputs.x.internal_reasoning | previous_outputs.x.decision
previous_outputs.x.target | previous_outputs.x.all_candidates | previous_outputs.x.result | previous_outputs.x.memories
previous_outputs.x.memory_object.confidence | previous_outputs.x.response.executed_path | previous_outputs['x'].lessons
get_input() | get_current_topic() | get_input_field(input, 'a', 'b') | get_agent_response('x') | safe_get_response('x')
safe_get_response('x.y.z', 'none', previous_outputs) | get_loop_output('x').past_loops | get_loop_output('x', previous_outputs)
get_loop_number() | has_past_loops() | get_past_loops() | get_past_loops_metadata() | get_past_insights()
get_past_loop_data('a') | get_round_info() | get_score_threshold() | get_loop_rounds() | get_final_score() | get_loop_status()
get_fork_responses('spread') | get_fork_responses() | joined_results() | get_progressive_response()
get_conservative_response() | get_realist_response() | get_purist_response() | get_collaborative_responses()
format_memory_query('a', 'b') | get_my_past_memory('a') | get_my_past_decisions('a') | get_agent_memory_context('a', 'b')
get_debate_evolution() | get_execution_artifacts(previous_outputs) | safe_get(input, 'a', 'b') | safe_str(input)
has_context('x') | truncate_text(input, 10, '.') | format_loop_metadata(get_past_loops(), 3) | to_json_string(input)
run_id | session_id | current_time | step_index | now() | agent_id | trace_id | loop_number | past_loops_metadata
formatted_prompt | orchestrator | structured_output_defaults | timestamp | score | insights
"""

FILTERED = """
input | tojson; input | truncate(length=9, suffix='.'); input | to_json_string; input | safe_get('a', 'b')
get_past_loops() | format_loop_metadata; input | default('x', true); input | length; 1.5 | round(1); input | upper; input | title
input | replace('a', 'b'); [1] | first; '1' | float; '1' | int; [1] | min; input | regex_search('a')
"""

BLOCKS = (
    "{% if previous_outputs.x is defined and previous_outputs.x is not none %}a{% elif input %}b{% else %}c{% endif %}",
    "{% set a = previous_outputs.x %}{% for k, v in a.items() %}{{ loop.index }}{{ k.lower() }}{% endfor %}",
    "{{ 'a' if input else 'b' }} {{ input.get('x') }} {{ previous_outputs.x.response.lower() == 'a' }}",
)


def checked(*agents: dict[str, Any], head: dict[str, Any] | None = None, **top: Any) -> list[str]:
    """All that `orka check` says of a file with these agents between a fork and an agent `x`."""
    base: list[dict[str, Any]] = [
        {"id": "x", "type": "failing"},
        {"id": "spread", "type": "fork", "targets": [["left"]]},
        {"id": "left", "type": "failing"},
        {"id": "a", "type": "failing"},
        {"id": "b", "type": "failing"},
    ]
    listed = [one["id"] for one in base if one["id"] != "left"] + [one["id"] for one in agents]
    document = {"orchestrator": {"id": "t", "agents": listed, **(head or {})}, "agents": base + list(agents), **top}
    report = check_file(yaml.safe_dump(document, sort_keys=False), "t.yml")
    return [fault.render() for fault in report.faults]


def needed(name: str) -> dict[str, Any]:
    dashed = name.replace("_", "-")
    return NEEDED.get(name) or NEEDED.get(ALIASES.get(dashed, dashed)) or {}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_known(name: str) -> None:
    assert checked({"id": "n", "type": name, "prompt": "x", **needed(name)}) == []


@pytest.mark.parametrize("name", KEYS)
def test_every_key_of_a_type_is_taken(name: str) -> None:
    keys = {**needed(name), **KEYS[name]}
    found = checked({"id": "n", "type": name, **keys})
    told = [
        fault for fault in found for key in WITHOUT_EFFECT.get(name, ()) if f"warning: unknown key {key!r}" in fault
    ]
    assert len(told) == len(WITHOUT_EFFECT.get(name, ()))
    assert [fault for fault in found if fault not in told] == []


@pytest.mark.parametrize(
    "expression", [part.strip() for part in EXPRESSIONS.replace("\n", "|").split("|") if part.strip()]
)
def test_every_name_that_templates_use_is_known(expression: str) -> None:
    assert checked({"id": "n", "type": "local_llm", **NEEDED["local_llm"], "prompt": braced(expression)}) == []


@pytest.mark.parametrize("text", [part.strip() for part in FILTERED.replace("\n", ";").split(";") if part.strip()])
def test_every_filter_is_known(text: str) -> None:
    assert checked({"id": "n", "type": "local_llm", **NEEDED["local_llm"], "prompt": braced(text)}) == []


@pytest.mark.parametrize("text", BLOCKS)
def test_every_block_is_taken(text: str) -> None:
    assert checked({"id": "n", "type": "local_llm", **NEEDED["local_llm"], "prompt": text}) == []


@pytest.mark.parametrize(
    "strategy", ["sequential", "parallel", "decision-tree", "dynamic", "simple", "fork_join", None]
)
def test_every_key_of_the_orchestrator_is_taken(strategy: str | None) -> None:
    vectors = {"enabled": True, "index_name": "i", "vector_dim": 384, "enable_hnsw": True, "force_recreate_index": True,
               "vector_params": {"M": 16}}  # fmt: skip
    head = {
        "strategy": strategy,
        "queue": "orka:main",
        "memory_preset": "episodic",
        "memory_config": {
            "backend": "redisstack",
            "decay": {"enabled": True},
            "vector_search": vectors,
            "vector_field": "v",
            "vector_index_name": "i",
        },
        "memory": {"config": {"redis_url": "redis://x"}, "backend": "redisstack", "enabled": True, "decay": {"enabled": True}},
        "structured_output_defaults": {"enabled": True, "mode": "auto", "coerce_types": True, "strict": False,
                                       "schema": {"required": ["a"]}, "require_code_block": False},
        "debug": {"keep_previous_outputs": True},
    }  # fmt: skip
    assert checked(head={k: v for k, v in head.items() if v is not None}) == []


def test_every_key_of_the_top_is_taken() -> None:
    top = {"meta": {"version": 1}, "test_inputs": ["a"], "name": "n", "description": "d", "llm": {}}
    assert checked(**top) == []


def test_types_may_be_written_in_other_letters() -> None:
    keys = NEEDED["local_llm"]
    assert (
        checked({"id": "n", "type": " Local_LLM ", **keys}, {"id": "m", "type": "OpenAI-Answer", "prompt": "x"}) == []
    )
