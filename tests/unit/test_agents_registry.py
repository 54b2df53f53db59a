"""Registering agent types: decorator, entry points, clashes."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from orka.agents.base import AgentInput, AgentOutput, AgentTools
from orka.agents.registry import CONTROL_TYPES, Registry, agent, builtin_types, default_registry, register_agent_type
from orka.errors import AgentError, ConfigError
from orka.graph.models import KINDS
from orka.graph.nodes import AgentNode
from orka.testing import example_task, run_agent


class Times(BaseModel):
    times: int = Field(default=2, ge=1)


def test_fresh_registry_knows_the_built_in_types_and_nothing_else() -> None:
    assert set(Registry().names()) == {name for entry, aliases in builtin_types() for name in (entry.name, *aliases)}
    assert Registry(()).names() == ()


def test_no_agent_takes_the_name_of_a_control_node() -> None:
    assert set(KINDS) == CONTROL_TYPES
    with pytest.raises(ConfigError, match="'router' cannot name an agent type: it is a control node"):
        Registry().agent("router")(lambda task: task)


@pytest.mark.parametrize("name", ["", "Shout", "9lives", "a b", "a/b", "x" * 65])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name an agent type"):
        Registry().agent(name)(lambda task: task)


async def test_sync_function_runs_off_the_loop() -> None:
    registry = Registry()
    loop_thread = threading.get_ident()

    @registry.agent("shout", summary="Shouts.")
    def shout(task: AgentInput) -> dict[str, Any]:
        return {"response": task.text.upper(), "aside": threading.get_ident() != loop_thread}

    output = await run_agent("shout", "hello", registry=registry)
    assert output == AgentOutput(response="HELLO", fields={"aside": True})
    entry = registry.specs()["shout"]
    assert (entry.event_type, entry.summary, entry.pure) == ("ShoutAgent", "Shouts.", False)


async def test_async_function_runs_on_the_loop() -> None:
    registry = Registry()

    @registry.agent("here", pure=True)
    async def here(task: AgentInput) -> int:
        """Says which thread.

        More that the reference leaves out.
        """
        return threading.get_ident()

    assert (await run_agent("here", "", registry=registry)).response == threading.get_ident()
    assert registry.specs()["here"].summary == "Says which thread."
    assert registry.specs()["here"].pure


async def test_class_is_built_with_its_node_and_tools() -> None:
    registry = Registry()

    @registry.agent("repeat", options=Times, aliases=("again",))
    class Repeat:
        def __init__(self, node: AgentNode, tools: AgentTools) -> None:
            self.made_of = f"{node.id}/{tools.embedder.name}"

        async def run(self, task: AgentInput) -> AgentOutput:
            times = task.options["times"]
            assert isinstance(times, int)
            return AgentOutput(response=task.text * times, fields={"made_of": self.made_of})

    assert await run_agent("repeat", "ab", registry=registry) == AgentOutput(
        response="abab", fields={"made_of": "example/hash-256"}
    )
    assert (
        await run_agent("again", example_task("ab", options={"times": "3"}), registry=registry)
    ).response == "ababab"
    assert registry.specs()["again"] is registry.specs()["repeat"]
    with pytest.raises(ConfigError, match="options of agent type 'repeat'"):
        await run_agent("repeat", example_task("ab", options={"times": 0}), registry=registry)


async def test_class_without_a_constructor_needs_no_arguments() -> None:
    registry = Registry()

    class Plain:
        async def run(self, task: AgentInput) -> list[str]:
            return [task.text]

    registry.agent("plain")(Plain)
    assert (await run_agent("plain", "x", registry=registry)).response == ["x"]


async def test_type_without_a_model_accepts_every_key() -> None:
    registry = Registry()
    registry.agent("keys")(lambda task: dict(task.options))
    output = await run_agent("keys", example_task("", options={"a": 1, "b": [True]}), registry=registry)
    assert output.response == {"a": 1, "b": [True]}


async def test_value_that_is_not_json_names_its_place() -> None:
    registry = Registry()
    registry.agent("bad")(lambda task: {"response": "ok", "raw": [b"x"]})
    with pytest.raises(AgentError, match=r"^raw\[0\] is a bytes"):
        await run_agent("bad", "", registry=registry)


def test_what_cannot_be_an_agent_says_why() -> None:
    registry = Registry()

    class NoRun:
        pass

    class SyncRun:
        def run(self, task: AgentInput) -> str:
            return ""

    class OneArgument:
        def __init__(self, node: AgentNode) -> None:
            pass

        async def run(self, task: AgentInput) -> str:
            return ""

    for target in (NoRun, SyncRun):
        with pytest.raises(ConfigError, match="needs `async def run"):
            registry.agent("x")(target)
    with pytest.raises(ConfigError, match="takes 1 arguments; it may take none, or"):
        registry.agent("x")(OneArgument)
    with pytest.raises(ConfigError, match="takes 2 arguments; it must take one"):
        registry.agent("x")(lambda task, more: task)
    with pytest.raises(ConfigError, match="a int is neither a class nor a function"):
        registry.agent("x")(3)  # type: ignore[type-var]
    assert "x" not in registry.specs()


def test_name_taken_twice_names_both_and_changes_nothing() -> None:
    registry = Registry()

    def one(task: AgentInput) -> str:
        return "one"

    def two(task: AgentInput) -> str:
        return "two"

    registry.agent("same")(one)
    first = registry.specs()["same"]
    with pytest.raises(ConfigError) as caught:
        registry.agent("fresh", aliases=("same",))(two)
    assert "two and by " in str(caught.value)
    assert str(caught.value).endswith("one; rename one of them")
    assert registry.specs()["same"] is first
    assert "fresh" not in registry.specs()
    with pytest.raises(ConfigError, match=r"'echo' is given by .* and by a built-in type"):
        registry.agent("echo")(two)


async def test_same_function_may_be_defined_again() -> None:
    registry = Registry()

    def define(answer: str) -> None:
        @registry.agent("cell")
        def cell(task: AgentInput) -> str:
            return answer

    define("first")
    define("second")
    assert (await run_agent("cell", "", registry=registry)).response == "second"


async def test_module_level_decorator_registers_for_the_whole_process() -> None:
    def spoken(task: AgentInput) -> str:
        return task.text

    register_agent_type("test-registered-by-call", spoken)
    agent("test-registered-by-decorator")(spoken)
    assert {"test-registered-by-call", "test-registered-by-decorator"} <= set(default_registry().specs())
    assert (await run_agent("test-registered-by-call", "x")).response == "x"


def test_registering_from_many_threads_loses_nothing() -> None:
    registry = Registry(())
    start = threading.Barrier(8)

    def register(thread: int) -> None:
        start.wait()
        for number in range(50):
            registry.agent(f"type-{thread}-{number}")(lambda task: task)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.specs()) == 400


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, in which tests install distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("orka_test_plugin"):
            del sys.modules[name]


def install(site: Path, distribution: str, entries: dict[str, str], **modules: str) -> None:
    folder = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (folder / "entry_points.txt").write_text(f"[orka.agents]\n{lines}")
    for name, source in modules.items():
        (site / f"{name}.py").write_text(source)
    importlib.invalidate_caches()


PLUGIN = """
from orka.agents.base import AgentInput
from orka.agents.registry import agent

