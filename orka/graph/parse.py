"""A file's tree -> `Area`s of definitions. Structure, types and values are judged here; names are looked up later."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from orka.errors import ConfigError, TemplateError
from orka.graph.agents import read_agent
from orka.graph.control import READERS
from orka.graph.diagnostics import Findings, Mark, suggest
from orka.graph.entry import Entry, policy_of, read_name
from orka.graph.fields import as_options, check_keys, entry_at, keys_of, merged, quote_hint, settle, without
from orka.graph.fleet import names_under, read_budget, read_limits
from orka.graph.kinds import TypeName, known_types, resolve_type, spellings
from orka.graph.models import KINDS, FileKeys, OrchestratorKeys, ScopeKeys
from orka.graph.nodes import DEFAULT_POLICY, Limits, Policy
from orka.graph.outline import Area, Definition, Mention
from orka.graph.secrecy import refuse_secrets
from orka.graph.spec import AgentSpecs, CheckPattern
from orka.graph.tree import Entry as TreeEntry
from orka.graph.tree import ListTree, MapTree, Scalar, Tree, kind_of
from orka.types import Json, NodeId

_BAD_ID = re.compile(r"[^\w \-:@+]")
"""What an id may not hold. Points, slashes and brackets separate the steps of a path, commas the ids of a list."""
_EFFECTLESS: Mapping[str, frozenset[str]] = {
    "is_terminal": frozenset({"router", "fork", "join", "map"}),
    "max_concurrency": frozenset({"router", "join", "failover", "loop", "path_executor"}),
    "on_error": frozenset({"fork"}),
    "retry": frozenset(KINDS),
    "runs_on": frozenset({"router", "join", "failover", "loop", "path_executor"}),
}
"""Common keys that mean nothing to some kinds."""
_HINTS: Mapping[str, Mapping[str, str]] = {
    "retry": {
        **dict.fromkeys(("fork", "failover", "loop", "map"), "it belongs on the agents inside"),
        "join": "it belongs on the agents of its branches",
        "path_executor": "it belongs on the agents of its path",
        "router": "it belongs on the agent that it decides by; 'fallback_route' is for what fits no route",
    },
    "on_error": {"fork": "a fork itself never fails; it belongs on the agents of its branches or on the join"},
}
"""Where such a key has to go, by key and kind. What a control node comes to follows from the agents inside it."""
MAX_PATTERNS = 20_000
"""Characters of all regular expressions of a file: judging one of a thousand characters can take a second or two."""
_OF_WHOLE_RUN = frozenset(keys_of(OrchestratorKeys)) - frozenset(keys_of(ScopeKeys))
_NOT_OPTIONS = frozenset(
    {"id", "agents", "queue", "timeout", "retry", "on_error", "max_steps", "deadline", "durability", "strict_templates"}
    | {"distributed", "limits", "queues", "budget", "stream", "name", "description", "version"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a file says, before its names are looked up."""

    id: str
    limits: Limits
    options: Mapping[str, Json]
    top: Area


def parse_tree(tree: Tree, specs: AgentSpecs, findings: Findings, check_pattern: CheckPattern) -> Parsed | None:
    """The whole file; None when there is no `orchestrator` to speak of. Faults go to `findings`."""
    if not isinstance(tree, MapTree):
        findings.error(f"a graph is a mapping with 'orchestrator' and 'agents', not {kind_of(tree)}", tree.at)
        return None
    check_keys(tree, (FileKeys,), findings, owner="the file")
    settled = settle(tree, FileKeys, findings, owner="the file")
    head = tree.value("orchestrator")
    if not isinstance(head, MapTree):
        return None
    check_keys(head, (OrchestratorKeys,), findings, owner="'orchestrator'")
    keys = settle(head, OrchestratorKeys, findings, owner="'orchestrator'")
    if keys is not None and not keys.agents:
        findings.error("'orchestrator' lists no agents", entry_at(head, "agents"), key="agents")
    refuse_secrets(without(head, _NOT_OPTIONS), "'orchestrator'", findings.error)
    resources, queues = read_limits(head, keys, findings)
    budget = read_budget(head, keys, findings)
    parser = _Parser(specs, findings, check_pattern, names_under(head, "limits"))
    top = parser.area(tree, head, keys, owner=None, parent=None, defaults=DEFAULT_POLICY)
    if keys is None or settled is None:
        keys = OrchestratorKeys(agents=[])
    limits = Limits(
        max_steps=keys.max_steps,
        deadline=keys.deadline,
        durability=keys.durability,
        strict_templates=keys.strict_templates,
        distributed=keys.distributed,
        resources=resources,
        queues=queues,
        budget=budget,
        stream=keys.stream,
    )
    graph_id = "graph" if keys.id is None else str(keys.id)
    return Parsed(id=graph_id, limits=limits, options=as_options(without(head, _NOT_OPTIONS)), top=top)


