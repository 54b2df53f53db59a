"""A graph file to nodes: what every construct of the format becomes."""

from dataclasses import dataclass
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

from orka.graph.load import check_graph
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
    Retry,
    RouterNode,
    ScoreStrategy,
    Scoring,
)
from orka.template.environment import Environment
from orka.types import NodeId

COMPILE = Environment().compile


class Strict(BaseModel):
    """Options of an agent type with two keys."""

    size: int = 3
    labels: list[str] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True)
class Spec:
    name: str
    options: type[BaseModel]
    summary: str = ""
    templates: frozenset[str] = frozenset()


SPECS = MappingProxyType(
    {
        "echo": Spec("echo", Strict),
        "say": Spec("echo", Strict),
        "any": Spec("any", Open),
        **{name: Spec(name, Open) for name in ("local_llm", "memory", "loop_validator", "graph-scout")},
    }
)


def load(text: str, warnings: int = 0) -> dict[NodeId, Node]:
    """The top nodes of a file that has no errors and exactly so many warnings."""
    report = check_graph(text, source="f.yml", specs=SPECS, compile_template=COMPILE)
    assert report.graph is not None, [fault.render() for fault in report.faults]
    assert len(report.faults) == warnings, [fault.render() for fault in report.faults]
    return dict(report.graph.scope.nodes)


def node(text: str, node_id: str = "a", listed: str = "[a]", warnings: int = 0) -> Node:
    return load(f"orchestrator: {{id: g, agents: {listed}}}\nagents:\n{text}", warnings)[NodeId(node_id)]


SAMPLE = r"""
orchestrator:
  id: demo
  strategy: sequential
  queue: orka:main
  memory_preset: episodic
  structured_output_defaults: {enabled: true, mode: prompt, coerce_types: true}
  agents: [recall, spread, gather, gate, refine, store]
agents:
  - id: recall
    type: memory
    queue: orka:notes
    namespace: notes
    config: {operation: read, limit: 3, similarity_threshold: 0.6}
    prompt: "{{ get_input() }}"
  - id: spread
    type: fork
    group: ignored
    prompt: ignored
    targets: [[pro], [con, con_short]]
  - id: pro
    type: local_llm
    model: m
    capabilities: [answer_emit]
    temperature: 0.2
    prompt: "Arguments for: {{ input }}"
  - id: con
    type: local_llm
    params: {model: m, model_url: "http://localhost:1234"}
    prompt: "Arguments against: {{ input }}"
  - id: con_short
    type: local_llm
    params: {model: m}
    prompt: "One line: {{ previous_outputs.con.response }}"
  - id: gather
    type: join
    group: spread
    prompt: ignored
    max_retries: 30
  - id: gate
    type: router
    depends_on: gather
    prompt: ignored
    params:
      decision_key: con_short
      routing_map: {"true": [warn], "false": []}
  - id: warn
    type: local_llm
    params: {model: m}
    prompt: "Warn about {{ get_agent_response('con_short') }}"
  - id: refine
    type: loop
    max_loops: 3
    score_threshold: 0.8
    fallback_score: 0.5
    timeout_score: 0.1
    persist_across_runs: true
    scoring: {preset: moderate, context: loop_convergence, custom_weights: {improvement.better_than_previous: 0.4}}
    score_extraction_config: {strategies: [{type: pattern, patterns: ['SCORE:\s*([0-9.]+)']}]}
    past_loops_metadata: {round: "{{ loop_number }}", score: "{{ score }}", mistakes: "{{ mistakes }}"}
    cognitive_extraction: {enabled: true, extract_patterns: {mistakes: ['mistake[:\s]+(.+?)(?:\n|$)']}}
    internal_workflow:
      orchestrator: {id: inner, strategy: sequential, agents: [write, judge]}
      agents:
        - id: write
          type: local_llm
          params: {model: m}
          prompt: |
            Task {{ get_input() }}, round {{ get_loop_number() }}.
            {% if has_past_loops() %}Avoid: {{ get_past_loops()[-1].mistakes }}{% endif %}
            Material: {{ previous_outputs.pro.response }}
        - id: judge
          type: loop_validator
          llm_model: m
          evaluation_target: write
  - id: store
    type: memory
    namespace: notes
    config: {operation: write, vector: true}
    metadata: {category: stored, score: "{{ previous_outputs.refine.final_score }}"}
    key_template: "demo_{{ timestamp }}"
    prompt: "{{ get_loop_output('refine').result.write.response | default('', true) }}"
meta: {version: 1}
test_inputs: [x]
"""


