"""Tools of real MCP servers: started as processes, and over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orka.agents.base import AgentTools
from orka.agents.tooling.base import Offer, ToolFault
from orka.agents.tooling.servers import Servers
from orka.agents.tooling.spec import ServerSpec, may_start
from orka.errors import AgentError, ConfigError
from orka.testing import HashEmbedder, ScriptedLLM, example_task, run_agent, tool_calls

TESTS = Path(__file__).resolve().parents[1]
SERVER = TESTS / "support" / "tool_server.py"


def started(pids: Path | None = None, *args: str, **fields: Any) -> ServerSpec:
    env = () if pids is None else (("ORKA_TEST_PIDS", str(pids)),)
    return ServerSpec(command="python", args=(str(SERVER), *args), env=env, **fields)


@asynccontextmanager
async def hosted(**options: Any) -> AsyncIterator[Servers]:
    async with anyio.create_task_group() as tasks:
        servers = Servers(tasks, **options)
        try:
            yield servers
        finally:
            await servers.aclose()


async def tools_of(servers: Servers, spec: ServerSpec, **options: Any) -> dict[str, Offer]:
    return {offer.tool.name: offer for offer in await servers.offers(spec, **options)}


def processes(pids: Path) -> list[int]:
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not true():  # noqa: ASYNC110  # processes set no event
            await anyio.sleep(0.01)


async def fault(offer: Offer, **arguments: Any) -> str:
    with pytest.raises(ToolFault) as caught:
        await offer.call(arguments, "k")
    return str(caught.value)


async def test_process_is_started_once_shared_and_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pids = tmp_path / "pids"
    async with hosted() as servers:
        offers = await tools_of(servers, started(pids))
        assert offers["add"].tool.description == "Adds two numbers."
        assert list(offers["add"].tool.parameters["properties"]) == ["a", "b"]  # type: ignore[arg-type]
        sums: list[str] = []

        async def add(number: int) -> None:
            sums.append(await (await tools_of(servers, started(pids)))["add"].call({"a": number, "b": 1}, "k"))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(add, number)
        assert sorted(map(int, sums)) == list(range(1, 21))
        (pid,) = processes(pids)
        assert (servers.hosted, lives(pid)) == (1, True)
    assert (servers.hosted, lives(pid)) == (0, False)
    assert capfd.readouterr() == ("", "")


async def test_names_are_made_usable_and_may_be_chosen_and_prefixed() -> None:
    async with hosted() as servers:
        offers = await tools_of(servers, started(), prefix="t_", only=["odd.name", "add"])
        assert sorted(offers) == ["t_add", "t_odd_name"]
        assert await offers["t_odd_name"].call({}, "k") == "odd"
        with pytest.raises(
            AgentError, match=r"has no tool 'nope'; it has add, dies, fails, keyed, odd.name, slow"
        ) as caught:
            await servers.offers(started(), only=["nope"])
        assert caught.value.kind == "ToolServerError"


async def test_errors_and_wrong_arguments_are_told() -> None:
    async with hosted() as servers:
        offers = await tools_of(servers, started())
        assert "unable to parse string" in await fault(offers["add"], a="x", b=1)
        assert "fails" in await fault(offers["fails"], why="so")
        assert await offers["add"].call({"a": 1, "b": 1}, "k") == "2"


async def test_key_is_given_to_a_tool_that_asks_for_one() -> None:
    async with hosted() as servers:
        keyed = (await tools_of(servers, started()))["keyed"]
        assert (list(keyed.tool.parameters["properties"]), keyed.tool.parameters["required"]) == (["seat"], ["seat"])  # type: ignore
        assert await keyed.call({"seat": "4a"}, "the key") == "4a under the key"


async def test_process_gets_the_variables_that_the_file_names_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORKA_TEST_SECRET", "hush-hush")
    monkeypatch.setenv("ORKA_TEST_OTHER", "other")
    spec = ServerSpec(
        command="python", args=(str(SERVER),), env=(("PLAIN", "1"),), env_from=("ORKA_TEST_SECRET",), cwd=str(TESTS)
    )
    async with hosted() as servers:
        variables = (await tools_of(servers, spec))["variables"]
        given = await variables.call({"names": ["PLAIN", "ORKA_TEST_SECRET", "ORKA_TEST_OTHER"]}, "k")
    assert '"PLAIN": "1"' in given
    assert '"ORKA_TEST_SECRET": "hush-hush"' in given
    assert '"ORKA_TEST_OTHER": null' in given


async def test_variable_that_is_not_set_is_named() -> None:
    async with hosted() as servers:
        with pytest.raises(ConfigError, match="environment variable 'ORKA_TEST_UNSET', which the tool server"):
            await servers.offers(started(env_from=("ORKA_TEST_UNSET",)))


async def test_server_killed_in_mid_call_is_told_and_started_again(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with hosted() as servers:
        offers = await tools_of(servers, started(pids))
        assert "ended while it was called: whether the call had an effect is not known" in await fault(offers["dies"])
        assert await offers["add"].call({"a": 1, "b": 1}, "k") == "2"
        os.kill(processes(pids)[-1], signal.SIGKILL)  # nobody is calling it
        await until(lambda: servers.hosted == 0)
        assert await offers["add"].call({"a": 2, "b": 2}, "k") == "4"
        assert len(processes(pids)) == 3


async def test_cancelled_call_leaves_the_server_usable(tmp_path: Path) -> None:
    async with hosted() as servers:
        offers = await tools_of(servers, started(tmp_path / "pids"))
        with anyio.move_on_after(0.2) as scope:
            await offers["slow"].call({}, "k")
        assert scope.cancelled_caught
        assert await offers["add"].call({"a": 1, "b": 1}, "k") == "2"
        assert len(processes(tmp_path / "pids")) == 1


async def test_cancelling_an_opening_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"import os, time; open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    async with hosted() as servers:
        async with anyio.create_task_group() as group:
            group.start_soon(servers.offers, ServerSpec(command="python", args=("-c", code)))
            await until(lambda: processes(pids))
            group.cancel_scope.cancel()
        assert servers.hosted == 0
        await until(lambda: not lives(processes(pids)[0]))  # killed; it may not be reaped yet


async def test_closing_ends_an_opening_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"import os, time; open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    told: list[str] = []

    async def ask(servers: Servers) -> None:
        with pytest.raises(AgentError) as caught:
            await servers.offers(ServerSpec(command="python", args=("-c", code)))
        told.append(str(caught.value))

    async with anyio.create_task_group() as group:
        async with hosted() as servers:
            group.start_soon(ask, servers)
            await until(lambda: processes(pids))
        await until(lambda: not lives(processes(pids)[0]))
    assert "was not opened: its process ends" in told[0]


async def test_session_that_nobody_uses_is_closed_and_opened_again(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with hosted(idle=0.2) as servers:
        offers = await tools_of(servers, started(pids))
        await until(lambda: servers.hosted == 0)
        assert await offers["add"].call({"a": 1, "b": 1}, "k") == "2"
        assert len(processes(pids)) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ServerSpec(command="no-such-command"), "'no-such-command' cannot be started: No such file"),
        (ServerSpec(command="python", args=("-c", "raise SystemExit('no licence')")), "it said: no licence"),
        (
            ServerSpec(command="python", args=("-c", "import time; time.sleep(60)"), open_timeout=0.3),
            "told no tools within 0.3 s",
        ),
        (ServerSpec(command="python", args=("-c", "print('not the protocol')")), "cannot be asked"),
        (ServerSpec(url="http://127.0.0.1:9/mcp"), "cannot be asked: All connection attempts failed"),
    ],
)
async def test_server_that_cannot_be_asked_fails_the_visit(spec: ServerSpec, message: str) -> None:
    async with hosted() as servers:
        with pytest.raises(AgentError, match=message) as caught:
            await servers.offers(spec)
        assert caught.value.kind == "ToolServerError"
        assert servers.hosted == 0


@asynccontextmanager
async def serving(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), "--http", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:

        async def answers() -> bool:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                return False
            await stream.aclose()
            return True

        with anyio.fail_after(20):
            while not await answers():  # noqa: ASYNC110  # nor do ports
                await anyio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_server_at_an_address_is_asked_and_asked_again_after_it_was_away() -> None:
    port = free_port()
    spec = ServerSpec(url=f"http://127.0.0.1:{port}/mcp")
    async with hosted() as servers:
        async with serving(port) as process:
            offers = await tools_of(servers, spec)
            assert await offers["add"].call({"a": 1, "b": 1}, "k") == "2"
            assert "fails" in await fault(offers["fails"], why="so")
            async with anyio.create_task_group() as group:
                told: list[str] = []

                async def ask() -> None:
                    told.append(await fault(offers["slow"]))

                group.start_soon(ask)
                await anyio.sleep(0.3)
                process.kill()
        assert "not known" in told[0]
        assert "cannot be asked" in await fault(offers["add"], a=1, b=1)
        async with serving(port):
            assert await offers["add"].call({"a": 2, "b": 2}, "k") == "4"


def test_permission_of_a_command_is_its_own() -> None:
    assert ServerSpec(command="npx", args=("-y", "x")).permission == "mcp:npx"
    assert ServerSpec(url="http://x").permission is None
    assert may_start("mcp:npx", True)
    assert may_start("mcp:npx", frozenset({"mcp:npx"}))
    assert not may_start("mcp:npx", False)
    assert not may_start("mcp:npx", frozenset({"mcp:np", "npx", "mcp"}))


async def asked(llm: ScriptedLLM, servers: Servers, allowed: bool | frozenset[str], **mcp: Any) -> None:
    tools = AgentTools(embedder=HashEmbedder(), llm=llm, scripted=True, servers=servers, allow_functions=allowed)
    entry = {"mcp": {"command": "python", "args": [str(SERVER)]}, "only": ["add"]}
    await run_agent("llm", example_task("x", options={"tools": [entry], **mcp}), tools=tools)


async def test_server_that_is_not_permitted_is_not_started() -> None:
    llm = ScriptedLLM(["never"])
    async with hosted() as servers:
        for allowed in (False, frozenset({"support", "mcp:python3"})):
            with pytest.raises(AgentError, match=r"--allow-functions=mcp:python`, or give") as caught:
                await asked(llm, servers, allowed)
            assert (caught.value.kind, servers.hosted, llm.asked) == ("ServerNotAllowed", 0, [])


async def test_model_calls_the_tools_of_a_server() -> None:
    llm = ScriptedLLM([tool_calls(("add", {"a": 2, "b": 3}), ("add", {"a": 4, "b": 5})), "Five and nine."])
    async with hosted() as servers:
        await asked(llm, servers, frozenset({"mcp:python"}))
    assert [message.content for message in llm.asked[1].question.messages if message.role == "tool"] == ["5", "9"]
