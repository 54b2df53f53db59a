"""Agents of a file: the mapping of an entry, with the keys of its type's own model, to its `Definition`."""

from __future__ import annotations

from collections.abc import Mapping

from orka.graph.diagnostics import Mark, suggest
from orka.graph.entry import Entry, define, policy_of
from orka.graph.fields import as_options, check_keys, entry_at, keys_of, merged, settle, without
from orka.graph.fleet import rate_of
from orka.graph.keys import AgentKeys
from orka.graph.kinds import TypeName
from orka.graph.nodes import AgentNode
from orka.graph.outline import Definition, Text
from orka.graph.secrecy import refuse_secrets
from orka.graph.tree import Entry as TreeEntry
from orka.graph.tree import ListTree, MapTree, Scalar, Tree
from orka.types import Json, NodeId

_CONSUMED = frozenset(keys_of(AgentKeys)) - {"capabilities", "metadata", "description", "name"}
"""Common keys that have a field of `AgentNode`; the others become its options."""
_LABELS = frozenset({"description", "name"})
"""Common keys that are options only of types that declare them."""


def read_agent(entry: Entry, found: TypeName) -> Definition:
    """The node is missing when a key is, or is of a wrong type, and for types that are only planned."""
    table = entry.table
    common = settle(table, AgentKeys, entry.findings, owner=entry.owner, agent=entry.id, at=entry.at)
    options = _options(entry, found)
    node = None
    if common is not None and options is not None:
        node = AgentNode(
            id=entry.id,
            type=found.name,
            prompt=common.prompt,
            options=options,
            policy=policy_of(common, entry.defaults),
            max_concurrency=common.max_concurrency,
            rate_limit=rate_of(common.rate_limit),
            resource=common.resource,
            runs_on=common.runs_on,
            terminal=common.is_terminal,
            line=entry.at.line,
        )
    if node is not None and node.resource is not None and node.resource not in entry.resources:
        entry.error(
            f"{entry.owner} uses the resource {node.resource!r}, which is not defined",
            entry_at(table, "resource"),
            hint=suggest(node.resource, entry.resources) or "define it under 'limits' of 'orchestrator'",
            key="resource",
        )
    refuse_secrets(without(table, _CONSUMED), entry.owner, entry.error)
    templates = frozenset[str]() if found.spec is None else found.spec.templates
    return define(entry, node, texts=_texts(entry.id, table.value("prompt"), without(table, _CONSUMED), templates))


def _options(entry: Entry, found: TypeName) -> dict[str, Json] | None:
    """Every key that is not common to all agents, the type's own ones validated and with their defaults."""
    if found.spec is None:
        return None
    model = found.spec.options
    check_keys(entry.table, (AgentKeys, model), entry.findings, owner=entry.owner, agent=entry.id)
    _compare(entry, entry.table, found.implied)
    table = _with_implied(entry.table, found.implied, entry.at)
    labels = frozenset[str]() if model.model_config.get("extra") == "allow" else _LABELS
    kept = as_options(without(table, _CONSUMED | labels | frozenset(keys_of(model))))
    settled = settle(table, model, entry.findings, owner=f"{entry.owner} ({found.name})", agent=entry.id, at=entry.at)
    if settled is None:
        return None
    return kept | settled.model_dump(mode="json", by_alias=True)


def _compare(entry: Entry, table: MapTree, implied: Mapping[str, Json], dotted: str = "") -> None:
    """Warns where the file says something else than the spelling of the type."""
    for name, value in implied.items():
        own, path = table.value(name), f"{dotted}{name}"
        if isinstance(own, MapTree) and isinstance(value, dict):
            _compare(entry, own, value, f"{path}.")
        elif isinstance(own, Scalar) and own.value not in (None, value):
            entry.warning(
                f"{path!r} of {entry.owner} is {own.text!r}, and its type says {value!r}",
                own.at,
                hint=f"{own.text!r} counts: make both say the same",
                key=path,
            )


def _with_implied(table: MapTree, implied: Mapping[str, Json], at: Mark) -> MapTree:
    """Options that an alias of the type stands for, put in where the file says nothing."""
    for name, value in implied.items():
        tree = _tree_of(value, at)
        own = table.value(name)
        if isinstance(own, MapTree) and isinstance(tree, MapTree):
            tree = merged(own, tree)
            table = without(table, (name,))
        table = merged(table, MapTree((TreeEntry(Scalar(name, name, at), tree),), at))
    return table


def _tree_of(value: Json, at: Mark) -> Tree:
    if isinstance(value, dict):
        entries = (TreeEntry(Scalar(key, key, at), _tree_of(item, at)) for key, item in value.items())
        return MapTree(tuple(entries), at)
    if isinstance(value, list):
        return ListTree(tuple(_tree_of(item, at) for item in value), at)
    return Scalar(value, str(value), at)


def _texts(node_id: NodeId, prompt: Tree | None, options: MapTree, templates: frozenset[str]) -> tuple[Text, ...]:
    """The prompt, the options that are `templates`, and those that look like some."""
    found: list[Text] = []
    if isinstance(prompt, Scalar) and isinstance(prompt.value, str):
        found.append(Text(owner=node_id, key="prompt", scalar=prompt))
    waiting: list[tuple[str, Tree]] = [(entry.key.text, entry.value) for entry in options.entries]
    while waiting:
        key, tree = waiting.pop()
        if isinstance(tree, MapTree):
            waiting += ((key, entry.value) for entry in tree.entries)
        elif isinstance(tree, ListTree):
            waiting += ((key, item) for item in tree.items)
        elif isinstance(tree.value, str) and ("{{" in tree.text or "{%" in tree.text):
            found.append(Text(owner=node_id, key=key, scalar=tree, certain=key in templates))
    return tuple(found)
