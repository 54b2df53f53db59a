"""`Orchestrator`: one graph, and as many runs of it as you like. The public way in."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol, Self

from orka.agents.registry import Registry
from orka.embedding.base import Embedder
from orka.engine.answer import value_of
from orka.engine.away import SHARED
from orka.engine.program import Program
from orka.errors import ConfigError
from orka.graph.diagnostics import Fault
from orka.graph.graph import Graph
from orka.graph.strict import as_strict, refuse_warnings
from orka.ids import new_run_id, parse_queue, parse_run_id, parse_session
from orka.journal.events import RunEvent
from orka.journal.watching import OnEvent
from orka.lifecycle import RunOptions, finish_run, host_run, start_run, submit_run
from orka.llm.base import LLMAccess
from orka.operations import cancel_run, finish
from orka.results import RunResult
from orka.runs import Runs
from orka.search.base import SearchAccess
from orka.services import Services, Statistics, load_file, open_services
from orka.settings import Settings
from orka.stored import await_run
from orka.traces import Trace, read_trace
from orka.types import Json, RunId, RunStatus

__all__ = ["OnEvent", "Orchestrator", "RunHandle", "RunResult", "finish", "refuse_warnings"]


class Resume(Protocol):
    """`Orchestrator.resume`."""

    async def __call__(
        self,
        run_id: str,
        *,
        take_over: bool = False,
        return_logs: bool = False,
        settings: Settings | None = None,
        allow_functions: bool | Iterable[str] = False,
    ) -> Json: ...


class _Resume:
    """Works on the class, which then opens services of its own, and on an Orchestrator, whose services it uses."""

    def __get__(self, instance: Orchestrator | None, owner: type[Orchestrator]) -> Resume:
        async def resume(
            run_id: str,
            *,
            take_over: bool = False,
            return_logs: bool = False,
            settings: Settings | None = None,
            allow_functions: bool | Iterable[str] = False,
        ) -> Json:
            if instance is not None:
                result = await instance.finish(run_id, take_over=take_over, visits=return_logs)
            else:
                result = await finish(
                    run_id,
                    take_over=take_over,
                    settings=settings,
                    allow_functions=allow_functions,
                    visits=return_logs,
                )
            return value_of(result, return_logs)

        return resume


class RunHandle:
    """A submitted run."""

    def __init__(self, orchestrator: Orchestrator, run_id: RunId) -> None:
        self._orchestrator = orchestrator
        self.run_id = run_id

    async def result(self) -> Json:
        """Waits for the end of the run and gives its answer; raises as `run` does. Cancelling only ends the waiting."""
        return value_of(await self.finished(), return_logs=False)

    async def finished(self) -> RunResult:
        """Waits for the end of the run; a failed run is a result, not an exception. Its `results` are not read."""
        async with self._orchestrator._open() as (services, _):  # pyright: ignore[reportPrivateUsage]
            return await await_run(services, self.run_id)

    async def cancel(self) -> RunStatus:
        """Ends the run wherever it is executed: see `Orchestrator.cancel`."""
        return await self._orchestrator.cancel(self.run_id)

    def events(self, *, after: str = "0") -> AsyncGenerator[RunEvent]:
        """The run's events as they come, until it ends. Needs an open Orchestrator."""
        return self._orchestrator.events(self.run_id, after=after)


