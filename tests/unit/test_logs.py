"""Log events reach whoever listens, and nobody else."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orka import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger("orka")
    before = root.handlers[:], root.level, root.propagate
    yield
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def test_json_lines_carry_event_level_facts_and_time() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.get_logger("orka.engine").bind(run_id="r1").info("branch.dispatched", path="a[0]/b", size=3)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "branch.dispatched", "level": "info", "run_id": "r1", "path": "a[0]/b", "size": 3}


def test_console_lines_are_plain_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)
    logs.get_logger().warning("server.stop_refused", pid=7)
    assert "server.stop_refused" in stream.getvalue()
    assert "pid=7" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_events_below_the_level_are_dropped() -> None:
    stream = io.StringIO()
    logs.configure("warning", "console", stream)
    logs.get_logger().info("run.started")
    assert stream.getvalue() == ""


def test_configuring_twice_does_not_write_twice() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", io.StringIO())
    logs.configure("info", "json", stream)
    logs.get_logger().info("run.started")
    assert len(stream.getvalue().splitlines()) == 1


def test_percent_signs_in_facts_are_harmless(caplog: pytest.LogCaptureFixture) -> None:
    logs.get_logger().warning("run.started", input="100%s %d {x}")
    assert caplog.records[0].getMessage() == "run.started input='100%s %d {x}'"
    assert caplog.records[0].__dict__["orka"] == {"input": "100%s %d {x}", "event": "run.started"}


def test_errors_bring_their_traceback() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    try:
        raise ValueError("broken")
    except ValueError as exc:
        logs.get_logger().error("agent.failed", exc_info=exc)
    assert "ValueError: broken" in json.loads(stream.getvalue())["exception"]


async def test_context_belongs_to_its_task_and_the_tasks_within(caplog: pytest.LogCaptureFixture) -> None:
    log = logs.get_logger()

    async def run(name: str) -> None:
        with logs.log_context(run_id=name):
            await asyncio.sleep(0)
            await asyncio.create_task(step())

    async def step() -> None:
        log.warning("step.done")

    await asyncio.gather(run("a"), run("b"))
    log.warning("outside.seen")
    assert [record.__dict__["orka"].get("run_id") for record in caplog.records] == ["a", "b", None]


def test_an_app_that_configures_nothing_gets_nothing_on_standard_output() -> None:
    code = "from orka.logs import get_logger; get_logger().info('a.b'); get_logger().warning('c.d', n=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "c.d n=1\n")
