"""`Calls`: where the interpreter leaves its own code and calls an agent.

An agent that touches the world runs in a task of its own, because it may ignore its cancellation: five seconds after it
was cancelled it is abandoned, and the run goes on without it. That is the one place where a task may outlive its scope,
so it is made with asyncio directly, kept in `_abandoned` and counted. Pure agents are awaited in place.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import traceback
from functools import partial
from typing import Any, NamedTuple, cast

import anyio

from orka.agents.base import Agent, AgentInput, AgentOutput
from orka.clock import monotonic
from orka.dispatch.limits import Limits
from orka.engine.retry import message_of
from orka.errors import AgentError, RunTimeout
from orka.logs import get_logger

GRACE = 5.0
"""Seconds that a cancelled agent has to end."""

_log = get_logger()


class CallStatistics(NamedTuple):
    """Of agents in tasks of their own."""

    running: int
    abandoned: int
    """Cancelled, and still running after the grace period."""


class Calls:
    """Owned by the services of one process."""

    def __init__(self, grace: float = GRACE, *, limits: Limits | None = None) -> None:
        self.limits = limits
        """What calls may have to wait for."""
        self._grace = grace
        self._running: set[asyncio.Task[AgentOutput]] = set()
        self._abandoned: set[asyncio.Task[AgentOutput]] = set()

    def statistics(self) -> CallStatistics:
        return CallStatistics(running=len(self._running), abandoned=len(self._abandoned))

    async def call(self, agent: Agent, task: AgentInput, *, timeout: float | None, pure: bool) -> AgentOutput:
        """One attempt. `RunTimeout` after `timeout` seconds; whatever the agent raises. Cancelling cancels the agent and
        returns when it has ended or was abandoned."""
        if pure:
            return await _in_place(agent, task, timeout)
        loop = asyncio.get_running_loop()
        job = loop.create_task(_as_coroutine(agent, task))
        self._running.add(job)
        # A plain future, because awaiting the job itself would wait for an agent that ignores its cancellation.
        over: asyncio.Future[None] = loop.create_future()
        job.add_done_callback(lambda _: over.done() or over.set_result(None))
        job.add_done_callback(self._ended)
        timer = None if timeout is None else loop.call_later(timeout, lambda: over.done() or over.set_result(None))
        try:
            await over
        except BaseException:
            await self._cancel(job, task)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if not job.done():
            await self._cancel(job, task)
            raise _timed_out(task, timeout)
        if job.cancelled():  # by the agent's own code: nobody here asked for it, and the run goes on
            raise _cancelled_itself(task)
        return job.result()

    def _ended(self, job: asyncio.Task[AgentOutput]) -> None:
        self._running.discard(job)
        self._abandoned.discard(job)
        if not job.cancelled():
            job.exception()  # seen; the caller has raised it, or has gone

    async def _cancel(self, job: asyncio.Task[AgentOutput], task: AgentInput) -> None:
        end = monotonic() + self._grace
        with anyio.CancelScope(shield=True):
            while not job.done() and (left := end - monotonic()) > 0:
                job.cancel()
                await asyncio.wait({job}, timeout=min(1.0, left))
        if not job.done():
            self._abandoned.add(job)
            _log.error("agent.abandoned", run_id=task.run_id, path=task.path, after=self._grace)


async def _as_coroutine(agent: Agent, task: AgentInput) -> AgentOutput:
    own = asyncio.current_task()
    try:
        return await agent.run(task)
    except BaseException as exc:
        _contain(exc, task, own)
        raise


async def _in_place(agent: Agent, task: AgentInput, timeout: float | None) -> AgentOutput:
    own = asyncio.current_task()
    try:
        if timeout is None:
            return await agent.run(task)
        with anyio.move_on_after(timeout):
            return await agent.run(task)
    except asyncio.CancelledError:
        if own is None or own.cancelling():
            raise
        raise _cancelled_itself(task) from None
    except BaseException as exc:
        _contain(exc, task, own)
        raise
    raise _timed_out(task, timeout)


def _contain(error: BaseException, task: AgentInput, own: asyncio.Task[Any] | None) -> None:
    """Raises an `AgentError` for what would end the process, or the event loop with every run in it: `sys.exit()`, a
    `KeyboardInterrupt` or `GeneratorExit` of the agent's own. Cancellation and the user's Ctrl-C pass, and so does the
    closing of a coroutine that nobody awaits any more, which is no doing of `own`, the task that called the agent."""
    if isinstance(error, Exception | asyncio.CancelledError):
        return
    if isinstance(error, GeneratorExit) and not _is_current(own):
        return
    if isinstance(error, KeyboardInterrupt) and _is_from_user(error):
        return
    kind = type(error).__name__
    message = f"the agent raised {kind}: {message_of(error)}"
    raise AgentError(message, kind=kind, run_id=task.run_id, path=task.path) from error


def _is_current(task: asyncio.Task[Any] | None) -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no event loop runs: it is closed, or collected as garbage
        return False


def _is_from_user(error: KeyboardInterrupt) -> bool:
    """Raised by the handler of SIGINT. Python's own handler leaves no trace in the error: where that one is installed and
    an agent runs in the main thread, every `KeyboardInterrupt` counts as the user's."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        return threading.current_thread() is threading.main_thread()
    while isinstance(handler, partial):
        handler = cast("partial[object]", handler).func
    code = getattr(handler, "__code__", None)
    return any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__))


def _cancelled_itself(task: AgentInput) -> AgentError:
    return AgentError("the agent cancelled itself", kind="CancelledError", run_id=task.run_id, path=task.path)


def _timed_out(task: AgentInput, timeout: float | None) -> RunTimeout:
    return RunTimeout(f"no answer within {timeout:g} s", run_id=task.run_id, path=task.path)
