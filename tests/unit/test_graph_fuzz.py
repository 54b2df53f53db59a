"""Whatever stands in a file, the checker answers with a report, soon, and never with another exception."""

# ruff: noqa: E501  (what is fuzzed is easier to see in lines)

import json
import os
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orka.agents.registry import Registry
from orka.graph.codec import decode_graph, encode_graph
from orka.graph.load import Report, check_graph
from orka.template.environment import Environment

SPECS = Registry().specs()
COMPILE = Environment().compile
CONFIGS = [file.read_text(encoding="utf-8") for file in sorted((Path(__file__).parents[2] / "configs").glob("*.yml"))]
EVERYTHING = r"""
orchestrator: {id: g, agents: [f, j, r, l, m, o, {id: inline, type: echo}], retry: {attempts: 2, on: [X]}, timeout: 3}
agents:
  - &base {id: a, type: template, prompt: "{{ previous_outputs.f }} {{ input | upper }}", depends_on: [f]}
  - {<<: *base, id: b, params: {retry: 3, is_terminal: yes}}
  - {id: f, type: fork, targets: [a, [b, [c, [a, b]]]], mode: sequential, max_concurrency: 2}
  - {id: j, type: join, group: f, mode: quorum, min_success: 1, timeout: 3, on_failure: fail}
  - {id: r, type: router, decision_key: a, routing_map: {yes: [b], other: c, default: []}, fallback_route: [a]}
  - id: l
    type: loop
    max_loops: 3
    score_extraction_config: {strategies: [{type: pattern, patterns: ['S:\s*(\d)']}, {type: agent_key, agents: [x]}]}
    past_loops_metadata: {advice: "{{ score }}"}
    cognitive_extraction: {extract_patterns: {insights: ['(.+)']}}
    internal_workflow:
      orchestrator: {agents: [x, a, inner]}
      agents:
        - id: x
          type: echo
          value: {deep: [1, 2.5, null, "text"]}
        - {id: inner, type: loop, internal_workflow: {orchestrator: {agents: [x]}}}
  - {id: m, type: map, map: {items: "{{ input.list }}", as: thing, agents: [a, b]}}
  - {id: o, type: failover, children: [a, {id: z, type: failing}, {id: y, type: fork, targets: [c]}]}
  - id: c
    type: classify
    labels: {one: [first, second], two: third}
    prompt: |
      {% for k, v in input.items() %}{{ k }}: {{ v }}
      {% endfor %}
"""
VALID = [*CONFIGS, EVERYTHING]
EXAMPLES = int(os.environ.get("ORKA_TEST_EXAMPLES", "150"))
BOUNDED = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
WEIRD = [
    "", "\x00", "\x07", "\ufeff", "\u2028", "\r", "\t", "%", "@", "`", "&a", "*a", "<<: *base", "!!python/name:os.system x",
    "!!set {a}", "? ", "- ", ": ", "---\n", "...\n", "|", ">", "{{", "}}", "{%", "{% raw %}", "{#", "[", "]", "{", "}", "'", '"',
    "~", "yes", "0x", "1_", "1:2:3", ".inf", "-.inf", ".nan", "1e999", "9" * 50, "2024-13-45", "=", "null", "[]", "{}", "a: b: c",
    "id: a", "type: loop", "agents:", "params: {id: b}", "((((", "\\", "router", "fork", "l", "f", "o",
]  # fmt: skip


def answer(text: str | bytes) -> Report:
    began = time.perf_counter()
    report = check_graph(text, source="f.yml", specs=SPECS, compile_template=COMPILE)
    assert time.perf_counter() - began < 2
    assert (report.graph is None) == any(fault.severity == "error" for fault in report.faults)
    for fault in report.faults:
        assert fault.message
        assert len(fault.render()) < 2_000
        fault.render().encode("utf-8", "backslashreplace")
    if report.graph is not None:
        assert decode_graph(encode_graph(report.graph)).digest == report.graph.digest
    return report


def test_the_file_with_every_construct_is_valid() -> None:
    assert [fault.render() for fault in answer(EVERYTHING).faults if fault.severity == "error"] == []


@BOUNDED
@given(st.text())
@example("\ud800")
@example("\x00")
def test_fuzz_any_text(text: str) -> None:
    answer(text)


@BOUNDED
@given(st.binary())
def test_fuzz_any_bytes(data: bytes) -> None:
    answer(data)


@BOUNDED
@given(
    st.lists(
        st.sampled_from([*WEIRD, "\n", "\n  ", " ", "a", "orchestrator: ", "agents: ", "id: ", "type: ", ", "]),
        max_size=40,
    )
)
def test_fuzz_yaml_tokens(tokens: list[str]) -> None:
    answer("".join(tokens))


def edited(text: str, rng: random.Random) -> str:
    """`text` with a few tokens deleted, doubled, replaced by others of the file, or by something odd."""
    tokens = TOKEN.findall(text)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(tokens))
        match rng.randrange(6):
            case 0:
                del tokens[place]
            case 1:
                tokens.insert(place, tokens[place])
            case 2:
                tokens[place] = rng.choice(tokens)
            case 3:
                tokens[place] = rng.choice(WEIRD)
            case 4:
                end = min(len(tokens), place + rng.randint(1, 30))
                tokens[place:end] = tokens[place:end] * 2
            case _:
                other = rng.randrange(len(tokens))
                tokens[place], tokens[other] = tokens[other], tokens[place]
        if not tokens:
            break
    return "".join(tokens)


