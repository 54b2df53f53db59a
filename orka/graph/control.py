"""Control nodes of a file except loops: one function per kind, from its mapping to a `Definition`.

Names are not looked up here.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable

from orka.graph.entry import Entry, define, ids_of, policy_of, settle_entry
from orka.graph.fields import entry_at, merged, without
from orka.graph.loops import read_loop
from orka.graph.models import FailoverKeys, ForkKeys, JoinKeys, MapKeys, PathExecutorKeys, RouterKeys
from orka.graph.nodes import DEFAULT_POLICY, FailoverNode, ForkNode, JoinNode, MapNode, PathNode, RouterNode
from orka.graph.outline import Definition, Mention, Text
from orka.graph.tree import ListTree, MapTree, Scalar, Tree, kind_of, plain
from orka.types import Json, NodeId


def read_router(entry: Entry) -> Definition:
    keys = settle_entry(entry, RouterKeys)
    routes: list[tuple[str | bool, tuple[NodeId, ...]]] = []
    mentions: list[Mention] = []
    fallback: tuple[NodeId, ...] | None = None
    table = entry.table.value("routing_map")
    for route in table.entries if isinstance(table, MapTree) else ():
        named = entry.names(route.value, "routing_map")
        mentions += named
        if route.key.text == "default":
            fallback = ids_of(named)
        else:
            value = route.key.value
            routes.append((value if isinstance(value, bool) else route.key.text, ids_of(named)))
    if entry.table.value("fallback_route") is not None:
        named = entry.names(entry.table.value("fallback_route"), "fallback_route")
        mentions += named
        fallback = ids_of(named)
    if keys is None:
        return define(entry, None, mentions=tuple(mentions))
    node = RouterNode(
        id=entry.id,
        decision_key=keys.decision_key.strip(),
        routes=tuple(routes),
        fallback=fallback,
        policy=policy_of(keys, DEFAULT_POLICY),
        line=entry.at.line,
    )
    return define(entry, node, mentions=tuple(mentions))


def read_fork(entry: Entry) -> Definition:
    keys = settle_entry(entry, ForkKeys)
    targets = entry.table.value("targets")
    if not isinstance(targets, ListTree):
        return define(entry, None)
    branches, mentions = _read_branches(entry, targets, entry.id)
    if keys is None:
        return define(entry, None, mentions=mentions)
    node = ForkNode(
        id=entry.id,
        branches=branches,
        mode=keys.mode,
        max_concurrency=keys.max_concurrency,
        runs_on=keys.runs_on,
        policy=policy_of(keys, DEFAULT_POLICY),
        line=entry.at.line,
    )
    return define(entry, node, mentions=mentions)


def _read_branches(
    entry: Entry, targets: ListTree, fork: NodeId
) -> tuple[tuple[tuple[NodeId, ...], ...], tuple[Mention, ...]]:
    """The branches of a list of targets. A list inside a branch becomes a fork of its own in the same scope."""
    branches: list[tuple[NodeId, ...]] = []
    mentions: list[Mention] = []
    for number, target in enumerate(targets.items):
        branch: list[Mention] = []
        for index, item in enumerate(target.items if isinstance(target, ListTree) else (target,)):
            if isinstance(item, ListTree):
                branch.append(_nested_fork(entry, item, NodeId(f"{fork}.{number}.{index}")))
            else:
                branch += entry.name(item, "targets")
        if isinstance(target, ListTree) and not target.items:
            entry.error(f"branch {number + 1} of {entry.owner} is empty", target.at, key="targets")
        branches.append(ids_of(branch))
        mentions += branch
    _warn_shared(entry, targets, branches)
    return tuple(branches), tuple(mentions)


def _nested_fork(entry: Entry, targets: ListTree, made_id: NodeId) -> Mention:
    branches, mentions = _read_branches(entry, targets, made_id)
    if not targets.items:
        entry.error(f"a nested fork of {entry.owner} is empty", targets.at, key="targets")
    node = ForkNode(id=made_id, branches=branches, awaited=True, line=targets.at.line)
    entry.area.definitions[made_id] = Definition(
        id=made_id, type="fork", at=targets.at, node=node, mentions=mentions, made=True
    )
    return Mention(owner=entry.id, key="targets", name=made_id, at=targets.at)


def _warn_shared(entry: Entry, targets: ListTree, branches: Iterable[tuple[NodeId, ...]]) -> None:
    counts = Counter(name for branch in branches for name in set(branch))
    for name in sorted(name for name, count in counts.items() if count > 1):
        entry.warning(
            f"{name!r} is in {counts[name]} branches of {entry.owner}",
            targets.at,
            hint="a join keeps the output of the last one",
            key="targets",
        )


def read_join(entry: Entry) -> Definition:
    keys = settle_entry(entry, JoinKeys)
    group = entry.names(entry.table.value("group"), "group")
    if keys is None:
        definition = define(entry, None)
        definition.group = group[0] if group else None
        return definition
    if len(group) > 1:
        entry.error(f"'group' of {entry.owner} names {len(group)} forks", group[1].at, hint="a join waits for one fork")
    if keys.mode == "quorum" and keys.min_success is None:
        entry.error(f"{entry.owner} has mode quorum but no 'min_success'", entry_at(entry.table, "mode"), key="mode")
    if keys.mode != "quorum" and keys.min_success is not None:
        entry.warning(
            f"'min_success' of {entry.owner} has no effect",
            entry_at(entry.table, "min_success"),
            hint="it belongs to mode: quorum",
            key="min_success",
        )
    node = JoinNode(
        id=entry.id,
        group=group[0].name if group else NodeId(""),
        mode=keys.mode,
        min_success=keys.min_success if keys.mode == "quorum" else None,
        on_failure=keys.on_failure,
        policy=policy_of(keys, DEFAULT_POLICY),
        line=entry.at.line,
    )
    definition = define(entry, node)
    definition.group = group[0] if group else None
    return definition


def read_failover(entry: Entry) -> Definition:
    keys = settle_entry(entry, FailoverKeys)
    tree = entry.table.value("children")
    if not isinstance(tree, ListTree):
        return define(entry, None)
    children: list[Definition | Mention] = []
    seen: set[NodeId] = set()
    for item in tree.items:
        child: Definition | Mention | None
        if isinstance(item, MapTree):
            child = entry.parse_node(item, entry.area, entry.defaults)
        else:
            child = next(iter(entry.name(item, "children")), None)
        if child is None:
            continue
        name = child.id if isinstance(child, Definition) else child.name
        if name in seen:
            entry.error(f"{entry.owner} has two children {name!r}", child.at, key="children")
        seen.add(name)
        children.append(child)
    node = None
    if keys is not None:
        node = FailoverNode(
            id=entry.id,
            children=(),
            policy=policy_of(keys, DEFAULT_POLICY),
            terminal=keys.is_terminal,
            line=entry.at.line,
        )
    definition = define(entry, node, mentions=tuple(child for child in children if isinstance(child, Mention)))
    definition.children = tuple(children)
    return definition


def read_map(entry: Entry) -> Definition:
    nested = entry.table.value("map")
    if nested is not None and not isinstance(nested, MapTree):
        entry.error(f"'map' of {entry.owner} must be a mapping, not {kind_of(nested)}", nested.at, key="map")
        return define(entry, None)
    if nested is not None:
        entry = dataclasses.replace(entry, table=merged(without(entry.table, ("map",)), nested))
    keys = settle_entry(entry, MapKeys)
    items = entry.table.value("items")
    tree = entry.table.value("agents")
    named = entry.names(tree, "agents")
    if tree is not None and not (tree.items if isinstance(tree, ListTree) else plain(tree)):
        entry.error(f"'agents' of {entry.owner} is empty", tree.at, key="agents")
    if items is None:
        return define(entry, None, mentions=named)
    expression = _expression(items)
    text = Text(owner=entry.id, key="items", scalar=Scalar(expression, expression, items.at), expression=True)
    if keys is None:
        return define(entry, None, mentions=named, texts=(text,))
    node = MapNode(
        id=entry.id,
        items=expression,
        name=keys.as_,
        sequence=ids_of(named),
        max_concurrency=keys.max_concurrency,
        runs_on=keys.runs_on,
        on_failure=keys.on_failure,
        policy=policy_of(keys, DEFAULT_POLICY),
        line=entry.at.line,
    )
    return define(entry, node, mentions=named, texts=(text,))


def _expression(tree: Tree) -> str:
    """Jinja's form of the list; one pair of braces around the whole is taken off."""
    if isinstance(tree, Scalar):
        text = tree.text.strip()
        inner = re.fullmatch(r"\{\{-?(.*?)-?\}\}", text, re.DOTALL)
        return (inner[1] if inner and "{{" not in inner[1] else text).strip()
    return _literal(plain(tree))


def _literal(value: Json) -> str:
    match value:
        case None:
            return "none"
        case list():
            return "[" + ", ".join(_literal(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)}: {_literal(item)}" for key, item in value.items()) + "}"
        case str():
            # `{{` inside a string would end the expression in the eyes of some lexers.
            return json.dumps(value, ensure_ascii=False).replace("{", "\\x7b").replace("}", "\\x7d")
        case _:
            return json.dumps(value)


def read_path_executor(entry: Entry) -> Definition:
    keys = settle_entry(entry, PathExecutorKeys)
    if keys is None:
        return define(entry, None)
    node = PathNode(
        id=entry.id,
        source=keys.path_source.strip(),
        on_failure=keys.on_agent_failure,
        input_source=keys.input_source.strip() if keys.input_source is not None else None,
        policy=policy_of(keys, DEFAULT_POLICY),
        terminal=keys.is_terminal,
        line=entry.at.line,
    )
    return define(entry, node)


READERS: dict[str, Callable[[Entry], Definition]] = {
    "router": read_router,
    "fork": read_fork,
    "join": read_join,
    "failover": read_failover,
    "loop": read_loop,
    "map": read_map,
    "path_executor": read_path_executor,
}
"""By kind; the same kinds as `models.KINDS`."""
