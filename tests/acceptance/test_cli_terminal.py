"""On a terminal: a tree of the nodes while the run goes on, then the answer; run data cannot send escape sequences."""

import re
from collections.abc import Callable

from support.terminal import on_a_terminal

Write = Callable[[str, str], str]

SPREAD = """
orchestrator: {id: spread, strategy: sequential, agents: [all, together, answer]}
agents:
  - {id: all, type: fork, targets: [[left], [right]]}
  - {id: left, type: echo, delay: 0.3}
  - {id: right, type: failing, message: "bad\\e[2Jnews [bold]"}
  - {id: together, type: join, group: all}
  - {id: answer, type: template, prompt: "{{ input }}"}
"""
MANY = """
orchestrator: {id: many, strategy: sequential, agents: [each]}
agents:
  - {id: each, type: map, items: "range(300) | list", as: item, agents: [work]}
  - {id: work, type: echo, prompt: "{{ item }}"}
"""


def test_a_terminal_shows_a_tree_and_then_the_answer(orka, write: Write) -> None:
    code, shown = on_a_terminal(orka, "run", write("spread.yml", SPREAD), "the answer")
    assert code == 0
    for part in ("spread", "2 of 2 branches, 1 failed", "0: left", "1: right", "together", "bad\\x1b[2Jnews [bold]"):
        assert part in shown
    assert shown.rstrip().endswith("the answer")
    assert shown.count("\x1b[?25h") >= 1


def test_escape_sequences_of_run_data_do_not_reach_a_terminal(orka, write: Write) -> None:
    _, shown = on_a_terminal(orka, "run", write("spread.yml", SPREAD), "wiped \x1b[2J\x9b1m out")
    assert "\x1b[2J" not in shown
    assert "wiped \\x1b[2J\\x9b1m out" in shown


def test_quiet_draws_nothing(orka, write: Write) -> None:
    assert on_a_terminal(orka, "run", write("spread.yml", SPREAD), "only this", "--quiet") == (0, "only this\r\n")


def test_many_branches_are_one_counter(orka, write: Write) -> None:
    code, shown = on_a_terminal(orka, "run", write("many.yml", MANY), "x")
    assert code == 0
    assert "300 of 300 branches" in shown
    assert "work" not in shown.split("300 of 300 branches")[0]


def test_a_pure_agent_that_takes_long_is_shown_as_running(orka, write: Write) -> None:
    text = """
    orchestrator: {id: patient, strategy: sequential, agents: [both, j, slow]}
    agents:
      - {id: both, type: fork, targets: [[left], [right]]}
      - {id: left, type: echo, delay: 0.8}
      - {id: right, type: echo}
      - {id: j, type: join, group: both}
      - {id: slow, type: echo, delay: 0.8}
    """
    code, shown = on_a_terminal(orka, "run", write("patient.yml", text), "x")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"● 0: left  0\.[2-9] s", plain)
    assert re.search(r"● slow  0\.[2-9] s", plain)
