"""Random graphs as YAML: everything that the interpreter knows, nested. `pick(n)` chooses a number below n, so that
hypothesis and a seeded generator can both drive it; 0 is always the plainest choice."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import yaml
from hypothesis import strategies as st
from support.probe import ALWAYS, registry

from orka.graph.graph import Graph
from orka.graph.load import check_graph
from orka.template.environment import Environment

Pick = Callable[[int], int]
_environment = Environment()
_specs = registry().specs()


def load(text: str) -> Graph:
    """A checked graph; the report when the text has an error."""
    report = check_graph(text, source="random.yml", specs=_specs, compile_template=_environment.compile)
    assert report.graph is not None, "\n".join(fault.render() for fault in report.faults) + "\n" + text
    return report.graph


class Builder:
    """Makes one graph."""

    def __init__(self, pick: Pick, *, depth: int = 4, size: int = 24, any_joins: bool = True) -> None:
        self.pick = pick
        self.left = size
        self.depth = depth
        self.any_joins = any_joins
        self.count = 0
        self.ids: list[str] = []
        """Of nodes in any scope: what probes may read."""
        self.probes: list[str] = []

    def text(self) -> str:
        agents: list[dict[str, Any]] = []
        sequence = self.sequence(agents, [], self.depth, most=5)
        return yaml.safe_dump({"orchestrator": {"id": "random", "agents": sequence}, "agents": agents}, sort_keys=False)

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def chance(self, one_in: int) -> bool:
        return self.pick(one_in) == one_in - 1

    def sequence(self, agents: list[dict[str, Any]], units: list[list[str]], depth: int, *, most: int) -> list[str]:
        """Ids of one to `most` units; `units` are those that may be used again here."""
        ids: list[str] = []
        known = list(units)
        for _ in range(1 + self.pick(most)):
            if known and self.chance(8):
                ids += known[self.pick(len(known))]
                continue
            unit = self.unit(agents, known, depth)
            known.append(unit)
            ids += unit
        return ids

    def unit(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        if depth == 0 or self.left <= 0:
            return [self.probe(agents)]
        kinds = [
            self.one_probe, self.one_probe, self.fork, self.loop, self.failover,
            self.router, self.map, self.fork, self.one_probe, self.chooser, self.path,
        ]  # fmt: skip
        return kinds[self.pick(len(kinds))](agents, known, depth - 1)

    def one_probe(self, agents: list[dict[str, Any]], _known: list[list[str]], _depth: int) -> list[str]:
        return [self.probe(agents)]

    def probe(self, agents: list[dict[str, Any]], **more: Any) -> str:
        self.left -= 1
        node: dict[str, Any] = {"id": self.name("p"), "type": "probe"}
        if self.ids and self.pick(3):
            node["reads"] = [self.ids[self.pick(len(self.ids))] for _ in range(1 + self.pick(2))]
        if self.probes and self.chance(3):
            node["prompt"] = f"say {{{{ previous_outputs.{self.probes[self.pick(len(self.probes))]}.response }}}}"
        if self.chance(5):
            node["fails"] = ALWAYS if self.pick(2) else 1
            self.policy(node)
        if self.chance(3):
            node["pure"] = False
        if self.chance(12):
            node["is_terminal"] = True
        node |= more
        agents.append(node)
        self.ids.append(node["id"])
        self.probes.append(node["id"])
        return node["id"]

    def policy(self, node: dict[str, Any]) -> None:
        if self.pick(2):
            node["retry"] = {"attempts": 2, "delay": 0, "jitter": 0}
        if self.chance(3):
            node["on_error"] = "stop"

    def fork(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        name = self.name("fork")
        node: dict[str, Any] = {"id": name, "type": "fork"}
        targets: list[Any] = []
        for _ in range(1 + self.pick(3)):
            branch: list[Any] = list(self.sequence(agents, known, depth, most=2))
            if depth and self.chance(6):
                branch.append([self.sequence(agents, known, depth - 1, most=1) for _ in range(2)])
            targets.append(branch)
        node["targets"] = targets
        if self.chance(4):
            node["mode"] = "sequential"
        elif self.chance(3):
            node["max_concurrency"] = 1 + self.pick(2)
        agents.append(node)
        self.ids.append(name)
        if self.chance(4):
            return [name]
        between = [self.probe(agents) for _ in range(self.pick(2))]
        return [name, *between, self.join(agents, name, len(targets))]

    def join(self, agents: list[dict[str, Any]], fork: str, branches: int) -> str:
        node: dict[str, Any] = {"id": self.name("join"), "type": "join", "group": fork}
        mode = self.pick(4) if self.any_joins else 0
        if mode == 2:
            node["mode"] = "any"
        elif mode == 3:
            node |= {"mode": "quorum", "min_success": 1 + self.pick(branches)}
        elif self.chance(3):
            node["on_failure"] = "fail"
        if self.chance(5):
            node["on_error"] = "stop"
        agents.append(node)
        self.ids.append(node["id"])
        return node["id"]

    def loop(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        inner: list[dict[str, Any]] = []
        sequence = self.sequence(inner, known, depth, most=2)
        if self.pick(4):
            more = {"prompt": "round {{ get_loop_number() }}", "base": self.pick(8) / 10}
            sequence.insert(self.pick(len(sequence) + 1), self.probe(inner, **more))
        node: dict[str, Any] = {
            "id": self.name("loop"),
            "type": "loop",
            "max_loops": 1 + self.pick(3),
            "score_threshold": 0.8,
            "score_extraction_key": "score",
            "internal_workflow": {"orchestrator": {"agents": sequence}, "agents": inner},
        }
        if self.chance(3):
            node["fallback_score"] = 0.9
        agents.append(node)
        self.ids.append(node["id"])
        return [node["id"]]

    def failover(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        children: list[Any] = []
        for _ in range(1 + self.pick(3)):
            if depth and self.chance(3):
                kind = (self.loop, self.map, self.failover, self.router, self.path, self.chooser)[self.pick(6)]
                before = len(agents)
                (name,) = kind(agents, known, depth - 1)[-1:]
                if kind not in (self.router, self.path, self.chooser) or self.pick(2):
                    children.append(name)
                    continue
                del agents[before:]
            inline: list[dict[str, Any]] = []
            self.probe(inline, **({"fails": ALWAYS} if self.pick(2) else {}))
            children += inline
        node: dict[str, Any] = {"id": self.name("failover"), "type": "failover", "children": children}
        if self.chance(4):
            node["on_error"] = "stop"
        agents.append(node)
        self.ids.append(node["id"])
        return [node["id"]]

    def router(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        decider = self.probe(agents, route=("left", "right", "nowhere")[self.pick(3)])
        node: dict[str, Any] = {
            "id": self.name("router"),
            "type": "router",
            "decision_key": f"{decider}.route",
            "routing_map": {
                "left": self.sequence(agents, known, depth, most=2),
                "right": self.sequence(agents, known, depth, most=2),
            },
        }
        if self.pick(2):
            node["fallback_route"] = self.sequence(agents, [*known, [decider]], depth, most=2)
        agents.append(node)
        self.ids.append(node["id"])
        twice = [node["id"]] if self.chance(4) else []
        return [decider, node["id"], *twice]

    def chooser(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        """An agent that names what runs next; with `once` some of it waits behind it."""
        goes = self.sequence(agents, known, depth, most=2)
        again = goes[self.pick(len(goes))]
        waits = [self.probe(agents), *([again] if again in self.probes else []), self.probe(agents)]
        if self.pick(2):
            goes.insert(self.pick(len(goes) + 1), waits[self.pick(len(waits))])
        first = self.probe(agents, goes=goes, once=bool(self.pick(2)))
        return [*waits, first] if self.chance(4) else [first, *waits]

    def path(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        """A proposal and the executor that follows it; the proposal may name what is no agent, or nothing at all."""
        steps = self.sequence(agents, known, depth, most=2)
        steps.append(self.probe(agents, pure=False, **({"fails": ALWAYS} if self.chance(3) else {})))
        if self.chance(3):
            steps.insert(self.pick(len(steps)), "nobody")
        if self.chance(3):
            steps.append(steps[0])
        proposer = self.probe(agents, proposes=steps)
        node: dict[str, Any] = {
            "id": self.name("path"),
            "type": "path_executor",
            "path_source": proposer if self.pick(4) else f"{proposer}.result.target",
        }
        if self.chance(3):
            node["on_agent_failure"] = "abort"
        if self.chance(4):
            node["on_error"] = "stop"
        if self.chance(6):
            node["is_terminal"] = True
        agents.append(node)
        self.ids.append(node["id"])
        return [proposer, node["id"]]

    def map(self, agents: list[dict[str, Any]], known: list[list[str]], depth: int) -> list[str]:
        source = self.probe(agents, size=self.pick(4), fails=0)
        first = self.probe(agents, prompt="do {{ item }} at {{ index }}")
        node: dict[str, Any] = {
            "id": self.name("map"),
            "type": "map",
            "items": f"previous_outputs.{source}.items",
            "agents": [first, *(self.sequence(agents, known, depth, most=1) if self.pick(2) else [])],
        }
        if self.chance(3):
            node["on_failure"] = "fail"
            if self.chance(3):
                node["on_error"] = "stop"
        if self.chance(3):
            node["max_concurrency"] = 1
        agents.append(node)
        self.ids.append(node["id"])
        return [source, node["id"]]


@st.composite
def graph_texts(draw: st.DrawFn, *, size: int = 24, any_joins: bool = True) -> str:
    """Hypothesis' choice."""
    builder = Builder(lambda n: draw(st.integers(0, n - 1)) if n > 1 else 0, size=size, any_joins=any_joins)
    return builder.text()


def random_text(seed: int, *, size: int = 24, any_joins: bool = True) -> str:
    """The same graph for the same seed."""
    return Builder(Random(seed).randrange, size=size, any_joins=any_joins).text()
