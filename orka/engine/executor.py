"""The interpreter. One `match` over the closed set of nodes; sequences, agents and routers are here, what opens frames
of its own is in `forking`, `mapping` and `rounds`. It has no state: `Frame` knows where it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import assert_never

import anyio

from orka.agents.base import AgentInput, AgentOutput
from orka.agents.values import output_value
from orka.clock import monotonic
from orka.engine.branches import abandon_forks, close_forks
from orka.engine.budgeting import check_budget, skip_visit
from orka.engine.context import Frame, RecallEnded, began_at
from orka.engine.copies import private_input, private_output
from orka.engine.cutting import cut_step
from orka.engine.failing import failed_outcome
from orka.engine.following import visit_path
from orka.engine.forking import visit_fork, visit_join
from orka.engine.mapping import visit_map
from orka.engine.outcome import Detour, Outcome
from orka.engine.program import Step
from orka.engine.remote import visit_elsewhere
from orka.engine.retry import delay_after, failure_of, wants_retry
from orka.engine.rounds import visit_failover, visit_loop
from orka.engine.routing import choose_route, decision_value, take_out
from orka.engine.steps import count_step
from orka.engine.texts import render_options
from orka.errors import RouteNotFound, TemplateError
from orka.graph.nodes import (
    AgentNode,
    FailoverNode,
    ForkNode,
    JoinNode,
    LoopNode,
    MapNode,
    PathNode,
    RouterNode,
)
from orka.journal.entries import Kind, NodeRetrying, NodeStarted
from orka.journal.replay import Visit
from orka.journal.tokens import Emitter
from orka.results import Failure, NodeResult
from orka.types import NodeId, Path, RunId, Status


async def run_frame(frame: Frame, ids: Sequence[NodeId], first: Step | None = None) -> None:
    """Runs a frame to its end: its sequence, then the forks that it left open are joined. `SequenceStopped` when a
    visit fails whose node says so. Cancelling cancels the open forks. `first`, if given, is visited before `ids`."""
    try:
        await _walk(frame, ids, first)
        if frame.opened:
            await close_forks(frame)
    except BaseException:
        await abandon_forks(frame)
        raise


async def _walk(frame: Frame, ids: Sequence[NodeId], first: Step | None) -> None:
    """What a visit chose to run next goes before the rest, in the same frame: routing cycles do not nest."""
    waiting = [iter(ids)]
    step = first
    while waiting:
        if step is None:
            node_id = next(waiting[-1], None)
            if node_id is None:
                waiting.pop()
                continue
            step = frame.body.steps.get(node_id)
            if step is None:
                _skip_undefined(frame, node_id)
                continue
        count_step(frame)
        await frame.run.give_way()
        chosen = await visit_step(frame, step)
        if chosen is not None:
            if chosen.once:
                waiting = take_out(waiting, chosen.ids)
            waiting.append(iter([NodeId(node_id) for node_id in chosen.ids]))
        step = None


async def visit_step(frame: Frame, step: Step) -> Detour | None:
    """One visit: answered by the journal, or executed and committed. Gives what it chose to run next."""
    path = frame.next_path(step)
    seen = frame.seen(path, step)
    node = step.node
    if frame.run.spending.budget is not None or seen is not None:
        failure = check_budget(frame, step, path, seen)
        if failure is not None:
            await skip_visit(frame, step, path, seen, failure)
            return None
    try:
        match node:
            case AgentNode():
                return await _visit_agent(frame, step, node, path, seen)
            case RouterNode():
                return await _visit_router(frame, step, node, path, seen)
            case ForkNode():
                await visit_fork(run_frame, frame, step, node, path, seen)
            case JoinNode():
                await visit_join(frame, step, node, path, seen)
            case FailoverNode():
                await visit_failover(run_frame, frame, step, node, path, seen)
            case LoopNode():
                await visit_loop(run_frame, frame, step, node, path, seen)
            case MapNode():
                await visit_map(run_frame, frame, step, node, path, seen)
            case PathNode():
                await visit_path(run_frame, frame, step, node, path, seen)
            case _:
                assert_never(node)
    except anyio.get_cancelled_exc_class():
        cut_step(frame, path, step, began_at(seen))
        raise
    return None


async def _visit_agent(frame: Frame, step: Step, node: AgentNode, path: Path, seen: Visit | None) -> Detour | None:
    at_ms, began = began_at(seen), monotonic()
    if node.runs_on is not None and _leaves(frame, node.runs_on, seen):
        done = await visit_elsewhere(frame, step, path, seen, node.runs_on)
        if isinstance(done, Failure):
            outcome = failed_outcome(frame, step, done, at_ms)
            await frame.settle(step, path, outcome, seen=None, at_ms=at_ms, began=began)
            return None
        seen, at_ms = done, done.at_ms
    if seen is not None and seen.finished is not None:
        outcome = await _recall_agent(frame, step, node, seen, at_ms)
    elif frame.run.recalling:
        raise RecallEnded(path)
    else:
        outcome = await _attempt_agent(frame, step, node, path, seen, at_ms)
    await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
    return outcome.detour


def _leaves(frame: Frame, queue: str, seen: Visit | None) -> bool:
    """The visit is for a worker of another queue, and none has executed it."""
    away = frame.run.away
    return away is not None and away.queue != queue and (seen is None or seen.finished is None)


async def _recall_agent(frame: Frame, step: Step, node: AgentNode, seen: Visit, at_ms: int) -> Outcome:
    """A finished visit, from the journal. Its prompt is rendered again: prompts are not journaled."""
    finished = seen.finished
    assert finished is not None
    prompt = None
    if step.prompt is not None and finished.error is None:
        prompt = step.prompt.render(frame.view(node.id, at_ms))
    return Outcome(
        output=await frame.run.load(finished.output),
        status=finished.status,
        error=finished.error,
        attempts=finished.attempts,
        usage=finished.usage,
        prompt=prompt,
        next=finished.next,
        once=finished.once,
        warnings=finished.warnings,
    )


async def _attempt_agent(
    frame: Frame, step: Step, node: AgentNode, path: Path, seen: Visit | None, at_ms: int
) -> Outcome:
    """Attempts until one succeeds or the retry policy is exhausted. Failed attempts are journaled: a crash does not
    give a node more of them."""
    attempt = seen.attempts + 1 if seen is not None else 1
    while True:
        view = frame.view(node.id, at_ms)
        try:
            prompt = step.prompt.render(view) if step.prompt is not None else None
            options = render_options(node.options, step.texts, view, step.names) if step.texts else node.options
        except TemplateError as exc:
            return failed_outcome(frame, step, exc, at_ms, attempt, tuple(view.warnings))
        tokens = frame.run.tokens
        emitter = None if tokens is None else tokens.emitter(path, node.id, attempt)
        task = AgentInput(
            run_id=RunId(frame.run.run_id),
            path=path,
            node_id=node.id,
            attempt=attempt,
            input=frame.input,
            prompt=prompt,
            outputs=view.outputs,
            options=options,
            variables=view.variables,
            loop=frame.context.loop,
            now_ms=at_ms,
            emit=emitter,
            session=frame.run.session,
        )
        if not step.trusted:
            task = private_input(task)
        if not step.pure:
            await _announce(frame, step, path, at_ms, attempt)
        elif frame.run.on_begin is not None:
            frame.run.on_begin(path, at_ms)
        try:
            given = await _call(frame, step, node, task)
            return _success(frame, step, given, prompt, attempt, tuple(view.warnings), emitter)
        # Bulkhead: whatever an agent raises becomes the visit's error.
        except Exception as exc:
            failure, emitted = failure_of(exc), 0 if emitter is None else emitter.chars
            if not wants_retry(node.policy.retry, attempt, exc):
                return failed_outcome(frame, step, exc, at_ms, attempt, tuple(view.warnings), emitted)
        finally:
            if emitter is not None:
                emitter.closed = True
        await _pause(frame, step, path, at_ms, attempt, failure, emitted)
        attempt += 1


async def _announce(frame: Frame, step: Step, path: Path, at_ms: int, attempt: int) -> None:
    """Before an agent that touches the world: what it follows from is stored, and so is the fact that it begins."""
    frame.write(Kind.NODE_STARTED, path, NodeStarted(id=step.node.id, node=step.digest, at_ms=at_ms, attempt=attempt))
    await frame.run.log.barrier()
    frame.run.sliced = monotonic()  # others had their turn


async def _call(frame: Frame, step: Step, node: AgentNode, task: AgentInput) -> AgentOutput:
    assert step.agent is not None
    calls, timeout = frame.run.calls, node.policy.timeout
    if step.limits is None:
        return await calls.call(step.agent, task, timeout=timeout, pure=step.pure)
    async with step.limits.holding(calls.limits, frame.run.away, task):  # the timeout begins behind the waiting
        return await calls.call(step.agent, task, timeout=timeout, pure=step.pure)


def _success(
    frame: Frame,
    step: Step,
    given: AgentOutput,
    prompt: str | None,
    attempt: int,
    warnings: tuple[str, ...],
    emitter: Emitter | None,
) -> Outcome:
    output = output_value(given)
    stored, values = frame.run.codec.store(output)
    if not step.trusted:
        output = private_output(output, stored, values)
    return Outcome(
        output=output,
        stored=stored,
        values=values,
        attempts=attempt,
        usage=given.usage,
        prompt=prompt,
        next=None if given.next is None else tuple(given.next),
        once=given.once,
        warnings=warnings,
        emitted=0 if emitter is None else emitter.chars,
    )


async def _pause(
    frame: Frame, step: Step, path: Path, at_ms: int, attempt: int, failure: Failure, emitted: int
) -> None:
    delay = delay_after(step.node.policy.retry, attempt, random.random())
    frame.write(
        Kind.NODE_RETRYING,
        path,
        NodeRetrying(
            id=step.node.id,
            node=step.digest,
            at_ms=at_ms,
            attempt=attempt,
            error=failure,
            delay_ms=round(delay * 1000),
            emitted=emitted,
        ),
    )
    await frame.run.log.barrier()
    await anyio.sleep(delay)


async def _visit_router(frame: Frame, step: Step, node: RouterNode, path: Path, seen: Visit | None) -> Detour | None:
    at_ms, began = began_at(seen), monotonic()
    finished = seen.finished if seen is not None else None
    if finished is not None:
        outcome = Outcome(
            output=list(finished.next or ()),
            status=finished.status,
            error=finished.error,
            next=finished.next,
            warnings=finished.warnings,
        )
    else:
        outcome = _route(frame, node, path)
    await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
    return outcome.detour


def _route(frame: Frame, node: RouterNode, path: Path) -> Outcome:
    seen = frame.context.visible()
    if node.decision_key.partition(".")[0] == "input" and "input" not in seen:
        seen = {"input": frame.input}
    value = decision_value(seen, node.decision_key)
    route = choose_route(node, value)
    if route is not None:
        return Outcome(output=list(route), next=route)
    keys = ", ".join(repr(str(key)) for key, _ in node.routes)
    shown = "(nothing)" if value is None else f"= {str(value)[:80]!r}"
    message = (
        f"no route of {node.id!r} fits {node.decision_key} {shown} (routes: {keys}; a `default` would catch the rest)"
    )
    if frame.run.program.graph.limits.strict_templates:
        return Outcome(error=failure_of(RouteNotFound(message, run_id=frame.run.run_id, path=path)))
    return Outcome(output=[], next=(), warnings=(f"{message}; going on without one",))


def _skip_undefined(frame: Frame, node_id: NodeId) -> None:
    """An id in a loop's list that nobody defines: skipped, the same on every replay, so nothing is journaled."""
    frame.record(
        NodeResult(
            path=Path(f"{frame.path}/{node_id}" if frame.path else node_id),
            node_id=node_id,
            event_type="Unknown",
            status=Status.SKIPPED,
            inner=frame.context.inner,
            group=frame.context.group,
            warnings=(f"{node_id!r} is not defined",),
        )
    )