def test_a_file_with_every_older_construct_loads_without_a_remark() -> None:
    report = check_graph(SAMPLE, source="f.yml", specs=SPECS, compile_template=COMPILE)
    assert [fault.render() for fault in report.faults] == []
    assert report.graph is not None
    assert report.graph.scope.sequence == ("recall", "spread", "gather", "gate", "refine", "store")
    assert report.graph.id == "demo"
    assert report.graph.options == {
        "strategy": "sequential",
        "memory_preset": "episodic",
        "structured_output_defaults": {"enabled": True, "mode": "prompt", "coerce_types": True},
    }
    assert [found.id for found in report.graph.nodes()] == [
        "recall", "spread", "pro", "con", "con_short", "gather", "gate", "warn", "refine", "write", "judge", "store",
    ]  # fmt: skip


def test_params_stand_beside_the_own_keys_of_an_agent_and_own_keys_win() -> None:
    found = node("  - {id: a, type: any, size: 1, params: {size: 2, extra: [x], timeout: 5, prompt: hi}}")
    assert found == AgentNode(
        id=NodeId("a"),
        type="any",
        prompt="hi",
        options={"size": 1, "extra": ["x"]},
        policy=Policy(timeout=5.0),
        line=3,
    )


def test_options_are_validated_and_have_their_defaults_and_unknown_ones_are_kept() -> None:
    found = node("  - {id: a, type: Say, size: '4', other: {yes: 1}, queue: q, capabilities: [x]}", warnings=1)
    assert found == AgentNode(
        id=NodeId("a"),
        type="echo",
        options={"size": 4, "labels": [], "other": {"yes": 1}, "capabilities": ["x"]},
        line=3,
    )


def test_a_description_is_an_option_only_of_types_that_take_any_key() -> None:
    strict = node("  - {id: a, type: echo, description: text}")
    loose = node("  - {id: a, type: any, description: text}")
    assert isinstance(strict, AgentNode)
    assert isinstance(loose, AgentNode)
    assert strict.options == {"size": 3, "labels": []}
    assert loose.options == {"description": "text"}


def test_alias_spellings_of_types_stand_for_options_which_the_file_may_overrule() -> None:
    reader = node("  - {id: a, type: Memory_Reader, config: {limit: 2}}")
    writer = node("  - {id: a, type: ' memory-writer '}")
    odd = node("  - {id: a, type: memory-writer, config: {operation: read}}", warnings=1)
    scout = node("  - {id: a, type: graphscout}")
    assert isinstance(reader, AgentNode)
    assert isinstance(writer, AgentNode)
    assert isinstance(odd, AgentNode)
    assert isinstance(scout, AgentNode)
    assert (reader.type, reader.options) == ("memory", {"config": {"operation": "read", "limit": 2}})
    assert (writer.type, writer.options) == ("memory", {"config": {"operation": "write"}})
    assert odd.options == {"config": {"operation": "read"}}
    assert scout.type == "graph-scout"


def test_policy_keys_of_an_agent_and_the_orchestrators_defaults_for_those_that_say_nothing() -> None:
    nodes = load("""
orchestrator: {id: g, agents: [a, b, c, f], timeout: 9, retry: 2, on_error: stop, max_steps: 50, deadline: 60,
               durability: strict, strict_templates: true}
agents:
  - {id: a, type: echo}
  - {id: b, type: echo, timeout: 1.5, retry: 0, on_error: continue, max_concurrency: 4, is_terminal: yes}
  - {id: c, type: echo, retry: {attempts: 5, backoff: 0, factor: 3, max_delay: 4, jitter: 0, on: TimeoutError}}
  - {id: f, type: fork, targets: [a]}
""")
    a, b, c, f = (nodes[NodeId(name)] for name in "abcf")
    assert isinstance(b, AgentNode)
    assert a.policy == Policy(timeout=9.0, retry=Retry(attempts=2), on_error="stop")
    assert b.policy == Policy(timeout=1.5, retry=Retry(attempts=1), on_error="continue")
    assert (b.max_concurrency, b.terminal) == (4, True)
    assert c.policy.retry == Retry(attempts=5, delay=0.0, factor=3.0, max_delay=4.0, jitter=0.0, on=("TimeoutError",))
    assert f.policy == Policy()