class _Parser:
    """Reads areas and their entries; recursion goes down one level per loop or failover of the file."""

    def __init__(
        self, specs: AgentSpecs, findings: Findings, check_pattern: CheckPattern, resources: Collection[str]
    ) -> None:
        self._specs = specs
        self._findings = findings
        self._check_pattern = check_pattern
        self._resources = resources
        self._patterns = 0

    def area(
        self,
        table: MapTree,
        head: MapTree,
        keys: ScopeKeys | None,
        *,
        owner: NodeId | None,
        parent: Area | None,
        defaults: Policy,
    ) -> Area:
        """`table` has `agents`, `head` is its `orchestrator`, whose keys are settled (None: they have faults)."""
        area = Area(owner=owner, parent=parent, at=head.at)
        if keys is not None:
            defaults = policy_of(keys, defaults)
        agents = table.value("agents")
        area.incomplete = agents is not None and not isinstance(agents, ListTree)
        for item in agents.items if isinstance(agents, ListTree) else ():
            self._define(self.node(item, area, defaults), area)
        listed: list[Mention] = []
        names = head.value("agents")
        for item in names.items if isinstance(names, ListTree) else ():
            listed += self._listed(item, area, defaults)
        area.listed = tuple(listed)
        return area

    def _listed(self, item: Tree, area: Area, defaults: Policy) -> tuple[Mention, ...]:
        """One item of `orchestrator.agents`: an id, or an agent written out on the spot."""
        if not isinstance(item, MapTree):
            owner = "'orchestrator'" if area.owner is None else f"loop {area.owner!r}"
            return read_name(item, "agents", area.owner, owner, self._findings)
        definition = self.node(item, area, defaults)
        self._define(definition, area)
        if definition is None:
            return ()
        return (Mention(owner=None, key="agents", name=definition.id, at=definition.at),)

    def _define(self, definition: Definition | None, area: Area) -> None:
        if definition is None:
            return
        first = area.definitions.setdefault(definition.id, definition)
        if first is not definition:
            self._findings.error(
                f"id {definition.id!r} is defined twice (first on line {first.at.line})",
                definition.at,
                agent=definition.id,
                key="id",
            )

    def body(self, tree: MapTree, parent: Area, owner: NodeId, defaults: Policy) -> Area:
        """The `internal_workflow` of a loop."""
        label = f"the body of loop {owner!r}"
        check_keys(tree, (FileKeys,), self._findings, owner=label, agent=owner)
        head = tree.value("orchestrator")
        agents = tree.value("agents")
        if agents is not None and not isinstance(agents, ListTree):
            self._findings.error(f"'agents' of {label} must be a list, not {kind_of(agents)}", agents.at, agent=owner)
        if not isinstance(head, MapTree):
            problem = f"{label} has no 'orchestrator'"
            if head is not None:
                problem = f"'orchestrator' of {label} must be a mapping, not {kind_of(head)}"
            self._findings.error(problem, tree.at if head is None else head.at, agent=owner, key="orchestrator")
            head = MapTree((), tree.at)
            return self.area(tree, head, None, owner=owner, parent=parent, defaults=defaults)
        label = f"'orchestrator' of loop {owner!r}"
        for entry in head.entries:
            if entry.key.text in _OF_WHOLE_RUN:
                self._findings.warning(
                    f"{entry.key.text!r} has no effect inside a loop",
                    entry.key.at,
                    hint="it belongs to the file's own 'orchestrator'",
                    agent=owner,
                    key=entry.key.text,
                )
        check_keys(head, (OrchestratorKeys,), self._findings, owner=label, agent=owner)
        keys = settle(head, ScopeKeys, self._findings, owner=label, agent=owner)
        if keys is not None and not keys.agents:
            self._findings.error(f"{label} lists no agents", head.at, agent=owner, key="agents")
        return self.area(tree, head, keys, owner=owner, parent=parent, defaults=defaults)

    def node(self, tree: Tree, area: Area, defaults: Policy) -> Definition | None:
        """One entry of `agents:`; None when it has not even a usable id."""
        if not isinstance(tree, MapTree):
            self._findings.error(
                f"an entry of 'agents' is a mapping with 'id' and 'type', not {kind_of(tree)}", tree.at, key="agents"
            )
            return None
        node_id = self._id(tree)
        if node_id is None:
            return None
        at = entry_at(tree, "id")
        tree = merged(MapTree((TreeEntry(Scalar("id", "id", at), Scalar(node_id, node_id, at)),), tree.at), tree)
        table = self._flattened(tree, node_id)
        found = self._type(table, node_id, at)
        if found is None:
            return Definition(id=node_id, type="", at=at, node=None)
        entry = Entry(
            id=node_id,
            type=found.name,
            table=table,
            at=at,
            area=area,
            defaults=defaults,
            findings=self._findings,
            resources=self._resources,
            check_pattern=self.pattern,
            parse_node=self.node,
            parse_area=self.body,
        )
        if found.kind != "control":
            return read_agent(entry, found)
        _check_control(entry)
        return READERS[found.name](entry)

    def pattern(self, source: str, flags: int) -> None:
        """One regular expression of a loop. `TemplateError` when a run would refuse it, or there are too many."""
        self._patterns += len(source)
        if self._patterns > MAX_PATTERNS:
            raise TemplateError(f"more than {MAX_PATTERNS:,} characters of regular expressions in this file")
        self._check_pattern(source, flags)

    def _id(self, tree: MapTree) -> NodeId | None:
        value = tree.value("id")
        if value is None:
            self._findings.error("an entry of 'agents' has no 'id'", tree.at, key="id")
        elif not isinstance(value, Scalar) or not isinstance(value.value, str):
            hint = quote_hint(value) if isinstance(value, Scalar) else None
            self._findings.error(f"'id' must be text, not {kind_of(value)}", value.at, hint=hint, key="id")
            return NodeId(value.text) if isinstance(value, Scalar) and value.text else None
        elif not (name := value.value.strip()):
            self._findings.error("'id' is empty", value.at, key="id")
        else:
            if len(name) > 200:
                self._findings.error("'id' is longer than 200 characters", value.at, key="id")
            elif (bad := _BAD_ID.search(name)) is not None:
                self._findings.error(
                    f"id {name!r} holds {bad[0]!r}", value.at, hint="use letters, digits, '_', '-' and blanks", key="id"
                )
            return NodeId(name)
        return None

    def _flattened(self, tree: MapTree, node_id: NodeId) -> MapTree:
        """The mapping with its `params` beside its own keys, which win."""
        params = tree.value("params")
        if isinstance(params, MapTree):
            return merged(without(tree, ("params",)), params)
        if params is not None and not (isinstance(params, Scalar) and params.value is None):
            self._findings.error(
                f"'params' of {node_id!r} must be a mapping, not {kind_of(params)}",
                params.at,
                agent=node_id,
                key="params",
            )
        return without(tree, ("params",))

    def _type(self, table: MapTree, node_id: NodeId, at: Mark) -> TypeName | None:
        value = table.value("type")
        if value is None:
            self._findings.error(f"agent {node_id!r} has no 'type'", at, agent=node_id, key="type")
            return None
        if not isinstance(value, Scalar) or not isinstance(value.value, str):
            self._findings.error(
                f"'type' of {node_id!r} must be text, not {kind_of(value)}", value.at, agent=node_id, key="type"
            )
            return None
        try:
            found = resolve_type(value.value, self._specs)
        except ConfigError as exc:  # a plug-in that cannot be loaded
            self._findings.error(str(exc), value.at, agent=node_id, key="type")
            return None
        if found.kind == "unknown":
            self._findings.error(
                f"type {found.name[:60]!r} of agent {node_id!r} is not known",
                value.at,
                hint=suggest(found.name, known_types(self._specs))
                or suggest(found.name, spellings(self._specs))
                or f"known are: {', '.join(known_types(self._specs))}; `--import MODULE` adds those of a module",
                agent=node_id,
                key="type",
            )
        elif found.kind == "planned":
            self._findings.error(
                f"type {found.name!r} is known but this version has no agent for it yet",
                value.at,
                agent=node_id,
                key="type",
            )
        return found


def _check_control(entry: Entry) -> None:
    """Warns of keys that a control node does not know, or that mean nothing to its kind."""
    models = (KINDS[entry.type],)
    table = entry.table
    nested = table.value("map") if entry.type == "map" else None
    if isinstance(nested, MapTree):
        check_keys(nested, models, entry.findings, owner=f"'map' of {entry.owner}", agent=entry.id)
        table = without(table, ("map",))
    check_keys(table, models, entry.findings, owner=entry.owner, agent=entry.id)
    for key, kinds in _EFFECTLESS.items():
        value = table.value(key)
        given = isinstance(value, MapTree) or (isinstance(value, Scalar) and bool(value.value))
        if value is not None and entry.type in kinds and given:
            hint = _HINTS.get(key, {}).get(entry.type)
            entry.warning(f"{key!r} has no effect on {entry.owner}", value.at, hint=hint, key=key)
