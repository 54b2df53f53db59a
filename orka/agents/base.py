"""What an agent is: one method, given an `AgentInput`, giving an `AgentOutput`. No agent lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec
from pydantic import BaseModel

from orka.embedding.base import Embedder
from orka.graph.graph import Site
from orka.graph.nodes import NO_OPTIONS, AgentNode
from orka.llm.base import LLMAccess
from orka.memory.decay import DecayLayer
from orka.results import Failure, Usage
from orka.search.base import SearchAccess
from orka.settings import Settings
from orka.types import Json, NodeId, Path, RunId

if TYPE_CHECKING:  # they bring libraries along that most commands do not need, or build upon this module
    from orka.agents.tooling.servers import Servers
    from orka.agents.tooling.toolbox import Toolbox
    from orka.brain.brain import Brain
    from orka.memory.memory import Memory


class LoopView(msgspec.Struct, frozen=True, kw_only=True):
    """What templates and agents inside a loop see of it."""

    number: int
    """Of the round, from 1."""
    past: list[Json]
    """Past-loop objects, oldest first."""
    metadata: Mapping[str, Json]
    """`past_loops_metadata`: what is handed from round to round."""
    threshold: float
    """Score that ends the loop."""
    scoring: str = ""
    """Context of its boolean scoring; empty: it has none."""


class AgentInput(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt of one visit is given. (A struct because every step makes one: see `NodeResult`.)"""

    run_id: RunId
    path: Path
    node_id: NodeId
    attempt: int
    """Counts from 1, over crashes too."""
    input: Json
    """The run's input."""
    prompt: str | None
    """The node's prompt, rendered; None when the file gives none."""
    outputs: Mapping[str, Json]
    """Earlier outputs that this visit can see, by node id. This mapping is read only; its values, like those of the other
    fields, are the agent's own."""
    options: Mapping[str, Json] = NO_OPTIONS
    """The node's other keys, as validated at load; the `templates` of its type rendered."""
    variables: Mapping[str, Json] = NO_OPTIONS
    """`item` and `index` inside a map, and the like."""
    loop: LoopView | None = None
    """The enclosing loop, if there is one."""
    now_ms: int = 0
    """The visit's time, the same on every attempt and after every resume."""
    session: str = ""
    """The session that the run was given; empty when it was given none (templates then read the run's id)."""
    emit: Callable[[str], None] | None = None
    """Call it with every piece of the answer as it comes, and watchers of the run see it as a `node.token` event; what was
    emitted is no part of the result. None when nobody watches: the answer need not come in pieces."""

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt and after every resume: hand it to the far side of a side effect."""
        return f"{self.run_id}:{self.path}"

    @property
    def text(self) -> str:
        """The rendered prompt, else the input as templates print it (its `input` key when it is a mapping that has one)."""
        if self.prompt is not None:
            return self.prompt
        value = self.input
        if isinstance(value, dict) and "input" in value:
            value = value["input"]
        if isinstance(value, dict | list):
            return msgspec.json.encode(value).decode()
        return value if isinstance(value, str) else str(value)


class AgentOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent gives. Everything in it must be JSON."""

    response: Json
    """The answer proper."""
    fields: Mapping[str, Json] = NO_OPTIONS
    """Further keys of the result, beside `response`."""
    usage: Usage | None = None
    next: tuple[NodeId, ...] | None = None
    """Ids to run now, before the rest of the sequence: how an agent routes."""
    once: bool = False
    """Those of `next` that wait in the sequence as well are not visited there again: they run now instead."""


class Agent(Protocol):
    """An open set: anything with this method, named in the registry."""

    async def run(self, task: AgentInput, /) -> AgentOutput: ...


class MemoryAccess(Protocol):
    """The memories of this process, opened when the first agent needs them."""

    async def opened(self) -> Memory:
        """Errors as `orka.memory.memory.open_memory`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTools:
    """What agents may be built from. Made once per process by `orka.services`."""

    embedder: Embedder
    memory: MemoryAccess | None = None
    brain: Brain | None = None
    """What runs have learned. It opens itself when the first agent needs it, and is closed with the process."""
    decay: DecayLayer = field(default_factory=DecayLayer)
    """What the environment says of how long memories live."""
    graph: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    """Keys of the graph's `orchestrator:` that the interpreter itself does not use."""
    site: Site = field(default_factory=Site)
    """The other nodes of the graph, as the node that is built may name them."""
    llm: LLMAccess | None = None
    """The models of this process."""
    search: SearchAccess | None = None
    """The search engines of this process."""
    settings: Settings = field(default_factory=Settings)
    """What the environment says of models."""
    scripted: bool = False
    """No question leaves this process (a dry run, a test): missing keys and addresses are no error."""
    allow_functions: bool | frozenset[str] = False
    """True, or what graphs may call here: modules (and their submodules) of functions, and `mcp:COMMAND` for a command that
    may be started as a tool server."""
    toolbox: Toolbox | None = None
    """Tools by name; None: those of this process."""
    servers: Servers | None = None
    """MCP servers that tools come from."""
    rehearsal: bool = False
    """A dry run: no tool is imported, started or called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionName:
    """A name whose value is the text of an option."""

    places: tuple[tuple[str, ...], ...]
    """Keys that lead to it; the first place that has a text counts."""
    default: str
    """Where none has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentType:
    """One entry of the registry, as data: enough to check a file without building anything."""

    name: str
    event_type: str
    """Class name shown by log entries."""
    event_type_of: Callable[[AgentNode], str] | None = None
    """Where that depends on the node."""
    options: type[BaseModel]
    """Model of the keys that files may give, beside the common ones; its field descriptions are the reference."""
    build: Callable[[AgentNode, AgentTools], Agent]
    pure: bool = False
    """True when running it twice is harmless and its value depends on nothing but its input: no barrier before it.
    Where the options have a boolean field `pure`, the file may say so for one node: ask `is_pure`."""
    plain: bool = False
    """It looks at nothing but its prompt, its options and the run's input, and never chooses what runs next. What a branch
    takes to another process can then be told from the templates."""
    trusted: bool = False
    """Its agents change nothing that they are given and keep nothing that they give, so that neither need be copied."""
    bare: bool = False
    """Templates and logs see the response itself, a list say, in place of the whole result with its other fields."""
    on_failure: Callable[[Failure, int], Mapping[str, Json]] | None = None
    """The output (`response` and further keys) of a visit that failed without giving one itself, made of its error and
    the visit's time (milliseconds since the epoch). Pure. None: only the error is seen."""
    templates: frozenset[str] = frozenset()
    """Options whose texts are templates, inside lists and mappings, too: the agent is given them rendered."""
    names: Mapping[str, OptionName] = field(default_factory=dict[str, "OptionName"])
    """What these templates see beside what all templates do."""
    may_choose: Callable[[AgentNode, Site], tuple[NodeId, ...]] | None = None
    """Ids that `AgentOutput.next` of a node of this type may hold; None: it chooses nothing, or nobody can tell."""
    prompt_default: str | None = None
    """Template used when the file gives no prompt."""
    summary: str = ""
    """One sentence for the reference."""

    def is_pure(self, node: AgentNode) -> bool:
        """Whether this node needs no barrier. The key `pure` of a file counts only where the options declare it."""
        return self.pure or (node.options.get("pure") is True and "pure" in self.options.model_fields)