def test_limits_of_the_whole_run() -> None:
    text = """
orchestrator: {agents: [a], max_steps: 50, deadline: 60, durability: strict, strict_templates: true}
agents: [{id: a, type: echo}]
"""
    report = check_graph(text, source="f.yml", specs=SPECS, compile_template=COMPILE)
    assert report.graph is not None
    assert report.graph.id == "graph"
    assert report.graph.limits == Limits(max_steps=50, deadline=60.0, durability="strict", strict_templates=True)


def test_an_agent_may_be_written_out_in_the_list() -> None:
    report = check_graph(
        "orchestrator: {agents: [{id: a, type: echo}, b]}\nagents: [{id: b, type: echo}]",
        source="f.yml",
        specs=SPECS,
        compile_template=COMPILE,
    )
    assert report.graph is not None
    assert report.graph.scope.sequence == ("a", "b")


def test_a_key_without_a_value_stands_for_its_default() -> None:
    empty = "max_loops: , score_threshold: , past_loops_metadata: , high_priority_agents: , persist_across_runs: , is_terminal: "
    body = "internal_workflow: {orchestrator: {agents: [w]}, agents: [{id: w, type: echo, is_terminal: }]}"
    found, plain = (node(f"  - {{id: a, type: loop, {keys}{body}}}") for keys in (f"{empty}, ", ""))
    assert found == plain


def test_branches_of_a_fork_are_ids_lists_and_nested_lists_which_become_forks() -> None:
    nodes = load("""
orchestrator: {agents: [f, j]}
agents:
  - {id: f, type: fork, targets: [a, [b], [c, [d, [e, [g, h]]], i]], mode: sequential, max_concurrency: 2}
  - {id: j, type: join, group: f}
  - {id: a, type: echo}
  - {id: b, type: echo}
  - {id: c, type: echo}
  - {id: d, type: echo}
  - {id: e, type: echo}
  - {id: g, type: echo}
  - {id: h, type: echo}
  - {id: i, type: echo}
""")
    assert nodes[NodeId("f")] == ForkNode(
        id=NodeId("f"),
        branches=(("a",), ("b",), ("c", "f.2.1", "i")),  # type: ignore[arg-type]
        mode="sequential",
        max_concurrency=2,
        line=4,
    )
    assert nodes[NodeId("f.2.1")] == ForkNode(
        id=NodeId("f.2.1"),
        branches=(("d",), ("e", "f.2.1.1.1")),  # type: ignore[arg-type]
        awaited=True,
        line=4,
    )
    assert nodes[NodeId("f.2.1.1.1")] == ForkNode(
        id=NodeId("f.2.1.1.1"),
        branches=(("g",), ("h",)),  # type: ignore[arg-type]
        awaited=True,
        line=4,
    )


def test_a_router_keeps_boolean_keys_and_knows_its_fallback() -> None:
    rest = "\n  - {id: b, type: echo}\n  - {id: c, type: echo}"
    found = node(
        "  - {id: a, type: router, decision_key: b, routing_map: {yes: [b], 'no': c, 3: [], other: , default: [c]}}"
        + rest
    )
    assert found == RouterNode(
        id=NodeId("a"),
        decision_key="b",
        routes=((True, (NodeId("b"),)), ("no", (NodeId("c"),)), ("3", ()), ("other", ())),
        fallback=(NodeId("c"),),
        line=3,
    )
    params = "params: {decision_key: b.x, routing_map: {default: c}, fallback_route: b}"
    other = node(f"  - {{id: a, type: router, {params}}}" + rest)
    assert isinstance(other, RouterNode)
    assert (other.decision_key, other.fallback) == ("b.x", ("b",))


FORK = """
  - {id: f, type: fork, targets: [x, y]}
  - {id: x, type: echo}
  - {id: y, type: echo}
"""


def test_a_join_names_its_fork_or_waits_for_the_only_one() -> None:
    named = node(
        "  - {id: a, type: join, group: [f], mode: quorum, min_success: 2, timeout: 3}" + FORK, listed="[f, a]"
    )
    only = node("  - {id: a, type: join, mode: any, on_failure: fail}" + FORK, listed="[f, a]")
    assert named == JoinNode(
        id=NodeId("a"), group=NodeId("f"), mode="quorum", min_success=2, policy=Policy(timeout=3.0), line=3
    )
    assert only == JoinNode(id=NodeId("a"), group=NodeId("f"), mode="any", on_failure="fail", line=3)