@agent("test-whisper", aliases=("test-hush",), pure=True)
def whisper(task: AgentInput) -> str:
    return task.text.lower()

class Counter:
    async def run(self, task):
        return len(task.text)
"""


async def test_installed_plugin_is_found_and_imported_only_when_asked_for(site: Path) -> None:
    install(
        site,
        "orka-test-plugin",
        {"test-whisper": "orka_test_plugin_a:whisper", "test-count": "orka_test_plugin_a:Counter"},
        orka_test_plugin_a=PLUGIN,
    )
    registry = Registry(plugins=True)
    assert "test-whisper" in registry.specs()
    assert "orka_test_plugin_a" not in sys.modules
    assert registry.specs().get("no-such-type") is None
    assert (await run_agent("test-whisper", "HI", registry=registry)).response == "hi"
    assert (await run_agent("test-hush", "HI", registry=registry)).response == "hi"
    assert registry.specs()["test-whisper"].pure
    assert (await run_agent("test-count", "four", registry=registry)).response == 4
    assert registry.specs()["test-count"].event_type == "Counter"
    assert {"test-whisper", "test-hush", "test-count", "echo"} <= set(registry.names())


def test_broken_plugin_hurts_only_who_asks_for_it(site: Path) -> None:
    install(
        site,
        "orka-test-broken",
        {"test-broken": "orka_test_plugin_b:thing", "test-number": "orka_test_plugin_c:NUMBER"},
        orka_test_plugin_b="raise RuntimeError('no licence')",
        orka_test_plugin_c="NUMBER = 3",
    )
    registry = Registry(plugins=True)
    assert registry.find("echo") is not None
    assert registry.find("unheard-of") is None
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            registry.find("test-broken")
        assert str(caught.value) == (
            "agent type 'test-broken' cannot be loaded from 'orka-test-broken' (orka_test_plugin_b:thing): "
            "RuntimeError: no licence"
        )
    with pytest.raises(ConfigError, match=r"'test-number' of 'orka-test-broken' .* is a int: name a class"):
        registry.find("test-number")


def test_two_distributions_with_one_name_are_both_named(site: Path) -> None:
    install(site, "orka-test-one", {"test-clash": "orka_test_plugin_d:x"})
    install(site, "orka-test-two", {"test-clash": "orka_test_plugin_e:x"})
    with pytest.raises(ConfigError) as caught:
        Registry(plugins=True).find("test-clash")
    assert "'orka-test-one' (orka_test_plugin_d:x)" in str(caught.value)
    assert "'orka-test-two' (orka_test_plugin_e:x)" in str(caught.value)


def test_plugin_cannot_replace_a_registered_type(site: Path) -> None:
    install(site, "orka-test-thief", {"echo": "orka_test_plugin_f:x"})
    with pytest.raises(ConfigError, match=r"'echo' is given by 'orka-test-thief' .* and by a built-in type"):
        Registry(plugins=True).find("unheard-of")


def test_registered_type_cannot_replace_a_plugin(site: Path) -> None:
    install(site, "orka-test-owner", {"test-owned": "orka_test_plugin_g:x"})
    registry = Registry(plugins=True)
    assert "test-owned" in registry.specs()
    with pytest.raises(ConfigError, match=r"'test-owned' is given by .* and by 'orka-test-owner'"):
        registry.agent("test-owned")(lambda task: task)


def test_plugin_whose_module_is_imported_already_is_no_clash(site: Path) -> None:
    install(
        site,
        "orka-test-early",
        {"test-early": "orka_test_plugin_h:early"},
        orka_test_plugin_h="def early(task):\n    return 'early'\n",
    )
    import orka_test_plugin_h  # type: ignore[import-not-found]

    registry = Registry(plugins=True)
    registry.agent("test-early")(orka_test_plugin_h.early)
    assert registry.find("test-early") is not None
    assert registry.find("unheard-of") is None


def test_built_in_types_all_have_a_summary_and_described_options() -> None:
    for entry, _ in builtin_types():
        assert entry.summary.endswith(".")
        for name, field in entry.options.model_fields.items():
            assert field.description, f"{entry.name}.{name}"
