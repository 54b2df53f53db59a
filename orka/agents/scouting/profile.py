"""What a scout knows of the agents that it may choose: told from the graph alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from orka.graph.graph import Site
from orka.graph.kinds import CHOOSERS
from orka.graph.nodes import AgentNode, Node, PathNode
from orka.types import Json, NodeId

_CONTROL: Final = ("validator", "classifier", "_loop", "_router", "_fork", "_join", "path_executor", "failover")
"""Parts of ids and types that OrKa 0.9 took for the sign of control flow."""
_ANSWERS: Final = frozenset({"answer_emit", "response_generation"})
"""Capabilities of agents that write the answer."""
_BUILDER: Final = re.compile(r"response_builder|answer|final")
_LOCAL: Final = frozenset({"ollama", "lm_studio", "lmstudio"})
_READS: Final = re.compile(
    r"previous_outputs\.(\w+)|previous_outputs\[\s*['\"]([^'\"]+)['\"]\s*\]"
    r"|(?:get_agent_response|safe_get_response|get_loop_output)\(\s*['\"]([^'\"]+)['\"]"
)
_NOT_IDS: Final = frozenset({"get", "items", "keys", "values"})

Role = Literal["reader", "writer", "builder", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One agent."""

    id: NodeId
    type: str
    prompt: str = ""
    """Its template."""
    capabilities: frozenset[str] = frozenset()
    model: str = ""
    local: bool = False
    """Its model runs on this machine or beside it."""
    guarded: bool = False
    """It has a timeout."""
    retried: bool = False
    """It has more than one attempt."""
    role: Role = "other"

    @property
    def reads(self) -> frozenset[str]:
        """Ids of nodes whose outputs its prompt names."""
        found = {next(part for part in match.groups() if part) for match in _READS.finditer(self.prompt)}
        return frozenset(name.split(".")[0] for name in found if name not in _NOT_IDS)


def profiles_of(site: Site, own: NodeId, visited: Iterable[str] = ()) -> dict[NodeId, Profile]:
    """The candidates by id: agents of the graph, listed or not, that have not run yet and that do work of their own."""
    gone = {own, *visited}
    # A graph that was stored has lost the order of its definitions: what is listed comes first, the rest by name.
    names = dict.fromkeys([*site.sequence, *sorted(site.nodes)])
    found: dict[NodeId, Profile] = {}
    for name in names:
        node = site.nodes.get(name)
        if isinstance(node, AgentNode) and name not in gone and not is_control(node):
            found[name] = profile_of(node)
    return found


def is_control(node: AgentNode) -> bool:
    """Scouts, and what decides rather than does."""
    if node.type in CHOOSERS:
        return True
    words = (node.id.lower().replace("-", "_"), node.type.lower().replace("-", "_"))
    return any(part in word for word in words for part in _CONTROL)


def profile_of(node: AgentNode) -> Profile:
    options = node.options
    provider = _text(options.get("provider")).lower()
    return Profile(
        id=node.id,
        type=node.type,
        prompt=node.prompt or "",
        capabilities=frozenset(_tags(options.get("capabilities"))),
        model=_text(options.get("model")),
        local=node.type == "local_llm" or provider in _LOCAL,
        guarded=node.policy.timeout is not None,
        retried=node.policy.retry.attempts > 1,
        role=_role(node),
    )


def proposes_only(node: AgentNode, site: Site) -> bool:
    """Whether others are to run what this scout finds, so that it does not: a path executor that reads its decision or
    the loop around it, or a plan validator that stands in the same list. The key `reroute` says otherwise."""
    reroute = node.options.get("reroute")
    if isinstance(reroute, bool):
        return not reroute
    heads = {node.id, *site.loops}
    if any(isinstance(other, PathNode) and other.source.split(".")[0] in heads for other in site.nodes.values()):
        return True
    listed: list[Node | None] = [site.nodes.get(name) for name in site.sequence]
    return any(isinstance(other, AgentNode) and other.type == "plan_validator" for other in listed)


def _role(node: AgentNode) -> Role:
    if node.type == "memory":
        config = node.options.get("config")
        operation = config.get("operation") if isinstance(config, Mapping) else None
        return "writer" if operation == "write" else "reader"
    if not _ANSWERS.isdisjoint(_tags(node.options.get("capabilities"))) or _BUILDER.search(node.id.lower()):
        return "builder"
    return "other"


def _tags(value: Json) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [tag.strip().lower() for tag in found if isinstance(tag, str)]


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
