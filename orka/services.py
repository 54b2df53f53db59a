"""Everything that lives while runs do, opened in order and closed in reverse. The one place where parts are wired."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, cast

import anyio
import anyio.abc

from orka.agents.base import AgentTools
from orka.agents.registry import Registry, default_registry
from orka.agents.tooling.servers import Servers
from orka.brain.host import BrainHost
from orka.dispatch.inbox import Inbox, InboxStatistics
from orka.dispatch.limits import Limits, LimitStatistics
from orka.dispatch.roster import Roster
from orka.dispatch.sender import Sender, SenderStatistics
from orka.embedding.base import Embedder
from orka.embedding.choice import choose_embedder
from orka.embedding.remote import RemoteEmbedder
from orka.engine.auditing import OnVisit, RunAudit
from orka.engine.calls import Calls, CallStatistics
from orka.engine.program import Program, Workshop, build_program
from orka.errors import StoreError, sole_error
from orka.graph.graph import Graph
from orka.graph.load import Loaded, Report, check_graph, load_graph, loaded
from orka.graph.schema import json_schema, reference
from orka.journal.entries import ValueCodec
from orka.journal.holder import new_process
from orka.journal.leases import Leases
from orka.journal.registry import Registry as RunRegistry
from orka.journal.statistics import EventStatistics
from orka.journal.tokens import Tokens
from orka.journal.writer import Journal, JournalStatistics
from orka.llm.base import LLMAccess
from orka.llm.costs import RATES, LocalCost, Prices
from orka.llm.pool import LLMPool
from orka.llm.scripted import ScriptedLLM
from orka.memory.audit import Audit
from orka.memory.decay import environment_layer
from orka.memory.host import MemoryHost
from orka.memory.memory import MemoryStatistics
from orka.redis.client import NodeRouter, RedisHandle, open_redis
from orka.redis.pipeline import Pipe
from orka.search.base import SearchAccess
from orka.search.engines import Engines
from orka.settings import Settings
from orka.template.environment import Environment
from orka.template.searching import compile_search
from orka.types import Json, RunId

_environment = Environment()
_FAREWELL = 2.0
"""Seconds to tidy up on the server at the end."""


class Statistics(NamedTuple):
    """Of everything that buffers."""

    journal: JournalStatistics
    calls: CallStatistics
    sender: SenderStatistics
    inbox: InboxStatistics
    limits: LimitStatistics
    tokens: EventStatistics
    memory: MemoryStatistics | None
    """None while no agent has needed any."""
    audit: EventStatistics


@dataclass(slots=True, kw_only=True)
class Services:
    """What runs of one process share. `open_services` makes it."""

    settings: Settings
    redis: RedisHandle
    router: NodeRouter
    journal: Journal
    registry: RunRegistry
    leases: Leases
    calls: Calls
    codec: ValueCodec
    workshop: Workshop
    process: str
    """Names this process's inbox, and it in consumer groups."""
    inbox: Inbox
    sender: Sender
    limits: Limits
    """That all processes respect together."""
    memory: MemoryHost
    """Opened by the first agent that needs it."""
    tokens: Tokens
    """Pieces of answers on their way to those who watch."""
    audit: Audit
    """What is told of runs, on its way to the stream of events."""
    tasks: anyio.abc.TaskGroup
    """For runs that nobody awaits; cancelled first when the services close."""

    def build(self, graph: Graph) -> Program:
        """Templates compiled, agents built."""
        return build_program(graph, self.workshop)

    def audit_of(self, run_id: RunId, graph: str) -> RunAudit | None:
        """Whom to tell of a run that this process executes; None: nobody wants to know."""
        if self.audit.level == "off":
            return None
        return RunAudit(self.audit, run=run_id, graph=graph, process=self.process)

    def on_visit(self, run_id: RunId) -> OnVisit | None:
        """Whom to tell of visits of a run that another process executes."""
        audit = self.audit_of(run_id, "")
        return None if audit is None else audit.on_visit

    def statistics(self) -> Statistics:
        return Statistics(
            journal=self.journal.statistics(),
            calls=self.calls.statistics(),
            sender=self.sender.statistics(),
            inbox=self.inbox.statistics(),
            limits=self.limits.statistics(),
            tokens=self.tokens.statistics(),
            memory=None if self.memory.memory is None else self.memory.memory.statistics(),
            audit=self.audit.statistics(),
        )


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    registry: Registry | None = None,
    allow_functions: bool | Iterable[str] = False,
    llm: LLMAccess | None = None,
    search: SearchAccess | None = None,
    embedder: Embedder | None = None,
) -> AsyncGenerator[Services]:
    """Redis (or the private server), journal, registry of runs. `ServerError`, `StoreError` when that fails. `llm` stands for
    every language model, `search` for every search engine, `embedder` for the settings' model."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings))
        router = await redis.open_router()
        writing, reading, limiting, emitting, telling = await _pipes(stack, router)
        journal, tokens, runs = _journal(writing, settings), Tokens(emitting), _runs(reading, settings)
        audit = Audit(telling, settings.audit)
        tools = await _agent_tools(stack, settings, llm, search, embedder)
        try:
            async with anyio.create_task_group() as background:
                memory = MemoryHost(redis, router, settings, background, embedder)
                brain, servers = BrainHost(router, settings, background, embedder), Servers(background)
                tools = replace(tools, memory=memory, brain=brain.brain, servers=servers)
                process = new_process()
                inbox = Inbox(router, process=process, partitions=settings.partitions, tasks=background)
                inbox.on_return, journal.returns.on_kept = journal.look, inbox.watch
                limits = Limits(limiting, inbox, partitions=settings.partitions, lease=settings.lease, tasks=background)
                for loop in (journal.run, tokens.run, audit.run):
                    background.start_soon(loop)
                try:
                    await journal.running.wait()
                    async with anyio.create_task_group() as tasks:
                        yield Services(
                            process=process,
                            inbox=inbox,
                            limits=limits,
                            memory=memory,
                            sender=Sender(inbox, Roster(runs), lease=settings.lease),
                            settings=settings,
                            redis=redis,
                            router=router,
                            journal=journal,
                            registry=runs,
                            leases=Leases(runs, journal, process),
                            calls=Calls(limits=limits),
                            codec=ValueCodec(settings.value_limit, settings.value_hard_limit),
                            workshop=_workshop(registry, tools, allow_functions),
                            tokens=tokens,
                            audit=audit,
                            tasks=tasks,
                        )
                        tasks.cancel_scope.cancel()
                finally:
                    await _close(memory, brain, limits, tokens, servers, audit)
                    journal.stop()
                    background.cancel_scope.cancel()
                    with anyio.move_on_after(_FAREWELL, shield=True), suppress(StoreError):
                        await inbox.remove(runs)
        except BaseExceptionGroup as group:
            # The task groups wrap whatever the caller's own block raised; the caller should not see them.
            raise sole_error(group) from None


async def _pipes(stack: AsyncExitStack, router: NodeRouter) -> list[Pipe]:
    """A watchful one and four others. None is connected before it is used."""
    return [await stack.enter_async_context(_pipe(router, watchful=number == 0)) for number in range(5)]


class _Part(Protocol):
    async def aclose(self) -> None: ...


async def _close(*parts: _Part) -> None:
    """In this order, whatever is cancelled."""
    with anyio.CancelScope(shield=True):
        for part in parts:
            await part.aclose()


@asynccontextmanager
async def _pipe(router: NodeRouter, *, watchful: bool = False) -> AsyncGenerator[Pipe]:
    pipe = Pipe(router, watchful=watchful)
    try:
        yield pipe
    finally:
        await pipe.aclose()


@asynccontextmanager
async def _embedder(settings: Settings, given: Embedder | None) -> AsyncGenerator[Embedder]:
    """For agents that compare texts. No endpoint is asked before one does."""
    embedder = given or choose_embedder(settings)
    if given is None and isinstance(embedder, RemoteEmbedder):
        async with embedder:
            yield embedder
    else:
        yield embedder


def _journal(pipe: Pipe, settings: Settings) -> Journal:
    return Journal(pipe, lease=settings.lease, retention=settings.retention, patience=settings.journal_patience)


def _runs(pipe: Pipe, settings: Settings) -> RunRegistry:
    return RunRegistry(pipe, partitions=settings.partitions)


async def _agent_tools(
    stack: AsyncExitStack,
    settings: Settings,
    llm: LLMAccess | None,
    search: SearchAccess | None,
    given: Embedder | None,
) -> AgentTools:
    """What agents may be built from, as far as it needs no Redis."""
    embedder = await stack.enter_async_context(_embedder(settings, given))
    models = await stack.enter_async_context(_models(settings)) if llm is None else llm
    if search is None:
        search = await stack.enter_async_context(aclosing(Engines(settings, embedder)))
    return AgentTools(
        embedder=embedder,
        search=search,
        decay=environment_layer(settings),
        llm=models,
        settings=settings,
        scripted=llm is not None,
        rehearsal=isinstance(llm, ScriptedLLM) and llm.rehearsal,
    )


@asynccontextmanager
async def _models(settings: Settings) -> AsyncGenerator[LLMPool]:
    """The clients of language models. No endpoint is asked before an agent does."""
    local = LocalCost(
        policy=cast("Literal['calculate', 'null_fail', 'zero_legacy']", settings.local_cost_policy),
        rate=RATES.get(settings.region, RATES["US"])
        if settings.electricity_rate is None
        else settings.electricity_rate,
        hardware=settings.hardware_cost,
        gpu_watts=settings.gpu_watts,
        cpu_watts=settings.cpu_watts,
    )
    pool = LLMPool(timeout=settings.llm_timeout, concurrency=settings.llm_concurrency, prices=Prices(local))
    try:
        yield pool
    finally:
        with anyio.move_on_after(_FAREWELL, shield=True):
            await pool.aclose()


def _workshop(registry: Registry | None, tools: AgentTools, allow_functions: bool | Iterable[str]) -> Workshop:
    allowed = allow_functions if isinstance(allow_functions, bool) else frozenset(allow_functions)
    known = registry or default_registry()
    return Workshop(
        types=known.specs(),
        tools=replace(tools, allow_functions=allowed, toolbox=known.toolbox),
        environment=_environment,
    )


def load_file(path: str | os.PathLike[str], *, registry: Registry | None = None, strict: bool = False) -> Loaded:
    """A graph file, checked against the agent types at hand. `GraphError` with every fault."""
    return load_graph(
        os.fspath(path),
        specs=(registry or default_registry()).specs(),
        compile_template=_environment.compile,
        check_pattern=compile_search,
        strict=strict,
    )


def check_file(text: str | bytes, source: str, *, strict: bool = False) -> Report:
    """Everything there is to say about a graph's text; `source` names it in messages."""
    return check_graph(
        text,
        source=source,
        specs=default_registry().specs(),
        compile_template=_environment.compile,
        check_pattern=compile_search,
        strict=strict,
    )


def load_text(text: str | bytes, source: str, *, strict: bool = False) -> Loaded:
    """Like `load_file`, of a text at hand; `source` names it in messages."""
    return loaded(check_file(text, source, strict=strict), source)


def format_schema() -> dict[str, Json]:
    """JSON Schema of the file format with the agent types at hand."""
    return json_schema(default_registry().specs())


def format_reference() -> str:
    """Markdown tables of every key of the file format."""
    return reference(default_registry().specs())
