"""`Program`: a graph made ready to run. Templates compiled, agents built, digests taken; once per process and graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orka.agents.base import Agent, AgentTools, AgentType, OptionName
from orka.embedding.base import Embedder
from orka.engine.limiting import StepLimits, limits_of
from orka.engine.looping import DEFAULT_FIELDS, check_patterns
from orka.engine.texts import Tree, compile_options
from orka.errors import ConfigError, TemplateError
from orka.graph.codec import encode_graph, node_digest
from orka.graph.graph import Graph, Site
from orka.graph.nodes import (
    AgentNode,
    FailoverNode,
    ForkNode,
    JoinNode,
    LoopNode,
    MapNode,
    Node,
    PathNode,
    RouterNode,
    Scope,
)
from orka.journal.paths import escape
from orka.results import Failure
from orka.template.environment import Environment, Expression, Template
from orka.types import Digest, Json, NodeId

_EVENT_TYPES: dict[type[Node], str] = {
    RouterNode: "RouterNode",
    ForkNode: "ForkNode",
    JoinNode: "JoinNode",
    FailoverNode: "FailoverNode",
    LoopNode: "LoopNode",
    MapNode: "MapNode",
    PathNode: "PathExecutorNode",
}


@dataclass(slots=True, kw_only=True)
class Step:
    """One node, ready. Shared by all runs of the process."""

    node: Node
    digest: str
    """First 16 hex digits of the node's digest."""
    escaped: str
    """The id as paths write it."""
    event_type: str
    terminal: bool = False
    """`is_terminal`."""
    agent: Agent | None = None
    pure: bool = True
    plain: bool = False
    """See `AgentType.plain`."""
    bare: bool = False
    """See `AgentType.bare`."""
    on_failure: Callable[[Failure, int], Mapping[str, Json]] | None = None
    """See `AgentType.on_failure`."""
    trusted: bool = True
    """It may see values where they are."""
    prompt: Template | None = None
    texts: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    """Options with templates in them, compiled."""
    names: Mapping[str, OptionName] = field(default_factory=dict[str, OptionName])
    """See `AgentType.names`."""
    chooses: tuple[NodeId, ...] = ()
    """Of an agent: ids that it may choose to run next, as far as its type can tell."""
    body: Body | None = None
    """Of a loop."""
    children: tuple[Step, ...] = ()
    """Of a failover."""
    members: tuple[tuple[NodeId, ...], ...] = ()
    """Of a fork: the ids of every branch, those of nested lists of `targets` included."""
    items: Expression | None = None
    """Of a map."""
    past: tuple[tuple[str, Template], ...] = ()
    """Of a loop: (field, template) of the past-loop object."""
    embedder: Embedder | None = None
    """Of a loop with `agreement_fallback`."""
    limits: StepLimits | None = None
    """What its calls wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceFacts:
    """What a sequence may lead to."""

    needs: tuple[str, ...]
    """Types of the agents, `function:<module>` for each function, sorted. What an agent chooses by itself is not known."""
    branches: bool
    """A fork or a map may be among its visits; also where an agent may choose what runs next."""
    reads: frozenset[str] | None
    """Ids of earlier nodes whose outputs it may look at; None: any."""


@dataclass(slots=True, kw_only=True)
class Body:
    """A sequence and every step that it may name, outer ones included."""

    sequence: tuple[NodeId, ...]
    steps: Mapping[NodeId, Step]
    facts: dict[tuple[NodeId, ...], SequenceFacts] = field(default_factory=dict[tuple[NodeId, ...], SequenceFacts])
    """Of the sequences that somebody asked for: see `needs`."""


@dataclass(slots=True, kw_only=True)
class Program:
    """What the executor walks."""

    graph: Graph
    encoded: bytes
    """The graph's canonical JSON, as stored for resuming."""
    body: Body
    members: Mapping[str, tuple[str, ...]]
    """Agent ids of every fork and join, for templates."""
    forks: bool = False
    """It has nodes that open branches."""
    digests: frozenset[tuple[str, str]] = field(default=frozenset())
    """(id, digest) of every node, to tell whether a journal fits this graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What a program is built with."""

    types: Mapping[str, AgentType]
    tools: AgentTools
    environment: Environment
    lenient: bool = False
    """An agent type that this process does not have is no error until it is called: a worker is given only what it can."""


