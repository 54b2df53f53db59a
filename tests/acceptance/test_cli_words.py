"""What agents say while they answer, and what that costs, on the command line."""

import json
import re
import signal
from collections.abc import Callable

import pytest
from servers import wait_until
from support.terminal import on_a_terminal

Write = Callable[[str, str], str]

AGENTS = """
import asyncio
from orka import AgentOutput, Usage, agent

@agent("talker")
async def talk(task):
    open(f"reached-{task.node_id}", "w").close()
    for word in task.text.split():
        if task.emit:
            task.emit(word + " ")
        await asyncio.sleep(0.15)
    if task.attempt == 1 and task.node_id == "shy":
        raise ValueError("too shy")
    return AgentOutput(response=task.text, usage=Usage(prompt_tokens=1000, completion_tokens=234, cost_usd=0.0123))
"""
GRAPH = """
orchestrator: {id: words, agents: [bold, shy]}
agents:
  - {id: bold, type: talker, prompt: "the first \\e[2Jwords"}
  - {id: shy, type: talker, prompt: "well then", retry: {attempts: 2, delay: 0.01}}
"""


@pytest.fixture
def words(orka, write: Write) -> str:
    write("my_words.py", AGENTS)
    return write("words.yml", GRAPH)


def test_stream_prints_what_agents_say_and_the_answer_alone_on_standard_output(orka, words: str) -> None:
    done = orka("run", words, "x", "--import", "my_words", "--stream")
    assert (done.returncode, done.stdout) == (0, "well then\n")
    assert done.stderr.splitlines() == [
        "[bold] the first \\x1b[2Jwords ",
        "[shy] well then ",
        "[shy, attempt 2] well then ",
        "used 2,468 tokens (2,000 of prompts, 468 of answers), $0.0246",
    ]


def test_without_it_and_without_a_terminal_nothing_is_said(orka, words: str) -> None:
    done = orka("run", words, "x", "--import", "my_words")
    assert done.stderr == "used 2,468 tokens (2,000 of prompts, 468 of answers), $0.0246\n"
    assert orka("run", words, "x", "--import", "my_words", "--quiet").stderr == ""
    watched = orka("run", words, "x", "--import", "my_words", "--watch")
    assert "well" not in watched.stderr
    assert watched.stdout == "well then\n"


def test_stream_and_quiet_exclude_each_other(orka, words: str) -> None:
    refused = orka("run", words, "x", "--stream", "--quiet")
    assert refused.returncode == 2
    assert "--stream and --quiet exclude each other" in refused.stderr


def test_a_terminal_shows_the_last_words_of_a_running_agent(orka, words: str) -> None:
    code, shown = on_a_terminal(orka, "run", words, "x", "--import", "my_words")
    assert code == 0
    assert re.search(r"bold.*the first", shown)
    assert "\x1b[2Jwords" not in shown


def test_events_follow_shows_tokens_and_show_what_they_cost(orka, words: str) -> None:
    run_id = orka("submit", words, "x", "--import", "my_words", "--tokens", "--quiet").stdout.strip()
    follower = orka.start("runs", "events", run_id, "--follow", "--json")
    worker = orka.start("worker", "--import", "my_words")
    output, _ = follower.communicate(timeout=30)
    worker.terminate()
    events = [json.loads(line) for line in output.splitlines()]
    said = [event["data"]["text"] for event in events if event["kind"] == "node.token" and event["path"] == "bold"]
    assert "".join(said) == "the first \x1b[2Jwords "
    ids = [event["id"] for event in events if event["kind"] == "node.token"]
    again = orka("runs", "events", run_id, "--follow", "--json", "--from", ids[0])
    later = [json.loads(line) for line in again.stdout.splitlines()]
    assert [event["id"] for event in later if event["kind"] == "node.token"] == ids[1:]
    assert "node.token" in orka("runs", "events", run_id, "--follow").stdout
    assert "node.token" not in orka("runs", "events", run_id).stdout
    assert "$0.0123" in (shown := orka("runs", "show", run_id).stdout)
    assert "used        2,468 tokens (2,000 of prompts, 468 of answers), $0.0246" in shown
    assert re.search(r"PATH +STATUS +TIME +ATTEMPTS +TOKENS +COST +ERROR", shown)
    report = json.loads(orka("runs", "show", run_id, "--json").stdout)
    assert report["usage"] == {"prompt_tokens": 2000, "completion_tokens": 468, "cost_usd": 0.0246}
    assert report["visits"][0]["usage"]["completion_tokens"] == 234


def test_a_run_beyond_its_budget_says_how_to_go_on(orka, words: str, write: Write) -> None:
    write("words.yml", GRAPH.replace("{id: words,", "{id: words, budget: {tokens: 1000},"))
    failed = orka("run", words, "x", "--import", "my_words")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "BudgetExceeded" in failed.stderr
    found = re.search(r"resume it with a larger `budget` in FILE: orka resume (\S+) --graph FILE", failed.stderr)
    assert found is not None
    write("words.yml", GRAPH.replace("{id: words,", "{id: words, budget: {tokens: 9000},"))
    done = orka("resume", found[1], "--graph", words, "--import", "my_words")
    assert (done.returncode, done.stdout) == (0, "well then\n")
    assert "used 2,468 tokens" in done.stderr


def test_a_run_that_stops_at_its_budget_warns(orka, words: str, write: Write) -> None:
    write("words.yml", GRAPH.replace("{id: words,", "{id: words, budget: {usd: 0.01, on_exceed: stop},"))
    done = orka("run", words, "x", "--import", "my_words")
    assert done.returncode == 0
    assert done.stdout.startswith("the first")
    assert "warning: the run's budget was used up ($0.0123 of $0.01)" in done.stderr
    run_id = orka("runs", "list", "--json").stdout
    shown = orka("runs", "show", json.loads(run_id)[0]["run_id"]).stdout
    assert "the run's budget was used up" in shown


@pytest.mark.parametrize(("budget", "code"), [("tokens: 2468", 0), ("tokens: 1234", 1)])
def test_what_a_killed_process_has_used_counts_once(orka, words: str, write: Write, budget: str, code: int) -> None:
    write("words.yml", GRAPH.replace("{id: words,", f"{{id: words, budget: {{{budget}}},").replace("shy", "calm"))
    process = orka.start("run", words, "x", "--import", "my_words")
    reached = orka.folder / ("reached-calm" if code == 0 else "reached-bold")
    wait_until(reached.exists)
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    [run] = json.loads(orka("runs", "list", "--json", "--status", "running").stdout)
    done = orka("resume", run["run_id"], "--import", "my_words")
    assert done.returncode == code
    used = "2,468 tokens (2,000" if code == 0 else "1,234 tokens (1,000"
    assert f"used {used}" in done.stderr
    again = orka("resume", run["run_id"], "--import", "my_words")
    assert again.returncode == code
    assert f"used {used}" in again.stderr
