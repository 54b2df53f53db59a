"""`orka runs` and `orka system`: what happened, for people and for programs."""

import json
from collections.abc import Callable

import pytest
from servers import wait_until

Write = Callable[[str, str], str]

GRAPH = """
orchestrator: {id: NAME, strategy: sequential, agents: [one, two]}
agents:
  - {id: one, type: echo}
  - {id: two, type: KIND, on_error: stop}
"""


def made(here, write: Write, name: str, kind: str = "echo") -> dict[str, object]:
    """A run of its own graph, as the registry shows it."""
    here("run", write(f"{name}.yml", GRAPH.replace("NAME", name).replace("KIND", kind)), "the input \x1b[2J")
    listed = json.loads(here("runs", "list", "--json").stdout)
    return next(info for info in listed if info["graph"] == name)


def test_list_shows_runs_newest_first(here, write: Write) -> None:
    older = made(here, write, "list-older")
    newer = made(here, write, "list-newer", "failing")
    assert (older["status"], newer["status"]) == ("completed", "failed")
    assert older["input"] == "the input \x1b[2J"
    assert 0 < older["created_ms"] <= older["ended_ms"] <= newer["created_ms"]  # type: ignore[operator]
    two = json.loads(here("runs", "list", "--limit", "2", "--json").stdout)
    assert [info["run_id"] for info in two] == [newer["run_id"], older["run_id"]]
    failed = json.loads(here("runs", "list", "--status", "failed", "--limit", "1", "--json").stdout)
    assert [info["run_id"] for info in failed] == [newer["run_id"]]
    table = here("runs", "list", "--limit", "2").stdout
    assert table.splitlines()[0].split() == ["RUN", "STATUS", "GRAPH", "STARTED", "INPUT"]
    assert str(newer["run_id"]) in table.splitlines()[1]
    assert "\x1b" not in table


def test_show_tells_each_visit(here, write: Write) -> None:
    info = made(here, write, "show-me", "failing")
    shown = json.loads(here("runs", "show", str(info["run_id"]), "--json").stdout)
    assert (shown["run_id"], shown["status"]) == (info["run_id"], "failed")
    assert [(visit["path"], visit["status"]) for visit in shown["visits"]] == [("one", "success"), ("two", "error")]
    text = here("runs", "show", str(info["run_id"])).stdout
    assert "this node always fails" in text
    assert "\x1b" not in text


def test_events_are_one_object_per_line_and_continue_after_an_id(here, write: Write) -> None:
    info = made(here, write, "events-run")
    run_id = str(info["run_id"])
    events = [json.loads(line) for line in here("runs", "events", run_id, "--json").stdout.splitlines()]
    kinds = [(event["kind"], event["path"]) for event in events]
    assert kinds[0] == ("run.started", "")
    assert kinds[-1] == ("run.completed", "")
    assert ("node.finished", "two") in kinds
    rest = here("runs", "events", run_id, "--json", "--from", events[0]["id"]).stdout.splitlines()
    assert [json.loads(line)["id"] for line in rest] == [event["id"] for event in events[1:]]
    assert len(here("runs", "events", run_id).stdout.splitlines()) == len(events)


def test_following_ends_with_the_run(orka, here, write: Write) -> None:
    slow = GRAPH.replace("NAME", "followed").replace("KIND", "echo, delay: 2")
    running = orka.start("run", write("followed.yml", slow), "x")
    wait_until(lambda: '"followed"' in here("runs", "list", "--json").stdout, 20)
    listed = json.loads(here("runs", "list", "--status", "running", "--json").stdout)
    run_id = next(info["run_id"] for info in listed if info["graph"] == "followed")
    follower = orka.start("runs", "events", run_id, "--follow", "--json")
    out, err = follower.communicate(timeout=20)
    assert (follower.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["kind"] == "run.completed"
    assert running.wait(timeout=10) == 0


@pytest.mark.parametrize("command", ["show", "events"])
def test_an_unknown_run_is_exit_code_5(command: str, here) -> None:
    done = here("runs", command, "00000000-0000-7000-8000-000000000000")
    assert (done.returncode, done.stdout) == (5, "")
