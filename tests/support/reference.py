"""A second interpreter of graphs, written from the rules alone: no event loop, no Redis, no concurrency.

A fork's branches run where they are joined. Which branches a join of mode `any` or `quorum` had seen when it decided
is the one thing that the rules leave open: `decisions` tells it, by the path of the join.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.probe import behave, clean

from orka.errors import AgentError
from orka.graph.graph import Graph
from orka.graph.nodes import (
    AgentNode,
    FailoverNode,
    ForkNode,
    JoinNode,
    LoopNode,
    MapNode,
    Node,
    PathNode,
    RouterNode,
    Scope,
)

Decisions = Callable[[str], Sequence[int]]
_REF = re.compile(r"\{\{ previous_outputs\.(\w+)\.response \}\}")


@dataclass
class Seen:
    """One visit."""

    path: str
    node_id: str
    status: str
    output: Any
    error: str | None = None
    attempts: int = 1
    group: str | None = None
    inner: bool = False
    kind: str = "agent"
    terminal: bool = False


class Stopped(Exception):
    """A visit failed whose node says `on_error: stop`: its frame ends."""


@dataclass
class Fork:
    path: str
    node: ForkNode
    base: dict[str, Any]
    at: World
    joined: bool = False
    merged: Any = None
    """The output of its join."""
    ended: dict[int, World] = field(default_factory=dict)


@dataclass
class World:
    """What a branch, a round, a child or the run sees and has done."""

    base: dict[str, Any]
    nodes: Mapping[str, Node]
    outputs: dict[str, Any] = field(default_factory=dict)
    results: list[Seen] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    forks: dict[str, Fork] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    round: int = 1
    inner: bool = False
    group: str | None = None
    stopped: str | None = None
    """Kind of the error that ended the frame."""

    @property
    def sees(self) -> dict[str, Any]:
        return {**self.base, **self.outputs}

    def below(self, **changes: Any) -> World:
        same = {name: getattr(self, name) for name in ("nodes", "variables", "round", "inner", "group")}
        return World(**{"base": self.sees, **same, **changes})


@dataclass
class Frame:
    path: str
    counts: dict[str, int] = field(default_factory=dict)
    opened: list[Fork] = field(default_factory=list)


class Reference:
    def __init__(self, graph: Graph, decisions: Decisions) -> None:
        self.decisions = decisions
        self.world = World(base={}, nodes=graph.scope.nodes)
        try:
            self.frame(Frame(""), graph.scope.sequence, self.world)
        except Stopped as stop:
            self.world.stopped = str(stop)
        self.results = self.world.results
        self.answer = find_answer(self.results)
        wrong = self.answer is None and any(seen.status == "error" for seen in self.results)
        self.status = "failed" if self.world.stopped or wrong else "completed"

    def frame(self, frame: Frame, ids: Sequence[str], world: World) -> None:
        try:
            self.walk(frame, ids, world)
        except Stopped:
            self.abandon(frame, world)
            raise
        for fork in frame.opened:
            self.close(fork, world)

    def walk(self, frame: Frame, ids: Sequence[str], world: World, first: Node | None = None) -> None:
        waiting = [list(ids)]
        node = first
        while waiting or node:
            if node is None:
                if not waiting[-1]:
                    waiting.pop()
                    continue
                node = world.nodes[waiting[-1].pop(0)]
            chosen, once = self.visit(frame, node, world)
            for name in chosen if once else ():
                for rest in reversed(waiting):
                    if name in rest:
                        rest.remove(name)
                        break
            waiting.append(list(chosen))
            node = None

    def abandon(self, frame: Frame, world: World) -> None:
        """What a stopped frame has left open is cut off."""
        for fork in frame.opened:
            if not fork.joined:
                before = len(fork.at.results)
                for index in range(len(fork.node.branches)):
                    self.cut(fork.path, index, fork.node, fork.at)
                move_behind(fork.at.results, before, fork.path)

    def cut(self, path: str, index: int, fork: ForkNode, world: World) -> None:
        """Every member of a branch that was cut off is cancelled, whatever it had done."""
        counts: dict[str, int] = {}
        for member in fork.branches[index]:
            number = counts[member] = counts.get(member, 0) + 1
            name = member.replace(".", "%2E") + (f"#{number}" if number > 1 else "")
            at, node = f"{path}.{index}/{name}", world.nodes[member]
            world.results.append(Seen(at, member, "cancelled", None, None, 0, path, world.inner))
            if isinstance(node, ForkNode) and node.awaited:
                for nested in range(len(node.branches)):
                    self.cut(at, nested, node, world)

    def close(self, fork: Fork, world: World) -> None:
        """A fork that nobody joined is joined at the end of its frame."""
        if not fork.joined:
            fork.joined = True
            before = len(world.results)
            self.enter(fork, world, range(len(fork.node.branches)), range(len(fork.node.branches)))
            move_behind(world.results, before, fork.path)
            for branch in fork.ended.values():
                world.failed |= branch.failed

    def flat(self, branch: Sequence[str], world: World) -> list[str]:
        """The members of a branch as the file names them: nested lists of targets have no name of their own."""
        found: list[str] = []
        for member in branch:
            node = world.nodes[member]
            if isinstance(node, ForkNode) and node.awaited:
                found += [inner for nested in node.branches for inner in self.flat(nested, world)]
            else:
                found.append(member)
        return found

    def visit(self, frame: Frame, node: Node, world: World) -> tuple[Sequence[str], bool]:
        """What it chose to run next, and whether that is taken out of what waits."""
        number = frame.counts[node.id] = frame.counts.get(node.id, 0) + 1
        name = node.id.replace(".", "%2E") + (f"#{number}" if number > 1 else "")
        path = f"{frame.path}/{name}" if frame.path else name
        match node:
            case AgentNode():
                if self.agent(node, path, world):
                    return node.options.get("goes") or (), bool(node.options.get("once"))
            case RouterNode():
                chosen = self.route(node, world)
                self.commit(node, path, world, list(chosen), kind="router")
                return chosen, False
            case PathNode():
                self.path(node, path, world)
            case ForkNode():
                fork = Fork(path, node, world.sees, world)
                agents = [member for branch in node.branches for member in flat(branch, world.nodes)]
                self.commit(
                    node,
                    path,
                    world,
                    {"status": "forked", "fork_group": path, "agents": agents, "mode": node.mode},
                    kind="fork",
                )
                world.forks[node.id] = fork
                frame.opened.append(fork)
                if node.awaited:
                    self.close(fork, world)
            case JoinNode():
                self.join(node, path, world)
            case MapNode():
                self.map(node, path, world)
            case LoopNode():
                self.loop(node, path, world)
            case FailoverNode():
                self.failover(node, path, world)
        return (), False

    def commit(
        self,
        node: Node,
        path: str,
        world: World,
        output: Any,
        *,
        error: str | None = None,
        attempts: int = 1,
        kind: str,
        shown: Any = None,
        status: str | None = None,
    ) -> None:
        world.results.append(
            Seen(
                path,
                node.id,
                status or ("error" if error else "success"),
                output,
                error,
                attempts,
                world.group,
                world.inner,
                kind,
                bool(getattr(node, "terminal", False)),
            )
        )
        if error is None:
            world.failed.discard(node.id)
            world.outputs[node.id] = output if shown is None else shown
            return
        world.failed.add(node.id)
        world.outputs[node.id] = {**(output if isinstance(output, dict) else {}), **wrong(error)}
        if node.policy.on_error == "stop":
            raise Stopped(error)

    def agent(self, node: AgentNode, path: str, world: World) -> bool:
        prompt = node.prompt
        if prompt is not None:
            sees = world.sees
            prompt = _REF.sub(lambda match: text_of(sees.get(match[1])), prompt)
            prompt = prompt.replace("{{ get_loop_number() }}", str(world.round))
            for name, value in world.variables.items():
                prompt = prompt.replace(f"{{{{ {name} }}}}", str(value))
        for attempt in range(1, node.policy.retry.attempts + 1):
            try:
                output = behave(node.id, node.options, attempt, prompt, world.sees)
            except AgentError as exc:
                error, output = exc.kind, None
                continue
            self.commit(node, path, world, output, attempts=attempt, kind="agent")
            return True
        self.commit(node, path, world, None, error=error, attempts=node.policy.retry.attempts, kind="agent")
        return False

    def route(self, node: RouterNode, world: World) -> tuple[str, ...]:
        head, _, rest = node.decision_key.partition(".")
        value = world.sees.get(head)
        if rest:
            value = value.get(rest) if isinstance(value, dict) else None
        for key, route in node.routes:
            if value is not None and key == value:
                return route
        return node.fallback or ()

    def branch(self, fork: Fork, index: int, carried: dict[str, Any]) -> World:
        world = fork.at.below(base={**fork.base, **carried}, group=fork.path)
        self.inside(Frame(f"{fork.path}.{index}"), fork.node.branches[index], world)
        return world

    def inside(self, frame: Frame, ids: Sequence[str], world: World) -> World:
        try:
            self.frame(frame, ids, world)
        except Stopped as stop:
            world.stopped = str(stop)
        return world

    def enter(self, fork: Fork, world: World, settled: Sequence[int], winners: Sequence[int]) -> None:
        self.run_branches(fork, settled)
        for index in range(len(fork.node.branches)):
            if index not in settled:
                self.cut(fork.path, index, fork.node, world)
                continue
            world.results.extend(fork.ended[index].results)
            if index in winners:
                world.outputs.update(fork.ended[index].outputs)

    def run_branches(self, fork: Fork, settled: Sequence[int]) -> None:
        carried: dict[str, Any] = {}
        for index in sorted(settled):
            if index not in fork.ended:
                fork.ended[index] = self.branch(fork, index, carried if fork.node.mode == "sequential" else {})
            carried.update(fork.ended[index].outputs)

    def join(self, node: JoinNode, path: str, world: World) -> None:
        fork = world.forks.get(node.group)
        if fork is None or fork.joined:
            empty = fork.merged if fork is not None and fork.merged else {"status": "done", "merged": {}, "failed": []}
            self.commit(node, path, world, empty, kind="join", status="skipped")
            return
        fork.joined = True
        total = len(fork.node.branches)
        settled = list(self.decisions(path)) or list(range(total))
        self.run_branches(fork, settled)
        good = [i for i in settled if not fork.ended[i].failed and not fork.ended[i].stopped]
        if node.mode == "all":
            assert sorted(settled) == list(range(total)), f"{path} decided before all branches had ended"
            winners, error = settled, node.on_failure == "fail" and len(good) < total
        else:
            need = 1 if node.mode == "any" else node.min_success or 1
            winners, error = good, len(good) < need
            if error:
                assert len(good) + total - len(settled) < need, f"{path} gave up too early"
            else:
                assert len(good) == need, f"{path} waited for too many"
                assert settled[-1] == good[-1], f"{path} was not decided by its last branch"
        self.enter(fork, world, settled, winners)
        members = [self.flat(branch, world) for branch in fork.node.branches]
        output = fork.merged = merged(fork, members, settled, winners)
        self.commit(node, path, world, output, error="BranchError" if error else None, kind="join")

    def map(self, node: MapNode, path: str, world: World) -> None:
        items = world.sees.get(node.items.split(".")[1], {}) if "." in node.items else None
        items = items.get("items") if isinstance(items, dict) else None
        if items is None:
            return self.commit(node, path, world, None, error="ItemsNotList", kind="map")
        results, failed, inner = [], [], []
        for index, item in enumerate(items):
            named = {**world.variables, node.name: item, "index": index}
            below = world.below(variables=named, inner=True, group=path)
            self.inside(Frame(f"{path}.{index}"), node.sequence, below)
            inner += below.results
            if below.failed or below.stopped:
                failed.append(index)
            results.append(item_result(f"{path}.{index}", below))
        world.results.extend(inner)
        error = "BranchError" if failed and node.on_failure == "fail" else None
        return self.commit(node, path, world, {"results": results, "failed": failed}, error=error, kind="map")

    def loop(self, node: LoopNode, path: str, world: World) -> None:
        number, score, met, outputs = 0, 0.0, False, {}
        while number < node.max_loops and not met:
            number += 1
            nodes = {**world.nodes, **node.body.nodes}
            below = world.below(nodes=nodes, round=number, inner=True)
            self.inside(Frame(f"{path}[{number}]"), node.body.sequence, below)
            world.results.extend(below.results)
            outputs = below.outputs
            scores = [o["score"] for o in outputs.values() if isinstance(o, dict) and "score" in o]
            score = float(scores[0]) if scores else (node.fallback_score or 0.0)
            if not any(seen.status == "success" for seen in below.results):
                score = 0.0
            met = score >= node.score_threshold
        output = {"result": outputs, "loops_completed": number, "final_score": score, "threshold_met": met}
        shown = {**output, "response": output, "confidence": 1.0, "internal_reasoning": "", "status": "success"}
        self.commit(node, path, world, output, kind="loop", shown=shown)

    def path(self, node: PathNode, path: str, world: World) -> None:
        source = world.sees.get(node.source.split(".")[0])
        steps = source.get("target") if isinstance(source, dict) and source.get("status") != "error" else None
        around = set(re.split(r"[./\[\]]+", path))
        names = [name for name in steps or () if self.is_agent(name, world) and name not in around]
        nothing = {"response": None, "executed_path": [], "results": {}, "status": "error"}
        if not names:
            return self.commit(node, path, world, nothing, error="PathNotFound", kind="path")
        below = world.below(inner=True)
        frame = Frame(f"{path}.0")
        ran: list[str] = []
        given: dict[str, Any] = {}
        errors: list[str] = []
        worked = 0
        aborted = False
        for name in names:
            stopped = False
            if name not in world.nodes:
                errors.append(name)
            else:
                number = frame.counts.get(name, 0) + 1
                at = f"{frame.path}/{name}" + (f"#{number}" if number > 1 else "")
                below.stopped = None
                self.inside(frame, [name], below)
                stopped = below.stopped is not None
                seen = next(one for one in below.results if one.path == at)
                ran.append(name)
                given[name] = seen
                if seen.status == "success" and not stopped:
                    worked += 1
                    continue
                errors.append(name)
            if stopped or node.on_failure == "abort":
                aborted = True
                break
        world.results.extend(below.results)
        failed = aborted or not worked
        answers = (answer_of(other, below.results) for other in reversed(below.results))
        output: dict[str, Any] = {
            "response": next((answer for answer in answers if answer is not None), None),
            "executed_path": ran,
            "results": {name: envelope(seen) for name, seen in given.items()},
            "status": "error" if failed else "partial" if errors else "success",
        }
        return self.commit(node, path, world, output, error="AgentError" if failed else None, kind="path")

    def is_agent(self, name: str, world: World) -> bool:
        node = world.nodes.get(name)
        return node is None or isinstance(node, AgentNode | FailoverNode | MapNode)

    def failover(self, node: FailoverNode, path: str, world: World) -> None:
        for index, child in enumerate(node.children):
            below = world.below(inner=True)
            frame = Frame(f"{path}.{index}")
            try:
                self.walk(frame, (), below, child)
                for fork in frame.opened:
                    self.close(fork, below)
            except Stopped as stop:
                self.abandon(frame, below)
                below.stopped = str(stop)
            world.results.extend(below.results)
            done = next(seen for seen in below.results if seen.path == f"{path}.{index}/{child.id}")
            if not below.stopped and usable(done):
                response = done.output.get("response", done.output) if isinstance(done.output, dict) else done.output
                envelope = {"result": done.output, "response": response, "status": "success", "component_id": child.id}
                output = {"result": envelope, "successful_child": child.id, child.id: done.output}
                output |= {"response": response, "status": "success"}
                return self.commit(node, path, world, output, kind="failover")
        output = {"result": "All children failed", "status": "failed", "successful_child": None}
        return self.commit(node, path, world, output, error="FailoverExhausted", kind="failover")


def envelope(seen: Seen) -> dict[str, Any]:
    output = seen.output
    response = output.get("response", output) if isinstance(output, dict) else output
    whole = {"result": output, "response": response, "status": seen.status, "component_id": seen.node_id}
    return {**whole, "error_type": seen.error} if seen.error else whole


def move_behind(results: list[Seen], start: int, path: str) -> None:
    """What is there from `start` on stands right behind the visit of `path`: nobody joined that fork."""
    moved = results[start:]
    del results[start:]
    place = next(index for index, seen in enumerate(results) if seen.path == path) + 1
    results[place:place] = moved


def usable(seen: Seen) -> bool:
    if seen.status != "success":
        return False
    output = seen.output
    return bool(output.get("response", True)) if isinstance(output, dict) else bool(output)


def flat(branch: Sequence[str], nodes: Mapping[str, Node]) -> Iterator[str]:
    """The ids of a branch, those of nested lists of `targets` included."""
    for node_id in branch:
        node = nodes[node_id]
        if isinstance(node, ForkNode) and node.awaited:
            for inner in node.branches:
                yield from flat(inner, nodes)
        else:
            yield node_id


def merged(fork: Fork, branches: list[list[str]], settled: Sequence[int], winners: Sequence[int]) -> dict[str, Any]:
    taken: dict[str, Any] = {}
    failed: list[str] = []
    cancelled: list[str] = []
    for index, branch in enumerate(fork.node.branches):
        members = list(flat(branch, fork.at.nodes))
        world = fork.ended.get(index) if index in settled else None
        if world is None:
            cancelled += members
            continue
        for member in members:
            if member in world.failed:
                failed.append(member)
            if index in winners and member in world.outputs:
                taken[member] = world.outputs[member]
            elif index in winners and world.stopped:
                failed += [member] if member not in failed else []
                taken[member] = wrong(world.stopped)
    output = {**taken, "status": "done", "merged": taken, "failed": failed}
    return {**output, "cancelled": cancelled} if cancelled else output


def wrong(error: str) -> dict[str, Any]:
    return {"error": "", "error_type": error, "status": "error"}


def text_of(output: Any) -> str:
    return output["response"] if isinstance(output, dict) and isinstance(output.get("response"), str) else ""


def find_answer(results: Sequence[Seen]) -> Any:
    for wanted in ("terminal", "outer"):
        for seen in reversed(results):
            if seen.terminal if wanted == "terminal" else not seen.inner:
                answer = answer_of(seen, results)
                if answer is not None:
                    return answer
    return None


def answer_of(seen: Seen, results: Sequence[Seen]) -> Any:
    if seen.status != "success" or seen.kind in {"router", "fork", "join"}:
        return None
    if seen.kind == "agent":
        return seen.output["response"]
    if seen.kind == "map" and not seen.output["results"]:
        return []
    below = f"{seen.path}[{seen.output['loops_completed']}]/" if seen.kind == "loop" else f"{seen.path}."
    inside = [other for other in results if other.path.startswith(below)]
    if seen.kind != "map":
        found = (answer_of(other, results) for other in reversed(inside))
        return next((answer for answer in found if answer is not None), None)
    items: dict[int, list[Seen]] = {}
    for other in inside:
        items.setdefault(int(other.path[len(below) :].partition("/")[0]), []).append(other)
    answers: list[Any] = []
    for _, visits in sorted(items.items()):
        found = (answer_of(other, visits) for other in reversed(visits))
        answers += [answer for answer in found if answer is not None and not isinstance(answer, list)][:1]
    return answers or None


def item_result(frame: str, item: World) -> Any:
    """The output of what would be the item's answer, joins counted; else its last output."""
    if item.stopped:
        return wrong(item.stopped)
    own = [
        seen
        for seen in item.results
        if seen.kind not in {"router", "fork"} and seen.status != "cancelled" and is_own(frame, seen.path, item.nodes)
    ]
    for seen in [*reversed([seen for seen in item.results if seen.terminal]), *reversed(own)]:
        if (seen.kind == "join" and seen.status == "success") or answer_of(seen, item.results) is not None:
            return shown(seen)
    return shown(own[-1]) if own else None


def is_own(frame: str, path: str, nodes: Mapping[str, Node]) -> bool:
    """No part of a loop, a map or a failover in the frame: what is around it are forks alone."""
    *around, _ = path.removeprefix(f"{frame}/").split("/")
    names = [re.sub(r"(#\d+)?(\.\d+|\[\d+\])$", "", part).replace("%2E", ".") for part in around]
    return all(isinstance(nodes.get(name), ForkNode) for name in names)


def shown(seen: Seen) -> Any:
    """An output as later visits see it."""
    output = seen.output
    if seen.error is not None:
        return {**(output if isinstance(output, dict) else {}), **wrong(seen.error)}
    if seen.kind == "loop":
        return {**output, "response": output, "confidence": 1.0, "internal_reasoning": "", "status": "success"}
    return output


def comparable(results: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Results of either interpreter as plain values, without times."""
    return [
        (
            seen.path,
            seen.node_id,
            str(seen.status),
            clean(seen.output) if seen.output is not None else None,
            seen.error if seen.error is None or isinstance(seen.error, str) else seen.error.kind,
            seen.attempts,
            seen.group,
            seen.inner,
        )
        for seen in results
    ]


__all__ = ["Reference", "Scope", "comparable"]