class Orchestrator:
    """A checked graph that can be run. Belongs to the event loop it is opened in.

    `async with Orchestrator(...)` keeps Redis, journal and agents open for any number of concurrent runs; without it
    each call opens and closes them. Cancelling a call cancels its run, which stays resumable.
    """

    def __init__(
        self,
        graph: str | os.PathLike[str] | Graph,
        *,
        settings: Settings | None = None,
        registry: Registry | None = None,
        allow_functions: bool | Iterable[str] = False,
        strict: bool = False,
        llm: LLMAccess | None = None,
        search: SearchAccess | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        """Loads and checks the graph: `GraphError` with every fault of the file. No Redis is touched.

        `allow_functions` lets agents and tools call Python code and start MCP servers: True, or the modules and
        `mcp:COMMAND`s. With `strict` every warning about the file is an error, and so are undefined names when a
        template is rendered, as if the file said `strict_templates: true`: the graph that is stored with a run says it,
        too. `llm` is asked in place of every model that the file names, `search` in place of every search engine:
        `ScriptedLLM` and `ScriptedSearch` of `orka.testing`, or your own. `embedder` makes the vectors in place of the model
        that the settings name: a `FunctionEmbedder`, or your own.
        """
        if isinstance(graph, Graph):
            self.graph, self.warnings = graph, tuple[Fault, ...]()
        else:
            loaded = load_file(graph, registry=registry, strict=strict)
            self.graph, self.warnings = loaded.graph, loaded.warnings
        if strict:
            refuse_warnings(self.warnings)
            self.graph = as_strict(self.graph)
        self._settings = settings
        self._registry = registry
        self._llm = llm
        self._search = search
        self._embedder = embedder
        self._allow = allow_functions if isinstance(allow_functions, bool) else frozenset(allow_functions)
        self._stack: AsyncExitStack | None = None
        self._services: Services | None = None
        self._program: Program | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        if self._services is not None:
            raise ConfigError("this Orchestrator is open already; open another one for a second loop or nesting")
        async with AsyncExitStack() as stack:
            self._services = await stack.enter_async_context(self._fresh())
            self._program = self._services.build(self.graph)
            self._loop = asyncio.get_running_loop()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        stack, self._stack = self._stack, None
        self._services = self._program = self._loop = None
        if stack is not None:
            await stack.__aexit__(*error)  # pyright: ignore[reportArgumentType]

    async def run(self, input: Json, *, return_logs: bool = False, session_id: str | None = None) -> Json:
        """The graph's answer to `input`, or the list of log entries. `RunError` when the run fails."""
        result = await self.execute(input, session_id=session_id)
        return value_of(result, return_logs)

    async def execute(
        self,
        input: Json,
        *,
        run_id: str | None = None,
        on_event: OnEvent | None = None,
        distributed: bool = False,
        tokens: bool = False,
        session_id: str | None = None,
        trace: Trace = None,
    ) -> RunResult:
        """Like `run`, with everything about it; a failed run is a result, not an exception.

        `run_id` names the run, of letters, digits and `-_.:`, at most 128 (`ConfigError`); `RunExists` when there is one
        of that name. `on_event` is called with every event once it is stored. `distributed` sends the branches of forks
        and maps to the shared queues that `orka worker` serves, as `distributed: true` in the file does. `session_id`
        is what templates read under that name, and the session of memories that it writes; else the run's id. With
        `tokens` the pieces of answers are `node.token` events, for `on_event` (of agents in this process) and `events`. `trace`
        asks for a trace file: True, or the file or folder; None leaves it to `ORKA_LOG_DIR`.
        """
        named = new_run_id() if run_id is None else parse_run_id(run_id)
        session = parse_session(session_id)
        options = RunOptions(on_event=on_event, distributed=distributed, session=session, tokens=tokens, trace=trace)
        if self._services is not None:  # the way of every run but the first kind: no context to enter and leave
            return await start_run(*self._current(), input, named, options)
        async with self._open() as (services, program):
            return await start_run(services, program, input, named, options)

    async def submit(
        self,
        input: Json,
        *,
        run_id: str | None = None,
        queue: str = SHARED,
        tokens: bool = False,
        session_id: str | None = None,
    ) -> RunHandle:
        """Puts a whole run on a queue and returns at once: a worker executes it, and if that dies another one goes on.

        Needs an open Orchestrator if `result()` of the handle is to be awaited. Submitting the same graph, input and
        session under the same `run_id` again gives the run that is there; `RunExists` when that id is another run's.
        `tokens`: see `execute`.
        """
        named, chosen = new_run_id() if run_id is None else parse_run_id(run_id), parse_queue(queue)
        options = RunOptions(session=parse_session(session_id), tokens=tokens)
        async with self._open() as (services, program):
            await submit_run(services, program, input, named, chosen, options)
            return RunHandle(self, named)

    resume = _Resume()
    """`await orchestrator.resume(run_id)`, or `await Orchestrator.resume(run_id)` without a file: the answer of a run
    that was cut off, failed or cancelled, finished with the graph stored with it. See `finish`."""

    async def finish(
        self,
        run_id: str,
        *,
        take_over: bool = False,
        changed_graph: bool = False,
        on_event: OnEvent | None = None,
        visits: bool = True,
        trace: Trace = None,
        tokens: bool = False,
    ) -> RunResult:
        """Finishes a run that was cut off, failed or cancelled, with the graph stored with it.

        `changed_graph` runs this Orchestrator's graph instead; `JournalMismatch` when a finished node differs in it.
        `RunAlive` while another process executes the run, unless `take_over`. A completed run gives its answer again,
        and its `results`, for which this process needs its agent types; without `visits` the answer alone, from any process.
        `tokens`: see `execute`.
        """
        async with self._open() as (services, _):
            graph = self.graph if changed_graph else None
            options = RunOptions(on_event=on_event, tokens=tokens, trace=trace)
            return await finish_run(services, RunId(run_id), options, graph=graph, take_over=take_over, visits=visits)

    async def trace(self, run_id: str, *, whole: bool | None = None) -> dict[str, Json]:
        """The trace of a completed run, as its file would have it. This process needs its agent types. `whole`: without the
        blob store. `ConfigError` for a run that has not completed."""
        async with self._open() as (services, _):
            return await read_trace(services, RunId(run_id), whole=whole)

    async def cancel(self, run_id: str) -> RunStatus:
        """Ends any run wherever it is executed, and gives its status when it is over: it is cancelled, or had ended before.
        It can be resumed. `RunAlive` when its process does not end it in time."""
        async with self._open() as (services, _):
            return await cancel_run(services, RunId(run_id))

    async def stream(self, input: Json, *, session_id: str | None = None) -> AsyncGenerator[RunEvent]:
        """Runs the graph and gives its events as they are stored, and the pieces of answers between them (`node.token`);
        the last one tells how it ended.

        On an open Orchestrator the run goes on when the reader leaves, and `events` joins it again. Otherwise it ends
        with the reader, and can be resumed.
        """
        run_id, session = new_run_id(), parse_session(session_id)
        if self._services is not None:
            services, program = self._current()
            started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            services.tasks.start_soon(host_run, services, program, input, run_id, started, session)
            await started
            async with contextlib.aclosing(self.events(run_id)) as events:
                async for event in events:
                    yield event
            return
        # The services belong to a task of their own: a generator may be closed from any task, a task group may not.
        # And to an Orchestrator of their own: other calls on this one must not find them, and lose them, by chance.
        opened = copy.copy(self)  # it is not open
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = asyncio.Event()
        host = asyncio.create_task(opened._host_services(ready, left))
        try:
            await asyncio.wait({host, ready}, return_when=asyncio.FIRST_COMPLETED)
            if host.done():
                await host
            async with contextlib.aclosing(opened.stream(input, session_id=session_id)) as events:
                async for event in events:
                    yield event
        finally:
            left.set()
            await asyncio.shield(host)

    def events(self, run_id: str, *, after: str = "0", follow: bool = True) -> AsyncGenerator[RunEvent]:
        """Events of any run, strictly after a position; with `follow` until it ends, with the pieces of answers of a run
        that has them. Needs an open Orchestrator."""
        return self.runs.events(RunId(run_id), after=after, follow=follow)

    @property
    def runs(self) -> Runs:
        """The registry and the journals. Needs an open Orchestrator (or use `orka.open_runs`)."""
        services, _ = self._current()
        return Runs(services.registry, services.router)

    def statistics(self) -> Statistics:
        """Of everything that buffers. Needs an open Orchestrator."""
        return self._current()[0].statistics()

    async def _host_services(self, ready: asyncio.Future[None], left: asyncio.Event) -> None:
        async with self:
            ready.set_result(None)
            await left.wait()

    def _current(self) -> tuple[Services, Program]:
        if self._services is None or self._program is None:
            raise ConfigError("this needs an open Orchestrator: `async with Orchestrator(...) as orchestrator:`")
        if asyncio.get_running_loop() is not self._loop:
            raise ConfigError(
                "this Orchestrator was opened in another event loop; open one Orchestrator in each loop that runs graphs"
            )
        return self._services, self._program

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[tuple[Services, Program]]:
        if self._services is not None:
            yield self._current()
            return
        async with self._fresh() as services:
            yield services, services.build(self.graph)

    def _fresh(self) -> AbstractAsyncContextManager[Services]:
        settings = self._settings or Settings.from_environment()
        return open_services(
            settings,
            registry=self._registry,
            allow_functions=self._allow,
            llm=self._llm,
            search=self._search,
            embedder=self._embedder,
        )
