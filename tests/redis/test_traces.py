"""Trace files of real runs: when they are written, where, what they hold, and that a run never fails for one."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fleet import open_fleet
from support.running import graph, opened

from orka.engine.answer import log_entries
from orka.engine.trace import resolve
from orka.errors import ConfigError
from orka.ids import new_run_id
from orka.lifecycle import submit_run
from orka.settings import Settings
from orka.stored import await_run
from orka.traces import git_sha

TEXT = """
    orchestrator: {id: traced, agents: [a, improve, spread, gather]}
    agents:
      - {id: a, type: template, prompt: "A {{ input }} {{ session_id }}"}
      - id: improve
        type: loop
        max_loops: 2
        internal_workflow:
          orchestrator: {id: inner, agents: [w]}
          agents: [{id: w, type: template, prompt: "round {{ loop_number }} SCORE: 0.1"}]
      - {id: spread, type: fork, targets: [b]}
      - {id: b, type: template, prompt: "B"}
      - {id: gather, type: join, group: spread}
    """


def read(file: str | Path | None) -> dict[str, Any]:
    assert file is not None
    return json.loads(Path(file).read_text(encoding="utf-8"))


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    return [entry.name for entry in folder.rglob(pattern)]


@pytest.fixture
def traced(redis_settings: Settings, tmp_path: Path) -> Settings:
    return replace(redis_settings, log_dir=tmp_path / "traces")


async def test_no_trace_is_left_unless_somebody_asks(
    redis_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with opened(redis_settings, TEXT) as orchestrator:
        assert (await orchestrator.execute("x")).trace is None
        assert names_in(tmp_path) == []
        asked = await orchestrator.execute("x", trace=True)
    assert asked.trace is not None
    assert Path(asked.trace).parent == Path("logs")
    assert read(asked.trace)["run"]["run_id"] == asked.run_id


async def test_a_folder_of_traces_has_one_of_every_run(traced: Settings) -> None:
    async with opened(traced, TEXT) as orchestrator:
        result = await orchestrator.execute("x", session_id="s")
        off = await orchestrator.execute("x", trace=False)
    assert off.trace is None
    assert traced.log_dir is not None
    (file,) = traced.log_dir.iterdir()
    assert str(file) == result.trace
    assert re.fullmatch(rf"orka_trace_\d{{8}}_\d{{6}}_{result.run_id[-8:]}\.json", file.name)
    trace = read(file)
    assert (trace["run"]["input"], trace["run"]["output"], trace["run"]["session_id"]) == ("x", "B", "s")
    assert [(event["path"], event["step"]) for event in trace["events"]] == [
        ("a", 1),
        ("improve[1]/w", 2),
        ("improve[2]/w", 2),
        ("improve", 2),
        ("spread", 3),
        ("spread.0/b", 4),
        ("gather", 5),
    ]
    payloads: list[Any] = [resolve(trace, event["payload"]) for event in trace["events"] if not event.get("inner")]
    assert payloads == [entry["payload"] for entry in log_entries(result.results, result.run_id)]
    assert trace["meta_report"]["total_duration"] == round(result.duration_ms / 1000, 3) > 0
    environment = trace["meta_report"]["runtime_environment"]
    assert environment["python_version"].startswith("3.")
    assert set(environment) >= {"platform", "timestamp", "git_sha", "docker_image", "gpu_type", "pricing_version"}


async def test_a_trace_goes_where_the_caller_says(redis_settings: Settings, tmp_path: Path) -> None:
    async with opened(redis_settings, TEXT) as orchestrator:
        file = tmp_path / "deep" / "mine.json"
        assert (await orchestrator.execute("x", trace=file)).trace == str(file)
        into = await orchestrator.execute("x", trace=tmp_path, run_id="..odd:id")
        new = await orchestrator.execute("x", trace=f"{tmp_path}/new/")
    assert into.trace is not None
    assert Path(into.trace).parent == tmp_path
    assert Path(into.trace).name.endswith("_odd_id.json")
    assert Path(new.trace or "").parent == tmp_path / "new"
    assert names_in(tmp_path, ".*") == []  # nothing half written is left


@pytest.mark.parametrize(("settings", "head"), [(True, ""), (False, ", debug: {keep_previous_outputs: true}")])
async def test_earlier_outputs_are_kept_when_the_settings_or_the_file_say_so(
    traced: Settings, settings: bool, head: str
) -> None:
    text = TEXT.replace("id: traced", f"id: traced{head}")
    async with opened(replace(traced, keep_previous_outputs=settings, trace_blobs=False), text) as orchestrator:
        result = await orchestrator.execute("x")
    last = read(result.trace)["agent_executions"][-1]
    assert set(last["previous_outputs"]) == {"a", "improve", "spread", "b"}


async def test_a_trace_that_cannot_be_written_is_a_warning(
    redis_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with caplog.at_level(logging.WARNING, "orka"):
        async with opened(redis_settings, TEXT) as orchestrator:
            result = await orchestrator.execute("x", trace=blocked / "trace.json")
    assert (result.output, result.trace) == ("B", None)
    assert "trace.lost" in caplog.text


async def test_failed_and_resumed_runs_leave_traces_too(traced: Settings) -> None:
    text = "{orchestrator: {id: t, agents: [a]}, agents: [{id: a, type: failing, message: boom}]}"
    async with opened(traced, text) as orchestrator:
        failed = await orchestrator.execute("x")
        again = await orchestrator.finish(failed.run_id)
    for result in (failed, again):
        trace = read(result.trace)
        assert trace["run"]["error"]["message"] == "boom"
        assert trace["meta_report"]["execution_stats"]["failed"] == 1


async def test_the_trace_of_a_completed_run_is_made_again_from_its_journal(traced: Settings) -> None:
    async with opened(traced, TEXT) as orchestrator:
        result = await orchestrator.execute("x", session_id="s")
        made = await orchestrator.trace(result.run_id)
        whole = await orchestrator.trace(result.run_id, whole=True)
    first = read(result.trace)
    assert made["events"] == first["events"]
    assert made["blob_store"] == first["blob_store"]
    assert made["run"]["session_id"] == "s"  # type: ignore[index,call-overload]
    assert "agent_executions" in whole


async def test_of_a_run_that_failed_no_trace_can_be_made_afterwards(redis_settings: Settings) -> None:
    text = "{orchestrator: {id: t, agents: [a]}, agents: [{id: a, type: failing}]}"
    async with opened(redis_settings, text) as orchestrator:
        failed = await orchestrator.execute("x")
        with pytest.raises(ConfigError, match="is failed, and a trace is made of completed runs"):
            await orchestrator.trace(failed.run_id)


async def test_a_submitted_run_leaves_its_trace_where_it_is_executed(traced: Settings) -> None:
    async with open_fleet(traced, 2) as bench:
        run_id = new_run_id()
        await submit_run(bench.services, bench.services.build(graph(TEXT)), "x", run_id, "default")
        assert (await await_run(bench.services, run_id)).output == "B"
        for worker in bench.workers:
            await worker.stop()
    assert traced.log_dir is not None
    (file,) = traced.log_dir.iterdir()
    assert read(file)["run"]["run_id"] == run_id


def test_the_commit_that_is_checked_out_is_read_without_git(tmp_path: Path) -> None:
    assert git_sha(tmp_path / "a") is None or len(git_sha(tmp_path / "a") or "") == 12
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\n" + "b" * 40 + " refs/heads/main\n")
    (tmp_path / "inside").mkdir()
    assert git_sha(tmp_path / "inside") == "b" * 12
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert git_sha(tmp_path) == "a" * 12
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert git_sha(tmp_path) == "c" * 12
