"""`orka brain ...`: what the commands print, and their exit codes."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from support.journals import client_of

from orka import Brain, Settings

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def learned(redis_settings: Settings) -> Iterator[str]:
    """Id of a skill; there are two, and an episode."""

    async def learn() -> str:
        async with client_of(redis_settings) as client:
            await client.flushall()
        async with Brain(redis_settings) as brain:
            context = {"domain": "law", "task": "Review the \x1b[31mlease"}
            skill = await brain.learn({"steps": ["read it", "sum up"]}, context, {"success": True})
            await brain.learn_anti_pattern("Skip pages", "too much was missed", context)
            await brain.record_episode("x", context, {"success": False})
            assert skill is not None
            return skill.id

    async def empty() -> None:
        async with client_of(redis_settings) as client:
            await client.flushall()

    yield asyncio.run(learn())
    asyncio.run(empty())


def test_skills_are_listed_and_shown(orka: Run, learned: str) -> None:
    text = orka("brain", "list").stdout
    assert text.splitlines()[0].split() == ["SKILL", "TYPE", "USED", "CONFIDENCE", "EXPIRES", "IN", "NAME"]
    assert "anti:law:skip-pages" in text
    found = json.loads(orka("brain", "list", "--type", "procedural", "--domain", "LAW", "--json").stdout)
    assert [one["id"] for one in found] == [learned]
    assert found[0]["procedure"][1]["action"] == "sum up"
    assert json.loads(orka("brain", "list", "--domain", "art", "--json").stdout) == []
    assert json.loads(orka("brain", "list", "--limit", "1", "--json").stdout) != []
    shown = orka("brain", "show", learned).stdout
    assert "  1. read it\n  2. sum up\n" in shown
    assert "\x1b" not in shown
    assert "too much was missed" in orka("brain", "show", "ANTI:law:skip-pages").stdout
    assert json.loads(orka("brain", "show", learned, "--json").stdout)[0]["name"] == "procedural:law:evaluation"


def test_an_unknown_skill_is_exit_code_5(orka: Run, learned: str) -> None:
    done = orka("brain", "show", "nobody")
    assert (done.returncode, done.stdout) == (5, "")
    assert "no skill has the id or name 'nobody'" in done.stderr


def test_skills_are_counted_and_swept(orka: Run, learned: str) -> None:
    assert "total skills         2\n" in orka("brain", "stats").stdout
    found = json.loads(orka("brain", "stats", "--json").stdout)
    assert (found["total_skills"], found["episodes"]) == (2, {"succeeded": 0, "failed": 1})
    assert orka("brain", "cleanup").stdout == "0 of 2 skills had expired\n"
    assert json.loads(orka("brain", "cleanup", "--json").stdout) == {"checked": 2, "deleted": 0}


def test_a_limit_below_one_is_a_mistake(orka: Run, learned: str) -> None:
    assert orka("brain", "list", "--limit", "0").returncode == 2
