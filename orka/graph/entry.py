"""One entry of `agents:` on its way to a node, and what the readers of all kinds share. No kind's own keys here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from orka.graph.diagnostics import Findings, Mark
from orka.graph.fields import quote_hint, settle
from orka.graph.keys import ControlKeys, NodeKeys, RetryKeys
from orka.graph.models import KINDS, ScopeKeys
from orka.graph.nodes import NO_RETRY, Node, Policy, Retry
from orka.graph.outline import Area, Definition, Mention, Text
from orka.graph.spec import CheckPattern
from orka.graph.tree import ListTree, MapTree, Scalar, Tree, kind_of
from orka.types import NodeId

K = TypeVar("K", bound=ControlKeys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One mapping of `agents:` whose id and type are settled."""

    id: NodeId
    type: str
    table: MapTree
    """`params` flattened in."""
    at: Mark
    area: Area
    defaults: Policy
    findings: Findings
    resources: Collection[str]
    """Names under `limits` of the file."""
    check_pattern: CheckPattern
    """For a loop's regular expressions."""
    parse_node: Callable[[Tree, Area, Policy], Definition | None]
    """For a failover's children."""
    parse_area: Callable[[MapTree, Area, NodeId, Policy], Area]
    """For a loop's body."""

    @property
    def owner(self) -> str:
        return f"{self.type if self.type in KINDS else 'agent'} {self.id!r}"

    def error(self, message: str, at: Mark, *, hint: str | None = None, key: str | None = None) -> None:
        self.findings.error(message, at, hint=hint, agent=self.id, key=key)

    def warning(self, message: str, at: Mark, *, hint: str | None = None, key: str | None = None) -> None:
        self.findings.warning(message, at, hint=hint, agent=self.id, key=key)

    def names(self, tree: Tree | None, key: str) -> tuple[Mention, ...]:
        return read_names(tree, key, self.id, self.owner, self.findings)

    def name(self, item: Tree, key: str) -> tuple[Mention, ...]:
        return read_name(item, key, self.id, self.owner, self.findings)


def policy_of(keys: NodeKeys | ScopeKeys, defaults: Policy) -> Policy:
    """What `keys` say about time and failure; `defaults` where they say nothing."""
    retry = defaults.retry
    if isinstance(keys.retry, int):
        retry = dataclasses.replace(NO_RETRY, attempts=max(1, keys.retry))
    elif keys.retry is not None:
        retry = _retry_of(keys.retry)
    timeout = keys.timeout if keys.timeout is not None else defaults.timeout
    return Policy(timeout=timeout, retry=retry, on_error=keys.on_error or defaults.on_error)


def _retry_of(keys: RetryKeys) -> Retry:
    delay = keys.delay if keys.delay is not None else keys.backoff
    return Retry(
        attempts=max(1, keys.attempts),
        delay=NO_RETRY.delay if delay is None else delay,
        factor=keys.factor,
        max_delay=keys.max_delay,
        jitter=keys.jitter,
        on=tuple(keys.on),
    )


def read_names(tree: Tree | None, key: str, node: NodeId | None, owner: str, findings: Findings) -> tuple[Mention, ...]:
    """The ids in the value of a key: a string or a list of strings, with their places. An empty value holds none."""
    if tree is None or (isinstance(tree, Scalar) and tree.value is None):
        return ()
    items = tree.items if isinstance(tree, ListTree) else (tree,)
    return tuple(mention for item in items for mention in read_name(item, key, node, owner, findings))


def read_name(item: Tree, key: str, node: NodeId | None, owner: str, findings: Findings) -> tuple[Mention, ...]:
    """One id, or one item of a list of ids; none, with the fault reported, when it is not text."""
    if isinstance(item, Scalar) and isinstance(item.value, str):
        return (Mention(owner=node, key=key, name=NodeId(item.value.strip()), at=item.at),)
    hint = quote_hint(item) if isinstance(item, Scalar) else None
    findings.error(f"{key!r} of {owner} must hold ids, not {_item_kind(item)}", item.at, hint=hint, agent=node, key=key)
    return ()


def _item_kind(item: Tree) -> str:
    return "an empty item" if isinstance(item, Scalar) and item.value is None else kind_of(item)


def settle_entry(entry: Entry, model: type[K]) -> K | None:
    """The entry's mapping as a `model`; None, with the faults reported, when it does not fit."""
    return settle(entry.table, model, entry.findings, owner=entry.owner, agent=entry.id, at=entry.at)


def define(
    entry: Entry,
    node: Node | None,
    *,
    mentions: tuple[Mention, ...] = (),
    texts: tuple[Text, ...] = (),
) -> Definition:
    """What the kinds have in common."""
    return Definition(
        id=entry.id,
        type=entry.type,
        at=entry.at,
        node=node,
        depends_on=entry.names(entry.table.value("depends_on"), "depends_on"),
        mentions=mentions,
        texts=texts,
    )


def ids_of(mentions: Iterable[Mention]) -> tuple[NodeId, ...]:
    return tuple(mention.name for mention in mentions)
