"""Graphs in `configs/` that ask models: a dry run of each as its header says, and a run on scripted answers."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from orka import Orchestrator, Settings
from orka.memory_logger import create_memory_logger
from orka.testing import Hit, ScriptedLLM, ScriptedSearch, tool_calls

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file: what its models say, and the answer that follows."""

    models: Callable[[], ScriptedLLM]
    input: str
    answer: str
    asked: int
    """Questions in all."""
    allow_functions: frozenset[str] = frozenset()


CASES = {
    "chat_with_memory.yml": Case(
        models=lambda: ScriptedLLM(["Nice to meet you, Ada."]),
        input="My name is Ada and I am allergic to nuts.",
        answer="Nice to meet you, Ada.",
        asked=1,
    ),
    "debate_loop.yml": Case(
        models=lambda: (
            ScriptedLLM()
            .when("argue for", "It is fun.")
            .when("argue against", "It is work.")
            .when("How far do", {"agreement": 0.4, "summary": "Fun."}, {"agreement": 0.85, "summary": "Fun, but work."})
            .when("came to this after 2 rounds:\nFun, but work.", "Better use a library.")
        ),
        input="Should a small team write its own scheduler?",
        answer="Better use a library.",
        asked=7,
    ),
    "graph_scout.yml": Case(
        models=lambda: (
            ScriptedLLM()
            .when(
                "Several agents could work",
                {
                    "recommended_path": ["fact_finder", "response_builder"],
                    "reasoning": "facts are asked for",
                    "confidence": 0.9,
                    "path_evaluations": [
                        {"path": ["fact_finder", "response_builder"], "score": 0.95},
                        {"path": ["story_writer", "response_builder"], "score": 0.1},
                    ],
                },
            )
            .when("List what is known", "Bees sleep.")
            .when("Answer in three sentences", "They sleep.")
        ),
        input="What is new about honey bees?",
        answer="They sleep.",
        asked=3,
    ),
    "tools_mcp.yml": Case(
        models=lambda: ScriptedLLM(
            [
                tool_calls(("convert", {"value": 26.2, "source": "mile", "target": "km"})),
                tool_calls(("convert", {"value": 26.2, "source": "mile", "target": "kg"})),
                "They are 42.2 km.",
            ]
        ),
        input="How many kilometres are 26.2 miles?",
        answer="They are 42.2 km.\n"
        '- convert {"value": 26.2, "source": "mile", "target": "km"}: 42.1648 km\n'
        '- convert {"value": 26.2, "source": "mile", "target": "kg"}: mile and kg are not of the same kind',
        asked=3,
        allow_functions=frozenset({"mcp:python"}),
    ),
    "rag_folder.yml": Case(
        models=lambda: ScriptedLLM().when("You pay for sending it back", "You do, unless it was damaged [1]."),
        input="Who pays the postage when I send something back?",
        answer="You do, unless it was damaged [1].\n[1] returns.md, Who pays the postage\n[2] returns.md, Returns\n"
        "[3] delivery.md, A parcel that does not come",
        asked=1,
    ),
    "research_fork.yml": Case(
        models=lambda: (
            ScriptedLLM()
            .when("From the web", "Two hearts serve the gills (https://sea.test).")
            .when("What do you know", "They have blue blood.")
            .when("What is often wrong", "The number of hearts.")
        ),
        input="Why do octopuses have three hearts?",
        answer="Two hearts serve the gills (https://sea.test).",
        asked=3,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_graph_gives_its_answer(name: str, redis_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    models = case.models()
    web = ScriptedSearch().when("octopuses", Hit(title="Sea", url="https://sea.test", text="Three hearts."))
    monkeypatch.chdir(CONFIGS.parent)
    allowed = case.allow_functions
    orchestrator = Orchestrator(
        CONFIGS / name, settings=redis_settings, llm=models, search=web, allow_functions=allowed
    )
    assert orchestrator.warnings == ()
    result = await orchestrator.execute(case.input)
    assert [visit.error for visit in result.results if visit.error is not None] == []
    assert [warning for visit in result.results for warning in visit.warnings] == []
    assert (result.output, len(models.asked)) == (case.answer, case.asked)


@pytest.mark.parametrize("name", CASES)
def test_dry_run_needs_no_key_and_says_what_it_would_ask(name: str, orka) -> None:  # type: ignore[no-untyped-def]
    run = (CONFIGS / name).read_text(encoding="utf-8").split("\n")[1]
    command, *arguments = shlex.split(run.removeprefix("# Run:"))
    assert (command, arguments[:3]) == ("orka", ["run", "--dry-run", f"configs/{name}"])
    shutil.copytree(CONFIGS / "texts", orka.folder / "configs" / "texts")
    done = orka("run", "--dry-run", str(CONFIGS / name), *arguments[3:])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "would ask" in done.stderr


@pytest.fixture(autouse=True)
async def nothing_is_remembered(redis_settings: Settings) -> None:
    async with create_memory_logger(settings=redis_settings) as memories:
        await memories.clear_all_memories()


async def test_a_later_chat_knows_what_was_said(redis_settings: Settings) -> None:
    models = ScriptedLLM(["Nice to meet you.", "No nuts for you."])
    async with Orchestrator(CONFIGS / "chat_with_memory.yml", settings=redis_settings, llm=models) as orchestrator:
        await orchestrator.run("My name is Ada and I am allergic to nuts.")
        await orchestrator.run("Which nuts may Ada, who is allergic, eat?")
    system = models.asked[1].question.messages[0]
    assert system.role == "system"
    assert "User: My name is Ada and I am allergic to nuts. Assistant: Nice to meet you." in system.content
