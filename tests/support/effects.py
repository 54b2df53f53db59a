"""An agent that touches the world: every execution appends a line to a file, in one write that a kill cannot tear."""

import asyncio
import os
from collections import Counter
from pathlib import Path

from orka.agents.base import AgentInput
from orka.types import Json


async def effect(task: AgentInput) -> Json:
    """Appends `<path> <idempotency key>` to the file that the run's input names, and takes a while after that."""
    assert isinstance(task.input, dict)
    line = f"{task.path} {task.idempotency_key}\n".encode()
    file = os.open(str(task.input["file"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    await asyncio.sleep(0.012)
    return f"did {task.path}"


def executions(file: Path) -> Counter[str]:
    """How often each path was executed."""
    if not file.exists():
        return Counter()
    return Counter(line.split(" ")[0] for line in file.read_text().splitlines())


GRAPH = """
orchestrator: {id: killed, agents: [intro, first, gate, spread, gather, refine, every, careful, tell]}
agents:
  - {id: intro, type: template, prompt: "hello {{ input.name }}"}
  - {id: first, type: function, function: "support.effects:effect"}
  - {id: gate, type: router, params: {decision_key: intro, routing_map: {"hello you": [second, plain]}}}
  - {id: second, type: function, function: "support.effects:effect"}
  - {id: plain, type: echo, prompt: "plain"}
  - {id: spread, type: fork, targets: [[pure, left], [right], [inner, after]]}
  - {id: pure, type: template, prompt: "pure {{ previous_outputs.first.response }}"}
  - {id: left, type: function, function: "support.effects:effect"}
  - {id: right, type: function, function: "support.effects:effect"}
  - {id: inner, type: fork, targets: [[deep], [deeper]]}
  - {id: deep, type: function, function: "support.effects:effect"}
  - {id: deeper, type: failing, times: 1, retry: {attempts: 2, delay: 0.01}}
  - {id: after, type: function, function: "support.effects:effect"}
  - {id: gather, type: join, group: spread}
  - id: refine
    type: loop
    max_loops: 3
    score_threshold: 0.85
    internal_workflow:
      orchestrator: {id: rounds, agents: [work, judge]}
      agents:
        - {id: work, type: function, function: "support.effects:effect"}
        - {id: judge, type: template, prompt: "SCORE: 0.{{ get_loop_number() + 6 }}"}
  - {id: every, type: map, items: "range(3) | list", as: item, agents: [one, two]}
  - {id: one, type: function, function: "support.effects:effect"}
  - {id: two, type: template, prompt: "{{ item }}: {{ previous_outputs.one.response }}"}
  - id: careful
    type: failover
    children:
      - {id: broken, type: failing}
      - {id: sound, type: function, function: "support.effects:effect"}
  - id: tell
    type: template
    prompt: >-
      {{ previous_outputs.second.response }}, {{ previous_outputs.gather.left.response }},
      {{ previous_outputs.gather.right.response }}, {{ previous_outputs.refine.final_score }},
      {{ previous_outputs.every.results | length }}, {{ previous_outputs.careful.response }}
"""
ANSWER = "did second, did spread.0/left, did spread.1/right, 0.9, 3, did careful.1/sound"
EFFECTS = {
    *("first", "second", "spread.0/left", "spread.1/right", "spread.2/inner.0/deep", "spread.2/after"),
    *("refine[1]/work", "refine[2]/work", "refine[3]/work", "every.0/one", "every.1/one", "every.2/one"),
    "careful.1/sound",
}