def build_program(graph: Graph, workshop: Workshop) -> Program:
    """Compiles and builds everything in `graph`. `ConfigError` for an agent type that this process does not have."""
    body = _build_body(graph.scope, {}, Site(), graph, workshop)
    return Program(
        graph=graph,
        encoded=encode_graph(graph),
        body=body,
        members=_members(graph),
        forks=any(isinstance(node, ForkNode | MapNode) for node in graph.nodes()),
        digests=frozenset((str(node.id), _short(node_digest(node))) for node in graph.nodes()),
    )


def _short(digest: Digest) -> str:
    return digest[:16]


def _build_body(scope: Scope, outer: Mapping[NodeId, Step], around: Site, graph: Graph, workshop: Workshop) -> Body:
    """`around`: where the loop stands whose body this is."""
    site = replace(around, nodes={**around.nodes, **scope.nodes}, sequence=scope.sequence)
    own = {node_id: _build_step(node, site, graph, workshop) for node_id, node in scope.nodes.items()}
    steps = {**outer, **own}
    # Bodies come last: an inner sequence may name any node around it, later ones too.
    for step in own.values():
        _finish(step, steps, site, graph, workshop)
    return Body(sequence=scope.sequence, steps=steps)


def _finish(step: Step, steps: Mapping[NodeId, Step], site: Site, graph: Graph, workshop: Workshop) -> None:
    node = step.node
    if isinstance(node, LoopNode):
        try:
            check_patterns(node)
        except TemplateError as exc:
            raise ConfigError(f"loop {node.id!r}: {exc}", line=node.line or None) from exc
        inside = replace(site, loops=(node.id, *site.loops))
        step.body = _build_body(node.body, steps, inside, graph, workshop)
        step.embedder = workshop.tools.embedder if node.agreement else None
        fields = node.past_loops_metadata or DEFAULT_FIELDS
        step.past = tuple((name, workshop.environment.compile(source)) for name, source in fields)
    elif isinstance(node, ForkNode):
        step.members = tuple(tuple(_flat(branch, lambda name: steps[name].node)) for branch in node.branches)
    elif isinstance(node, FailoverNode):
        step.children = tuple(_build_step(child, site, graph, workshop) for child in node.children)
        for child in step.children:
            _finish(child, steps, site, graph, workshop)


def _build_step(node: Node, site: Site, graph: Graph, workshop: Workshop) -> Step:
    step = Step(
        node=node,
        digest=_short(node_digest(node)),
        escaped=escape(node.id),
        event_type=_EVENT_TYPES.get(type(node), ""),
        terminal=isinstance(node, AgentNode | FailoverNode | LoopNode | PathNode) and node.terminal,
    )
    if isinstance(node, AgentNode):
        agent_type = workshop.types.get(node.type)
        if agent_type is None and workshop.lenient:
            return step
        if agent_type is None:
            raise ConfigError(
                f"agent {node.id!r} is of type {node.type!r}, which this process does not have:"
                " import the module that registers it, or install the package that provides it"
            )
        step.event_type = agent_type.event_type if agent_type.event_type_of is None else agent_type.event_type_of(node)
        step.agent = agent_type.build(node, replace(workshop.tools, graph=graph.options, site=site))
        step.pure = agent_type.is_pure(node)
        step.plain = agent_type.plain
        step.chooses = () if agent_type.may_choose is None else agent_type.may_choose(node, site)
        step.trusted = agent_type.trusted
        step.bare = agent_type.bare
        step.on_failure = agent_type.on_failure
        source = node.prompt if node.prompt is not None else agent_type.prompt_default
        step.prompt = workshop.environment.compile(source) if source is not None else None
        step.texts = compile_options(node.options, agent_type.templates, workshop.environment)
        step.names = agent_type.names
        step.limits = limits_of(graph, node)
    elif isinstance(node, MapNode):
        step.items = workshop.environment.compile_expression(node.items)
    return step


def _members(graph: Graph) -> dict[str, tuple[str, ...]]:
    members: dict[str, tuple[str, ...]] = {}
    joins: list[JoinNode] = []
    nodes = {node.id: node for node in graph.nodes()}
    for node in graph.nodes():
        if isinstance(node, ForkNode):
            members[node.id] = tuple(member for branch in node.branches for member in _flat(branch, nodes.__getitem__))
        elif isinstance(node, JoinNode):
            joins.append(node)
    for join in joins:
        members.setdefault(join.id, members.get(join.group, ()))
    return members


def _flat(branch: Sequence[NodeId], find: Callable[[NodeId], Node]) -> Iterator[NodeId]:
    """The ids that a file names in a branch. The fork that a nested list became has none of its own."""
    for node_id in branch:
        node = find(node_id)
        if isinstance(node, ForkNode) and node.awaited:
            for inner in node.branches:
                yield from _flat(inner, find)
        else:
            yield node_id
