"""What a file of OrKa 0.9 does otherwise is told where the file uses it, and nowhere else."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orka.graph.diagnostics import Findings
from orka.graph.differences import RULES, find_differences
from orka.graph.legacy import is_workflow, read_workflow
from orka.graph.tree import plain, read_tree


def codes(text: str) -> dict[str, list[str]]:
    """Code -> ids, of a file with this text."""
    tree = read_tree(text, Findings("f.yml", text))
    assert tree is not None
    document = plain(tree)
    assert isinstance(document, dict)
    found = find_differences(read_workflow(document))
    return {difference.code: list(difference.agents) for difference in found}


def flow(*agents: str, head: str = "agents: []") -> str:
    return "orchestrator: {" + head + "}\nagents:\n" + "".join(f"  - {{{agent}}}\n" for agent in agents)


LLM = "id: a, type: local_llm, model: m, provider: lm_studio, model_url: x"
INNER = "internal_workflow: {orchestrator: {agents: [w]}, agents: [{id: w, type: local_llm, prompt: '%s'}]}"


def test_a_plain_chain_has_none() -> None:
    assert codes(flow(f"{LLM}, prompt: 'Say {{{{ previous_outputs.b.response }}}} to {{{{ input }}}}'")) == {}


@pytest.mark.parametrize(
    ("agents", "head", "expected"),
    [
        (["id: f, type: fork, targets: [[a], [b]]"], "", {"fork-order": ["f"]}),
        (["id: f, type: fork, targets: [a]"], "", {}),
        (["id: f, type: fork, mode: sequential, targets: [[a], [b]]"], "", {}),
        (
            [
                "id: f, type: fork, targets: [[a], [b, c]]",
                "id: b, type: local_llm, prompt: '{{ previous_outputs.a.response }}'",
                "id: c, type: local_llm, prompt: '{{ previous_outputs.b.response }} about a'",
            ],
            "",
            {"fork-order": ["f"], "branch-reads": ["b"]},
        ),
        (["id: r, type: router, params: {decision_key: a, routing_map: {x: [b]}}"], "", {"router-unmatched": ["r"]}),
        (["id: r, type: router, decision_key: a, routing_map: {x: [b], default: [c]}"], "", {}),
        (
            ["id: r, type: router, params: {routing_map: {Calm: b, Yes: [c], default: []}}"],
            "",
            {"router-case": ["r"], "router-text": ["r"], "falsy": ["r"]},
        ),
        (["id: b, type: openai-binary"], "", {"falsy": ["b"], "openai-prompt": ["b"]}),
        (
            [f"{LLM}, structured_output: {{schema: {{types: {{response: boolean}}}}}}"],
            "",
            {"falsy": ["a"]},
        ),
        (
            ["id: f, type: failover, children: [{id: s, type: duckduckgo}, {id: x, type: failing}]"],
            "",
            {"failover-search": ["f"], "failing-at-once": ["x"]},
        ),
        (["id: s, type: duckduckgo, max_results: 3"], "", {"search-limits": ["s"]}),
        (["id: s, type: duckduckgo, params: {timeout: 3}"], "", {"params": ["s"], "search-limits": ["s"]}),
        ([f"id: l, type: loop, fallback_score: 0.1, {INNER}"], "", {"loop-scores": ["l"]}),
        ([f"id: l, type: loop, scoring: {{preset: moderate}}, {INNER}"], "", {"loop-scoring": ["l"]}),
        ([f"id: l, type: loop, {INNER % '{{ get_input() }}'}"], "", {"loop-input": ["w"]}),
        (
            [f"{LLM}, prompt: x", f"id: l, type: loop, {INNER % '{{ previous_outputs.a.response }}'}"],
            "",
            {"loop-outer": ["w"]},
        ),
        ([f"id: l, type: loop, {INNER}", f"{LLM}"], "agents: [a, l]", {"answer": ["l"]}),
        ([f"id: l, type: loop, {INNER}", f"{LLM}"], "agents: [l, a]", {}),
        (["id: l, type: loop", "id: m, type: memory"], "agents: [l, m]", {"answer": ["l"]}),
        (["id: p, type: path_executor, path_source: s", "id: s, type: x"], "", {"path-executor": ["p"]}),
        (
            ["id: p, type: path-executor, path_source: l.response", "id: l, type: loop"],
            "",
            {"path-of-loop": ["p"], "path-executor": ["p"]},
        ),
        (["id: g, type: graph-scout"], "", {"scout-routes": ["g"]}),
        ([f"{LLM}, is_terminal: true"], "", {"terminal": ["a"]}),
        ([f"{LLM}, prompt: 'All: {{{{ previous_outputs[\"b-1\"] }}}}'"], "", {"printed-output": ["a"]}),
        ([f"{LLM}, prompt: '{{{{ run_id }}}}'"], "", {"names": ["a"]}),
        (["id: m, type: memory, metadata: {at: '{{ now() }}'}"], "", {}),
        ([f"{LLM}, prompt: 'run_id {{{{ x | regex_search(1) }}}}'"], "", {"regex-search": ["a"]}),
        ([f"{LLM}, prompt: '{{{{ get_score_threshold() }}}}'"], "", {"loop-threshold": ["a"]}),
        (["id: m, type: memory, config: {operation: read, limit: 3}"], "", {}),
        (["id: m, type: memory, config: {similarity_threshold: 0.3}"], "", {"memory-search": ["m"]}),
        (
            ["id: m, type: memory, memory_preset: semantic"],
            "memory_preset: episodic",
            {"memory-preset": ["orchestrator", "m"]},
        ),
        ([LLM], "memory_preset: episodic", {}),
        ([LLM], "memory_config: {decay: {enabled: true}}", {}),
        (
            ["id: m, type: memory-reader"],
            "memory: {decay: {enabled: true}}",
            {"memory-config": ["orchestrator"]},
        ),
        ([f"{LLM}, prompt: '{{{{ m.similarity_score }}}}'"], "", {"memory-score": ["a"]}),
        (["id: o, type: openai_answer, params: {model: x}"], "", {"params": ["o"], "openai-prompt": ["o"]}),
        (["id: o, type: anthropic"], "", {"new-type": ["o"]}),
        (["id: r, type: rag"], "", {"real-type": ["r"]}),
        (["id: v, type: validate_and_structure, store_structure: x"], "", {"structure-stored": ["v"]}),
    ],
)
def test_each_difference_is_found_where_it_is(agents: list[str], head: str, expected: dict[str, list[str]]) -> None:
    assert codes(flow(*agents, head=head)) == expected


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({"orchestrator": {}}, True),
        ({"orchestrator": None}, False),
        ({"services": {}}, False),
        ([1], False),
        (None, False),
    ],
)
def test_a_workflow_is_known_by_its_orchestrator(document: Any, answer: bool) -> None:
    assert is_workflow(document) is answer


def test_files_with_nonsense_in_them_are_read_as_far_as_they_go() -> None:
    text = "orchestrator: {agents: [{id: x, type: failing}, 3]}\nagents: [1, {type: [loop]}, {id: 3, type: fork, targets: 7}]"
    assert codes(text) == {"failing-at-once": ["x"]}


def test_a_large_file_and_one_of_opening_marks_take_no_time() -> None:
    agents = [f"id: a{n}, type: local_llm, prompt: '{{{{ previous_outputs.a{n - 1}.response }}}}'" for n in range(3000)]
    inner = ", ".join(
        f"{{id: w{n}, type: local_llm, prompt: '{{{{ previous_outputs.a{n}.x }}}}'}}" for n in range(3000)
    )
    loop = f"id: l, type: loop, internal_workflow: {{agents: [{inner}]}}"
    began = time.perf_counter()
    found = codes(flow(*agents, loop, f"id: z, type: local_llm, prompt: '{'{{' * 200_000}'"))
    assert time.perf_counter() - began < 5
    assert {code: len(ids) for code, ids in found.items()} == {"loop-outer": 3000}


def test_codes_are_different() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES)
