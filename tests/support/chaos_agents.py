"""The graph of the chaos tests, and their agents. `step`: every execution appends a line to a file, in one write that a kill
cannot tear, and takes a while that depends on nothing but its path."""

import asyncio
import contextlib
import os
import resource
import signal
from collections import Counter
from pathlib import Path
from zlib import crc32

from orka.agents.base import AgentInput
from orka.types import Json


async def step(task: AgentInput) -> Json:
    """Appends `<path> <idempotency key>` to the file that the run's input names. Answers with what it was shown."""
    _note(task)
    assert isinstance(task.input, dict)
    slowness = float(str(task.input.get("slowness", 1)))
    await asyncio.sleep(slowness * (0.02 + crc32(task.path.encode()) % 40 / 1000))
    return f"{task.node_id}({task.text})" if task.prompt is not None else f"{task.node_id}"


def _note(task: AgentInput) -> None:
    assert isinstance(task.input, dict)
    line = f"{task.path} {task.idempotency_key}\n".encode()
    file = os.open(str(task.input["file"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def executions(file: Path) -> Counter[str]:
    """How often each path was executed."""
    if not file.exists():
        return Counter()
    return Counter(line.split(" ")[0] for line in file.read_text().splitlines())


_STEP = 'type: function, function: "support.chaos_agents:step"'
GRAPH = f"""
orchestrator: {{id: chaos, agents: [intro, first, spread, gather, second, tell]}}
agents:
  - {{id: intro, type: template, prompt: "hello {{{{ input.name }}}}"}}
  - {{id: first, {_STEP}, prompt: "{{{{ previous_outputs.intro.response }}}}"}}
  - {{id: spread, type: fork, targets: [[left, inner, inner_join, after], [flaky, right], [race, winner, late], [items]]}}
  - {{id: left, {_STEP}}}
  - {{id: inner, type: fork, targets: [[deep, deepest, deepest_join], [deeper]]}}
  - {{id: deep, {_STEP}}}
  - {{id: deepest, type: fork, targets: [[low], [lower]]}}
  - {{id: low, {_STEP}, prompt: "{{{{ previous_outputs.deep.response }}}}"}}
  - {{id: lower, {_STEP}}}
  - {{id: deepest_join, type: join, group: deepest}}
  - {{id: deeper, {_STEP}}}
  - {{id: inner_join, type: join, group: inner}}
  - id: after
    {_STEP.replace(", ", chr(10) + "    ")}
    prompt: >-
      {{{{ previous_outputs.low.response }}}} {{{{ previous_outputs.lower.response }}}}
      {{{{ previous_outputs.deeper.response }}}}
  - {{id: flaky, type: failing, prompt: "at last", times: 1, retry: {{attempts: 3, delay: 0.02}}}}
  - {{id: right, {_STEP}, prompt: "{{{{ previous_outputs.flaky.response }}}}"}}
  - {{id: race, type: fork, targets: [[quick], [slow, slower]]}}
  - {{id: quick, {_STEP}}}
  - {{id: slow, {_STEP}}}
  - {{id: slower, {_STEP}}}
  - {{id: winner, type: join, group: race, mode: any}}
  - {{id: late, {_STEP}}}
  - {{id: items, type: map, items: "range(4) | list", as: item, agents: [one, two], max_concurrency: 2}}
  - {{id: one, {_STEP}, prompt: "{{{{ item }}}}"}}
  - {{id: two, {_STEP}, prompt: "{{{{ previous_outputs.one.response }}}}"}}
  - {{id: gather, type: join, group: spread}}
  - {{id: second, {_STEP}, prompt: "{{{{ previous_outputs.gather.after.response }}}}"}}
  - id: tell
    type: template
    prompt: >-
      {{{{ previous_outputs.second.response }}}} | {{{{ previous_outputs.right.response }}}}
      | {{{{ previous_outputs.late.response }}}}
      | {{% for item in previous_outputs["items"].results %}}{{{{ item.response }}}} {{% endfor %}}
"""
FORKS = frozenset({"spread", "inner", "deepest", "race", "items"})
"""Ids of the nodes whose branches are tasks."""
LOSERS = ("spread.2/race.",)
"""Where branches may be cut off."""


async def die(task: AgentInput) -> Json:
    """Takes its own process down."""
    _note(task)
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()


def hoard(task: AgentInput) -> Json:
    """Wants more memory than its process may have."""
    _note(task)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    return len(bytearray(1 << 30))


async def forever(task: AgentInput) -> Json:
    """Never answers."""
    _note(task)
    await asyncio.Event().wait()


async def stubborn(task: AgentInput) -> Json:
    """Never answers, and goes on when it is cancelled."""
    _note(task)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
