"""`Offering`: the tools of one node, found when its first visit needs them and this process permits them."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.to_thread

from orka.agents.base import AgentTools
from orka.agents.function import is_permitted, load_function, not_allowed
from orka.agents.tooling.base import Offer, ToolFault, usable_name
from orka.agents.tooling.functions import FunctionTool
from orka.agents.tooling.options import ToolEntry
from orka.agents.tooling.spec import ServerSpec, may_start
from orka.agents.tooling.toolbox import default_toolbox
from orka.errors import AgentError, ConfigError
from orka.llm.base import Tool
from orka.types import Json


class Offering:
    """Functions are imported once; servers are asked what they have at every visit."""

    def __init__(self, entries: Sequence[ToolEntry], tools: AgentTools, owner: str) -> None:
        self._entries = entries
        self._tools = tools
        self._owner = owner
        self._functions: dict[int, Offer] = {}

    async def collect(self, timeout: float) -> tuple[dict[str, Offer], dict[str, float]]:
        """Tools and seconds for a call, by name. `AgentError` for what is not permitted, not there, or has the name of
        another one. In a rehearsal nothing is imported or started: the names are those of the file."""
        found: dict[str, Offer] = {}
        timeouts: dict[str, float] = {}
        for number, entry in enumerate(self._entries):
            for offer in await self._offers(number, entry):
                name = offer.tool.name
                if name in found:
                    raise AgentError(
                        f"agent {self._owner!r}: tool {name!r} is given by {found[name].origin} and by {offer.origin}; "
                        "give a function another `name`, or a server's tools a `prefix`",
                        kind="ToolClash",
                    )
                found[name] = offer
                timeouts[name] = entry.timeout or timeout
        return found, timeouts

    async def _offers(self, number: int, entry: ToolEntry) -> Sequence[Offer]:
        if self._tools.rehearsal:
            return (_named(entry),)
        if entry.mcp is not None:
            return await self._served(entry, entry.mcp.spec())
        offer = self._functions.get(number)
        if offer is None:
            made = await (self._imported(entry, entry.function) if entry.function is not None else self._kept(entry))
            offer = self._functions[number] = made
        return (offer,)

    async def _imported(self, entry: ToolEntry, reference: str) -> Offer:
        allowed = self._tools.allow_functions
        if not is_permitted(reference, allowed):
            raise not_allowed(reference, reference.partition(":")[0])
        function = await anyio.to_thread.run_sync(load_function, reference, allowed)
        return await _made(FunctionTool, function, entry, f"function {reference!r}")

    async def _kept(self, entry: ToolEntry) -> Offer:
        toolbox = self._tools.toolbox or default_toolbox()
        name = entry.tool or ""
        made = toolbox.find(name)
        if made is None:
            known = ", ".join(toolbox.names())
            raise AgentError(
                f"agent {self._owner!r}: no tool {name!r} is registered{f' (there are {known})' if known else ''}: register "
                "it with `@orka.tool()` in a module that is imported (`--import MODULE`), or write `module:function`",
                kind="ToolNotFound",
            )
        if entry.name is None and entry.description is None:
            return made.offer(f"registered tool {name!r}")
        return await _made(FunctionTool, made.function, entry, f"registered tool {name!r}", made.name)

    async def _served(self, entry: ToolEntry, spec: ServerSpec) -> Sequence[Offer]:
        servers, permission = self._tools.servers, spec.permission
        if permission is not None and not may_start(permission, self._tools.allow_functions):
            raise AgentError(
                f"tool server {spec.label!r} may not be started by this process: if you trust the graph file, run with "
                f"`--allow-functions={permission}`, or give `allow_functions={{{permission!r}}}` to the Orchestrator",
                kind="ServerNotAllowed",
            )
        if servers is None:
            raise ConfigError(f"agent {self._owner!r} has tools of a server, and this process hosts none")
        return await servers.offers(spec, prefix=entry.prefix or "", only=entry.only)


async def _made(
    make: type[FunctionTool], function: object, entry: ToolEntry, origin: str, name: str | None = None
) -> Offer:
    def build() -> FunctionTool:
        return make(function, name=entry.name or name, description=entry.description or "")  # pyright: ignore

    try:
        return (await anyio.to_thread.run_sync(build)).offer(origin)
    except ConfigError as exc:
        raise AgentError(f"{origin}: {exc}", kind="ToolUnusable") from exc


def _named(entry: ToolEntry) -> Offer:
    """Stands for a tool in a rehearsal."""

    async def call(_arguments: object, _key: str) -> str:
        raise ToolFault("no tool is called in a rehearsal")

    if entry.mcp is not None:
        spec = entry.mcp.spec()
        name, origin = f"{entry.prefix or ''}{spec.short}:*", f"tool server {spec.label!r}"
    else:
        reference = entry.function or entry.tool or ""
        name, origin = usable_name(entry.name or reference.rpartition(":")[2]), f"tool {reference!r}"
    nothing: dict[str, Json] = {"type": "object", "properties": {}}
    return Offer(
        tool=Tool(name=name, description=entry.description or "", parameters=nothing), call=call, origin=origin
    )