def test_children_of_a_failover_are_written_out_or_named() -> None:
    found = node(
        """
  - id: a
    type: failover
    is_terminal: true
    children: [{id: first, type: echo}, other, {id: inner, type: fork, targets: [other]}]
  - {id: other, type: any, size: 1}
"""
    )
    assert isinstance(found, FailoverNode)
    assert found.terminal
    assert [(type(child), child.id) for child in found.children] == [
        (AgentNode, "first"),
        (AgentNode, "other"),
        (ForkNode, "inner"),
    ]
    assert found.children[1] == AgentNode(id=NodeId("other"), type="any", options={"size": 1}, line=8)


def test_a_loop_has_a_body_with_definitions_of_its_own() -> None:
    found = load(SAMPLE)[NodeId("refine")]
    assert isinstance(found, LoopNode)
    assert found.body.sequence == ("write", "judge")
    assert list(found.body.nodes) == ["write", "judge"]
    assert (found.max_loops, found.score_threshold, found.fallback_score, found.timeout_score) == (3, 0.8, 0.5, 0.1)
    assert found.strategies == (ScoreStrategy(type="pattern", patterns=(r"SCORE:\s*([0-9.]+)",)),)
    assert found.past_loops_metadata == (
        ("round", "{{ loop_number }}"),
        ("score", "{{ score }}"),
        ("mistakes", "{{ mistakes }}"),
    )
    assert found.cognition == Cognition(patterns={"mistakes": (r"mistake[:\s]+(.+?)(?:\n|$)",)})
    assert found.persist
    assert found.scoring == Scoring(
        preset="moderate", context="loop_convergence", weights={"improvement.better_than_previous": 0.4}
    )
    assert (found.agreement, found.options) == (False, {})


def test_the_short_forms_of_score_extraction_become_strategies() -> None:
    body = "internal_workflow: {orchestrator: {agents: [x]}, agents: [{id: x, type: echo}]}"
    found = node(
        "  - {id: a, type: loop, score_extraction_pattern: 'S=(.)', score_extraction_key: x.score, "
        f"high_priority_agents: x, cognitive_extraction: {{enabled: no}}, {body}}}"
    )
    assert isinstance(found, LoopNode)
    assert found.strategies == (
        ScoreStrategy(type="pattern", patterns=("S=(.)",)),
        ScoreStrategy(type="direct_key", key="x.score"),
    )
    assert found.priority_agents == ("x",)
    assert found.cognition is None
    assert found.options == {}


def test_a_map_has_its_keys_directly_or_below_map() -> None:
    rest = "\n  - {id: w, type: echo}"
    direct = node("  - {id: a, type: map, items: ' {{ input.list }} ', agents: w}" + rest)
    below = node(
        "  - {id: a, type: map, map: {items: input.list, as: thing, agents: [w, w], on_failure: fail, max_concurrency: 2}}"
        + rest
    )
    literal = node("  - {id: a, type: map, items: [1, null, 'a{{b', {k: [true]}], agents: w}" + rest)
    assert direct == MapNode(id=NodeId("a"), items="input.list", name="item", sequence=(NodeId("w"),), line=3)
    assert below == MapNode(
        id=NodeId("a"),
        items="input.list",
        name="thing",
        sequence=(NodeId("w"), NodeId("w")),
        max_concurrency=2,
        on_failure="fail",
        line=3,
    )
    assert isinstance(literal, MapNode)
    assert literal.items == r'[1, none, "a\x7b\x7bb", {"k": [true]}]'


def test_depends_on_orders_the_list_and_what_is_free_keeps_its_place() -> None:
    report = check_graph(
        """
orchestrator: {agents: [d, a, b, c]}
agents:
  - {id: a, type: echo, depends_on: [c, hidden]}
  - {id: b, type: echo}
  - {id: c, type: echo, depends_on: b}
  - {id: d, type: router, decision_key: a, routing_map: {x: [hidden]}}
  - {id: hidden, type: echo, depends_on: hidden}
""",
        source="f.yml",
        specs=SPECS,
        compile_template=COMPILE,
    )
    assert report.graph is not None
    assert report.graph.scope.sequence == ("d", "b", "c", "a")
