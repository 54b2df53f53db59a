"""`orka run` and `orka resume` as a shell sees them: standard output, standard error and the exit code."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import wait_until

GREET = """
orchestrator: {id: greet, strategy: sequential, agents: [hello]}
agents:
  - {id: hello, type: template, prompt: "Hello, {{ input }}!"}
"""
ECHO = """
orchestrator: {id: echo, strategy: sequential, agents: [back]}
agents:
  - {id: back, type: echo}
"""
FAIL = """
orchestrator: {id: fail, strategy: sequential, agents: [first, bad]}
agents:
  - {id: first, type: echo}
  - {id: bad, type: failing, message: "no luck today", on_error: stop}
"""
CALL = """
orchestrator: {id: call, strategy: sequential, agents: [work]}
agents:
  - {id: work, type: function, function: "mine.tools:shout", on_error: stop}
"""

Write = Callable[[str, str], str]


def test_a_piped_answer_is_alone_on_standard_output(orka, write: Write) -> None:
    done = orka("run", write("greet.yml", GREET), "Ada")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, Ada!\n", "")


def test_a_value_that_is_no_string_is_printed_as_json(here, write: Write) -> None:
    done = here("--json-input", "run", write("echo.yml", ECHO), '{"a": [1, null]}')
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": [1, None]})


def test_strict_refuses_what_check_warns_of_and_fails_what_reads_undefined_names(here, write: Write) -> None:
    odd = write("odd.yml", GREET.replace("prompt:", "promt: x, prompt:"))
    assert here("run", odd, "Ada").returncode == 0
    refused = here("run", odd, "Ada", "--strict")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "odd.yml:4:" in refused.stderr
    assert "error:" in refused.stderr
    undefined = write("undefined.yml", GREET.replace("{{ input }}", "{{ input.name.first }}"))
    assert here("--json-input", "run", undefined, "{}").returncode == 0
    failed = here("--json-input", "run", undefined, "{}", "--strict")
    assert failed.returncode == 1
    assert "TemplateError" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "answer"),
    [
        (("-",), "from a pipe\n", "from a pipe\n"),
        (("--", "-"), "from a pipe\n", "-\n"),
        (("--", "-5 degrees"), "", "-5 degrees\n"),
        (("--json-input", "-"), '"quoted"\n', "quoted\n"),
        (("--json-input", "input.json"), "", "in a file\n"),
        (("",), "", "\n"),
    ],
)
def test_the_input_may_come_from_elsewhere(
    arguments: tuple[str, ...], stdin: str, answer: str, orka, write: Write
) -> None:
    write("input.json", '"in a file"')
    done = orka("run", write("echo.yml", ECHO), *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (0, answer)


def test_json_prints_the_log(here, write: Write) -> None:
    done = here("run", write("fail.yml", FAIL.replace(", on_error: stop", "")), "x", "--json")
    log = json.loads(done.stdout)
    assert [(entry["agent_id"], entry["payload"]["status"]) for entry in log] == [
        ("first", "success"),
        ("bad", "error"),
    ]


def test_watch_without_a_terminal_prints_lines_on_standard_error(here, write: Write) -> None:
    done = here("run", write("greet.yml", GREET), "Ada", "--watch")
    assert done.stdout == "Hello, Ada!\n"
    assert done.stderr == "run run.started\nhello success\nrun run.completed\n"


def test_a_failed_run_is_one_message_and_exit_code_1(orka, write: Write) -> None:
    done = orka("run", write("fail.yml", FAIL), "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: " in done.stderr
    assert "no luck today" in done.stderr
    assert "Traceback" not in done.stderr
    assert "orka resume " in done.stderr


def test_functions_are_called_only_with_permission(orka, write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write("mine/__init__.py", "")
    write("mine/tools.py", "def shout(task):\n    return task.text.upper()\n")
    file = write("call.yml", CALL)
    refused = orka("run", file, "hi")
    assert refused.returncode == 1
    assert "--allow-functions" in refused.stderr
    assert orka("run", file, "hi", "--allow-functions=other,mine.other").returncode == 1
    done = orka("run", file, "hi", "--allow-functions=other,mine")
    assert (done.returncode, done.stdout) == (0, "HI\n")


def test_an_unreachable_redis_is_exit_code_3(orka, write: Write) -> None:
    done = orka("run", write("greet.yml", GREET), "x", REDIS_URL="redis://127.0.0.1:1/0")
    assert (done.returncode, done.stdout) == (3, "")
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    verbose = orka("-v", "run", "greet.yml", "x", REDIS_URL="redis://127.0.0.1:1/0")
    assert verbose.returncode == 3
    assert "Traceback (most recent call last)" in verbose.stderr


def newest(here) -> str:
    return json.loads(here("runs", "list", "--json").stdout)[0]["run_id"]


def test_a_completed_run_resumed_gives_its_stored_answer(here, write: Write) -> None:
    here("run", write("greet.yml", GREET), "Ada")
    run_id = newest(here)
    done = here("resume", run_id)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, Ada!\n", "")


def test_an_unknown_run_is_exit_code_5(here) -> None:
    for run_id in ("00000000-0000-7000-8000-000000000000", "ffff"):
        done = here("resume", run_id)
        assert (done.returncode, done.stdout) == (5, "")
        assert run_id in done.stderr


def test_the_beginning_of_a_run_id_is_enough_while_it_is_unique(here, write: Write) -> None:
    file = write("echo.yml", ECHO)
    here("run", file, "one")
    here("run", file, "two")
    run_id = newest(here)
    assert here("resume", run_id[:-4]).stdout == "two\n"
    several = here("resume", run_id[:2])
    assert several.returncode == 2
    assert run_id in several.stderr


def test_a_run_that_is_alive_is_not_resumed_by_another_process(orka, here, write: Write, tmp_path: Path) -> None:
    file = write("slow.yml", ECHO.replace("id: echo", "id: slow").replace("type: echo", "type: echo, delay: 50"))
    running = orka.start("run", file, "x")
    wait_until(lambda: '"slow"' in here("runs", "list", "--status", "running", "--json").stdout, 20)
    refused = here("resume", newest(here))
    assert refused.returncode == 4
    assert f"pid {running.pid}" in refused.stderr


def test_resuming_a_completed_run_prints_what_the_run_printed(here, write: Write) -> None:
    file = write(
        "again.yml",
        """
        orchestrator: {id: again, strategy: sequential, agents: [spread, gather, refine, each]}
        agents:
          - {id: spread, type: fork, targets: [[quick], [slow]]}
          - {id: quick, type: template, prompt: "quick {{ input }}"}
          - {id: slow, type: echo, delay: 30}
          - {id: gather, type: join, group: spread, mode: any}
          - {id: refine, type: loop, max_loops: 2, internal_workflow: {orchestrator: {agents: [draft]}, agents: [
             {id: draft, type: template, prompt: "round {{ get_loop_number() }} at {{ now() }}"}]}}
          - {id: each, type: map, items: "[1, 2]", agents: [quick]}
        """,
    )
    printed = here("run", file, "hi", "--json")
    log = json.loads(printed.stdout)
    assert [entry["payload"]["status"] for entry in log] == [
        "success",
        "success",
        "cancelled",
        "success",
        "success",
        "success",
    ]
    again = here("resume", log[0]["run_id"], "--json")
    assert (again.returncode, again.stdout, again.stderr) == (0, printed.stdout, "")
    answer = here("resume", log[0]["run_id"])
    assert (answer.returncode, json.loads(answer.stdout)) == (0, ["quick hi", "quick hi"])


LIMITED = """
orchestrator: {id: limited, agents: [first, slow], deadline: 0.3}
agents:
  - {id: first, type: echo, prompt: one}
  - {id: slow, type: echo, delay: 0.6, prompt: two}
"""


@pytest.mark.parametrize(
    ("limit", "larger", "key"),
    [("deadline: 0.3", "deadline: 60", "deadline"), ("max_steps: 1", "max_steps: 2", "max_steps")],
)
def test_a_run_that_ended_at_a_limit_says_how_a_larger_one_lets_it_go_on(
    here, write: Write, limit: str, larger: str, key: str
) -> None:
    done = here("run", write("limited.yml", LIMITED.replace("deadline: 0.3", limit)), "x")
    advice = re.search(rf"resume it with a larger `{key}` in FILE: orka resume (\S+) --graph FILE", done.stderr)
    assert done.returncode == 1
    assert advice is not None, done.stderr
    again = here("resume", advice[1])
    assert (again.returncode, advice[0] in again.stderr) == (1, True)
    changed = write("larger.yml", LIMITED.replace("deadline: 0.3", larger))
    resumed = here("resume", advice[1], "--graph", changed)
    assert (resumed.returncode, resumed.stdout) == (0, "two\n")