@BOUNDED
@given(st.sampled_from(VALID), st.integers(0, 2**32))
def test_fuzz_edits_of_valid_files(text: str, seed: int) -> None:
    answer(edited(text, random.Random(seed)))


KEYS = [
    "prompt", "params", "depends_on", "timeout", "retry", "on_error", "is_terminal", "max_concurrency", "queue",
    "decision_key", "routing_map", "fallback_route", "targets", "mode", "group", "min_success", "on_failure", "children",
    "internal_workflow", "max_loops", "score_threshold", "score_extraction_config", "score_extraction_pattern", "scoring",
    "high_priority_agents", "past_loops_metadata", "cognitive_extraction", "map", "items", "as", "agents", "labels", "value",
]  # fmt: skip
TYPES = [
    "router",
    "fork",
    "join",
    "failover",
    "loop",
    "map",
    "echo",
    "template",
    "classify",
    "failing",
    "function",
    "memory",
]
NAMES = "abcdef"


def any_value(rng: random.Random, depth: int = 0) -> object:
    match rng.randrange(9 if depth < 4 else 6):
        case 0:
            return rng.choice([None, True, False, 0, -1, 3, 0.5, 1e300, 2**70])
        case 1 | 2 | 3:
            return rng.choice(NAMES)
        case 4 | 5:
            return rng.choice(WEIRD)
        case 6 | 7:
            return [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice([*NAMES, *KEYS]): any_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def any_names(rng: random.Random) -> list[object]:
    return [rng.choice(NAMES) if rng.random() < 0.8 else any_names(rng) for _ in range(rng.randrange(4))]


def any_entry(rng: random.Random, depth: int = 0, name: str = "") -> dict[str, object]:
    kind = rng.choice(TYPES) if rng.random() < 0.5 else "echo"
    entry: dict[str, object] = {"id": name or rng.choice(NAMES), "type": kind}
    match kind:
        case "fork":
            entry["targets"] = any_names(rng)
        case "map":
            entry |= {"items": "input", "agents": any_names(rng)}
        case "router":
            entry |= {
                "decision_key": rng.choice(NAMES),
                "routing_map": {"yes": any_names(rng), "no": rng.choice(NAMES)},
            }
        case "loop" if depth < 3:
            entry["internal_workflow"] = any_file(rng, depth + 1)
        case "failover" if depth < 3:
            entry["children"] = [
                any_entry(rng, depth + 1) if rng.random() < 0.5 else rng.choice(NAMES)
                for _ in range(rng.randrange(1, 4))
            ]
        case _:
            pass
    if rng.random() < 0.1:
        entry["depends_on"] = rng.choice(NAMES)
    if rng.random() < 0.05:
        entry[rng.choice(KEYS)] = any_value(rng)
    return entry


def any_file(rng: random.Random, depth: int = 0) -> dict[str, object]:
    listed = [
        rng.choice(NAMES) if rng.random() < 0.9 else any_entry(rng, depth + 1) for _ in range(rng.randrange(1, 5))
    ]
    entries = [any_entry(rng, depth, name) for name in NAMES if rng.random() < 0.95]
    return {"orchestrator": {"agents": listed}, "agents": entries}


@BOUNDED
@given(st.integers(0, 2**32))
def test_fuzz_files_of_the_right_shape(seed: int) -> None:
    answer(json.dumps(any_file(random.Random(seed))))


def test_fuzz_shapes_are_sometimes_valid() -> None:
    reports = [answer(json.dumps(any_file(random.Random(seed)))) for seed in range(400)]
    assert sum(report.graph is not None for report in reports) > 10


@pytest.mark.parametrize(
    "prompt",
    [
        "x" * 1_000_000,
        "{{ a }}" * 100_000,
        "{% if a %}" * 50_000,
        "{{ " + "(" * 100_000,
        "{{ a" + ".a" * 100_000 + " }}",
        "{" * 500_000,
    ],
    ids=["text", "tags", "blocks", "brackets", "attributes", "braces"],
)
def test_fuzz_megabyte_prompts(prompt: str) -> None:
    answer(f"orchestrator: {{agents: [a]}}\nagents:\n  - id: a\n    type: template\n    prompt: '{prompt}'\n")


@pytest.mark.parametrize("where", ["id", "type", "depends_on", "queue", "timeout", "on_error", "zzz"])
def test_fuzz_megabyte_values(where: str) -> None:
    answer(
        f"orchestrator: {{agents: [a]}}\nagents:\n  - {{id: a, type: echo}}\n  - {{id: b, type: echo, {where}: {'y' * 1_000_000}}}\n"
    )
    answer(
        f"orchestrator: {{agents: [a], {'k' * 1000}: 1}}\nagents:\n  - {{id: a, type: echo, {where}: [{'[' * 150}{']' * 150}]}}\n"
    )


def test_fuzz_deep_bodies() -> None:
    text = "{id: x, type: echo}"
    for depth in range(40):
        text = (
            f"{{id: l{depth}, type: loop, internal_workflow: "
            f"{{orchestrator: {{agents: [{re.split('[ ,]+', text)[1]}]}}, agents: [{text}]}}}}"
        )
    report = answer(f"orchestrator: {{agents: [l39]}}\nagents: [{text}]")
    assert report.graph is not None
    assert len(list(report.graph.nodes())) == 41
