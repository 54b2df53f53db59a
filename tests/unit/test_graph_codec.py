"""Graphs as JSON: nothing is lost on the way, and digests say what they should."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orka.errors import ConfigError
from orka.graph.codec import decode_graph, encode_graph, make_graph, node_digest
from orka.graph.graph import Graph
from orka.graph.nodes import (
    AgentNode,
    Cognition,
    FailoverNode,
    ForkNode,
    JoinNode,
    Limits,
    LoopNode,
    MapNode,
    Node,
    Policy,
    Rate,
    Retry,
    RouterNode,
    Scope,
    ScoreStrategy,
    Scoring,
    SharedLimit,
)
from orka.types import Json, NodeId

TEXTS = st.text(max_size=8)
IDS = st.text("abc-_1", min_size=1, max_size=4).map(NodeId)
SEQUENCES = st.lists(IDS, max_size=3).map(tuple)
NUMBERS = st.floats(0, 1e6)
JSON: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(TEXTS, JSON, max_size=3)
POLICIES = st.builds(
    Policy,
    timeout=st.none() | NUMBERS,
    retry=st.builds(Retry, attempts=st.integers(1, 9), delay=NUMBERS, on=st.lists(TEXTS, max_size=2).map(tuple)),
    on_error=st.sampled_from(["continue", "stop"]),
)
RATES = st.builds(Rate, count=st.integers(1, 9), seconds=st.integers(1, 9), burst=st.integers(1, 9))
COUNTS = st.none() | st.integers(1, 9)
STRATEGIES = st.builds(
    ScoreStrategy,
    type=st.sampled_from(["direct_key", "pattern", "agent_key"]),
    key=st.none() | TEXTS,
    patterns=st.lists(TEXTS, max_size=2).map(tuple),
    agents=SEQUENCES,
)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple)
LEAVES: st.SearchStrategy[Node] = st.one_of(
    st.builds(
        AgentNode,
        id=IDS,
        type=TEXTS,
        prompt=st.none() | TEXTS,
        options=OPTIONS,
        policy=POLICIES,
        max_concurrency=COUNTS,
        rate_limit=st.none() | RATES,
        resource=st.none() | TEXTS,
        terminal=st.booleans(),
    ),
    st.builds(
        RouterNode,
        id=IDS,
        decision_key=TEXTS,
        routes=st.lists(st.tuples(TEXTS | st.booleans(), SEQUENCES), max_size=3).map(tuple),
        fallback=st.none() | SEQUENCES,
        policy=POLICIES,
    ),
    st.builds(
        ForkNode,
        id=IDS,
        branches=st.lists(SEQUENCES, max_size=3).map(tuple),
        mode=st.sampled_from(["parallel", "sequential"]),
        max_concurrency=COUNTS,
        awaited=st.booleans(),
        policy=POLICIES,
    ),
    st.builds(
        JoinNode,
        id=IDS,
        group=IDS,
        mode=st.sampled_from(["all", "any", "quorum"]),
        min_success=COUNTS,
        on_failure=st.sampled_from(["continue", "fail"]),
        policy=POLICIES,
    ),
    st.builds(MapNode, id=IDS, items=TEXTS, name=TEXTS, sequence=SEQUENCES, max_concurrency=COUNTS, policy=POLICIES),
)


def scopes(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Scope]:
    named = st.lists(nodes, max_size=3).map(lambda found: {node.id: node for node in found})
    return st.builds(Scope, sequence=SEQUENCES, nodes=named)


NODES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            FailoverNode,
            id=IDS,
            children=st.lists(inner, max_size=3).map(tuple),
            policy=POLICIES,
            terminal=st.booleans(),
        ),
        st.builds(
            LoopNode,
            id=IDS,
            body=scopes(inner),
            max_loops=st.integers(1, 9),
            score_threshold=NUMBERS,
            strategies=st.lists(STRATEGIES, max_size=2).map(tuple),
            priority_agents=SEQUENCES,
            past_loops_metadata=PAIRS,
            cognition=st.none()
            | st.builds(
                Cognition,
                patterns=st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2).map(tuple), max_size=2),
                max_length=st.integers(1, 9),
            ),
            fallback_score=st.none() | NUMBERS,
            timeout_score=st.none() | NUMBERS,
            scoring=st.none()
            | st.builds(
                Scoring,
                preset=TEXTS,
                context=TEXTS,
                weights=st.dictionaries(TEXTS, NUMBERS, max_size=2),
            ),
            agreement=st.booleans(),
            persist=st.booleans(),
            options=OPTIONS,
            policy=POLICIES,
            terminal=st.booleans(),
        ),
    ),
    max_leaves=4,
)
SHARED = st.dictionaries(TEXTS, st.builds(SharedLimit, rate=st.none() | RATES, max_concurrency=COUNTS), max_size=2)
LIMITS = st.builds(
    Limits,
    max_steps=st.integers(1, 10**6),
    deadline=st.none() | NUMBERS,
    durability=st.sampled_from(["group", "strict"]),
    strict_templates=st.booleans(),
    resources=SHARED,
    queues=SHARED,
)
GRAPHS = st.builds(make_graph, graph_id=TEXTS, scope=scopes(NODES), limits=LIMITS, options=OPTIONS)


@settings(max_examples=60, deadline=None)
@given(GRAPHS)
def test_a_graph_survives_encoding_with_its_digest(graph: Graph) -> None:
    data = encode_graph(graph)
    assert decode_graph(data) == graph
    assert encode_graph(decode_graph(data)) == data


def small(**changes: object) -> Graph:
    node = replace(AgentNode(id=NodeId("a"), type="echo", line=7), **changes)  # type: ignore[arg-type]
    scope = Scope(sequence=(NodeId("a"),), nodes=MappingProxyType({NodeId("a"): node}))
    return make_graph("g", scope, Limits(), {}, source="f.yml")


def test_the_form_is_short_and_readable() -> None:
    assert encode_graph(small(prompt="é")).decode() == (
        '{"format":1,"id":"g","limits":{},"options":{},'
        '"scope":{"nodes":{"a":{"id":"a","kind":"agent","prompt":"é","type":"echo"}},"sequence":["a"]}}'
    )


def test_digests_ignore_lines_and_the_file_and_see_everything_else() -> None:
    graph = small()
    assert graph.digest == "4b35963f9ce1c321e2361cc5abf4f53083cc20fbc78952bc9103225665748499"
    assert small(line=8).digest == graph.digest
    assert decode_graph(encode_graph(graph), source="other.yml").digest == graph.digest
    assert small(prompt="x").digest != graph.digest
    assert small(terminal=True).digest != graph.digest


def test_every_field_of_every_kind_is_part_of_the_digest() -> None:
    other: dict[str, object] = {
        "id": "z", "type": "z", "prompt": "z", "options": {"z": 1}, "policy": Policy(timeout=1.0), "max_concurrency": 3,
        "rate_limit": Rate(count=3), "resource": "z",
        "terminal": True, "decision_key": "z", "routes": ((True, ("z",)),), "fallback": (), "branches": (("z",),),
        "mode": "any", "awaited": True, "group": "z", "min_success": 3, "on_failure": "fail",
        "children": (AgentNode(id=NodeId("z"), type="z"),),
        "body": small().scope, "max_loops": 9, "score_threshold": 0.1, "strategies": (ScoreStrategy(type="pattern"),),
        "priority_agents": ("z",), "past_loops_metadata": (("z", "z"),), "cognition": Cognition(patterns={}),
        "fallback_score": 0.1, "timeout_score": 0.1, "agreement": True, "persist": True,
        "scoring": Scoring(preset="z"), "items": "z", "name": "z", "sequence": ("z",), "runs_on": "z",
    }  # fmt: skip
    empty = Scope(sequence=(), nodes={})
    kinds: list[Node] = [
        AgentNode(id=NodeId("a"), type="t"),
        RouterNode(id=NodeId("a"), decision_key="d", routes=()),
        ForkNode(id=NodeId("a"), branches=()),
        JoinNode(id=NodeId("a"), group=NodeId("g")),
        FailoverNode(id=NodeId("a"), children=()),
        LoopNode(id=NodeId("a"), body=empty),
        MapNode(id=NodeId("a"), items="i", name="n", sequence=()),
    ]
    for node in kinds:
        for item in dataclasses.fields(node):
            changed = replace(node, **{item.name: 99 if item.name == "line" else other[item.name]})
            assert (node_digest(changed) == node_digest(node)) == (item.name == "line"), item.name


def test_a_newer_format_is_refused_with_the_reason() -> None:
    form = json.loads(encode_graph(small()))
    form["format"] = 2
    with pytest.raises(ConfigError, match=r"the graph of 'run 7' has format 2, and this version reads formats up to 1"):
        decode_graph(json.dumps(form), source="run 7")


def test_fields_of_a_later_minor_version_are_left_aside() -> None:
    form = json.loads(encode_graph(small()))
    form["scope"]["nodes"]["a"]["later"] = 1
    form["limits"]["later"] = 1
    found = decode_graph(json.dumps(form))
    assert (found.scope, found.limits) == (small(line=0).scope, Limits())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        b'{"format": 1}',
        b'{"format": "1", "id": "g", "scope": {"nodes": {}}}',
        b'{"format": 1, "id": "g", "scope": {"nodes": {"a": {"kind": "nothing"}}}}',
        b'{"format": 1, "id": "g", "scope": {"nodes": {"a": {"kind": "agent"}}}}',
        b'{"format": 1, "id": "g", "scope": {"nodes": {"a": {"kind": "agent", "id": 1, "type": "t"}}}}',
        b'{"format": 1, "id": "g", "scope": {"nodes": {"a": {"kind": "fork", "id": "a", "branches": "xy"}}}}',
        b'{"format": 1, "id": "g", "scope": {"nodes": {"a": {"kind": "loop", "id": "a"}}}}',
        b'{"format": 1, "id": "g", "scope": {"nodes": {"a": 3}, "sequence": ["a"]}}',
        b'{"format": 1, "id": "g", "limits": {"max_steps": "x"}, "scope": {"nodes": {}}}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_a_graph_is_a_config_error(data: bytes) -> None:
    with pytest.raises(ConfigError):
        decode_graph(data)


def test_decoding_needs_neither_pydantic_nor_yaml() -> None:
    code = "import orka.graph.codec, sys; print({'yaml', 'pydantic', 'jinja2'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert out == "set()\n"
