"""`orka run --trace`, `--session`, and `orka runs trace`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

GRAPH = """
orchestrator: {id: small, agents: [a]}
agents: [{id: a, type: template, prompt: "{{ input }} in {{ session_id }}"}]
"""


def test_a_run_leaves_the_trace_that_it_is_asked_for(
    here: Callable[..., Any], write: Callable[[str, str], str], tmp_path: Path
) -> None:
    write("g.yml", GRAPH)
    done = here("run", "g.yml", "words", "--session", "chat", "--trace=t.json")
    assert (done.returncode, done.stdout) == (0, "words in chat\n")
    assert "trace: t.json" in done.stderr
    trace = json.loads((tmp_path / "t.json").read_text())
    assert trace["run"]["session_id"] == "chat"
    again = here("runs", "trace", trace["run"]["run_id"])
    assert json.loads(again.stdout)["events"] == trace["events"]
    written = here("runs", "trace", trace["run"]["run_id"], "--output", "again.json", "--whole")
    assert (written.returncode, written.stdout) == (0, "")
    assert "agent_executions" in json.loads((tmp_path / "again.json").read_text())


def test_old_options_and_the_folder_of_traces(
    here: Callable[..., Any], write: Callable[[str, str], str], tmp_path: Path, monkeypatch: Any
) -> None:
    write("g.yml", GRAPH)
    assert here("run", "g.yml", "words", "--log-to-file").returncode == 0
    assert len(list((tmp_path / "logs").glob("orka_trace_*.json"))) == 1
    monkeypatch.setenv("ORKA_LOG_DIR", str(tmp_path / "own"))
    quiet = here("run", "g.yml", "words", "--quiet")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert len(list((tmp_path / "own").iterdir())) == 1


def test_what_cannot_be_done_is_said(here: Callable[..., Any], write: Callable[[str, str], str]) -> None:
    write("g.yml", GRAPH)
    missing = here("runs", "trace", "no-such-run")
    assert missing.returncode == 5
    refused = here("run", "g.yml", "words", "--session", "")
    assert refused.returncode == 2
    assert "a session is a text" in refused.stderr
