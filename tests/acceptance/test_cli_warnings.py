"""Whoever reads an answer is told of failures and warnings on the way to it, also of those inside loops and maps."""

import json
from collections.abc import Callable

import pytest

Write = Callable[[str, str], str]

HEAD = "orchestrator: {id: warned, strategy: sequential, agents: [AGENTS]}\nagents:\n"
ENTRIES = """
  - {id: ok, type: echo, value: fine}
  - {id: bad, type: failing, message: "no luck"}
  - {id: t, type: template, prompt: "[{{ nothing }}]"}
  - {id: r, type: router, decision_key: ok, routing_map: {other: bad}}
  - {id: m, type: map, items: "[1, 2, 3]", agents: [bad]}
  - {id: some, type: map, items: "[1, 2, 3]", agents: [one, pick]}
  - {id: one, type: template, prompt: "{{ item }}"}
  - {id: pick, type: router, decision_key: one.response, routing_map: {"2": bad, default: ok}}
  - {id: l, type: loop, max_loops: 2, internal_workflow: {orchestrator: {agents: [bad]}}}
  - {id: deep, type: loop, max_loops: 2, internal_workflow: {orchestrator: {agents: [m]}}}
  - {id: f, type: failover, children: [bad, ok]}
  - {id: none, type: failover, children: [bad]}
  - {id: quiet, type: map, items: "[1]", agents: [f]}
  - {id: hurried, type: fork, timeout: 0.2, targets: [[ok], [slow]]}
  - {id: slow, type: echo, delay: 30}
  - {id: met, type: join, group: hurried}
  - {id: race, type: fork, targets: [[ok], [slow]]}
  - {id: first, type: join, group: race, mode: any}
  - {id: undefined, type: loop, max_loops: 2, internal_workflow: {orchestrator: {agents: [t, t2]}, agents: [
       {id: t2, type: template, prompt: "{{ past.a }}{{ past.b }}{{ past.c }}{{ past.d }}{{ past.e }}"}]}}
"""


def warned(here, write: Write, agents: str, *options: str) -> list[str]:
    """The warnings of the run itself; those of the file come with its name."""
    done = here("run", write("warned.yml", HEAD.replace("AGENTS", agents) + ENTRIES), "x", *options)
    assert done.returncode == 0
    return [line for line in done.stderr.splitlines() if line.startswith("warning: ")]


FAILING = "AgentError: no luck"


@pytest.mark.parametrize(
    ("agents", "lines"),
    [
        ("ok", []),
        ("bad, ok", [f"bad failed: {FAILING}"]),
        ("ok, m", [f"m: 3 of 3 items failed (first: m.0/bad: {FAILING})"]),
        ("ok, some", [f"some: 1 of 3 items failed (first: some.1/bad: {FAILING})"]),
        ("ok, l", [f"l: failures in 2 of 2 rounds (first: l[1]/bad: {FAILING})"]),
        ("ok, deep", [f"deep: failures in 2 of 2 rounds (first: deep[1]/m.0/bad: {FAILING})"]),
        ("f", []),
        ("hurried, met", ["hurried.1/slow failed: RunTimeout: not done within 0.2 s"]),
        ("race, first", []),  # a loser is no failure
        ("quiet", []),
        ("none, ok", ["none failed: FailoverExhausted: every child failed: bad: no luck"]),
        ("t", ["t: `{{ nothing }}` (line 1): 'nothing' is undefined"]),
        (
            "ok, r",
            [
                "r: no route of 'r' fits ok = 'fine' (routes: 'other'; a `default` would catch the rest); "
                "going on without one"
            ],
        ),
    ],
)
def test_failures_and_warnings_are_told(agents: str, lines: list[str], here, write: Write) -> None:
    assert warned(here, write, agents) == [f"warning: {line}" for line in lines]


def test_quiet_tells_nothing(here, write: Write) -> None:
    assert warned(here, write, "bad, m, t, ok", "--quiet") == []


def test_warnings_that_repeat_are_told_once_and_many_are_counted(here, write: Write) -> None:
    told = warned(here, write, "undefined")
    assert len(told) == 6
    assert told[0].startswith("warning: undefined[1]/t: ")
    assert told[-1].startswith("warning: 1 more warnings; see orka runs show ")


def test_show_has_the_warnings(here, write: Write) -> None:
    told = warned(here, write, "t")
    run_id = json.loads(here("runs", "list", "--limit", "1", "--json").stdout)[0]["run_id"]
    shown = json.loads(here("runs", "show", run_id, "--json").stdout)
    assert [f"warning: t: {text}" for text in shown["visits"][0]["warnings"]] == told
    text = here("runs", "show", run_id).stdout.splitlines()
    assert text[-2:] == ["WARNINGS", told[0].removeprefix("warning: ")]


def test_paths_of_nested_targets_are_readable(here, write: Write) -> None:
    text = """
orchestrator: {id: nested, strategy: sequential, agents: [outer, j, ok]}
agents:
  - {id: outer, type: fork, targets: [[ok, [[bad], [ok]]]]}
  - {id: j, type: join, group: outer}
  - {id: bad, type: failing}
  - {id: ok, type: echo}
"""
    done = here("run", write("nested.yml", text), "x")
    assert "warning: outer.0/outer.0.1.0/bad failed: " in done.stderr
    run_id = json.loads(here("runs", "list", "--limit", "1", "--json").stdout)[0]["run_id"]
    assert "\nouter.0/outer.0.1.0/bad " in here("runs", "show", run_id).stdout
    assert "%" not in here("runs", "events", run_id).stdout
    assert "outer.0/outer%2E0%2E1.0/bad" in here("runs", "events", run_id, "--json").stdout
