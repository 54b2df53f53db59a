"""Every graph in `configs/` runs as its header says, and gives exactly this."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from time import perf_counter

import pytest
from acceptance.test_model_configs import CASES as MODEL_CASES
from support.journals import client_of

from orka import Orchestrator, Settings
from orka.memory_logger import create_memory_logger

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

ANSWERS = {
    "distributed.yml": "3 words, 14 characters: RED-GREEN-BLUE",
    "failover.yml": "Zurich: 21 degrees (given by archive)",
    "fork_join.yml": "17 characters | 4 words, the last is Monday | shouted: SHIP IT ON MONDAY",
    "learning.yml": "1. read the whole text 2. mark every claim with a number 3. check the numbers 4. sum up the findings "
    "(learned in finance, transferred 1x)",
    "loop.yml": "Our new release makes every single run... (41 characters, round 5)",
    "map.yml": "1 apples: food, 2 hammer: tool, 3 grapes: food, 4 screwdriver: tool",
    "quickstart.yml": """\
Topic    delivery (0.6051)
Urgency  high
Mood     angry
Order    48213
Record   customer since 2021

Dear customer,
we are very sorry for the trouble. The last scan of your parcel was yesterday at the depot; it is out for delivery \
next. Your case is now at the front of the queue.
Your support desk""",
    "remember.yml": "nothing known yet",
    "retry_timeout.yml": "flaky: up again (attempt 3) | slow: no answer within 0.2 s",
    "router.yml": "We are sorry to hear that, and will make it right. (complaint) -- Hotel Orka",
    "sequence.yml": "The Quick Brown Fox (4 words): the-quick-brown-fox",
}

OTHER_MESSAGES = {
    "Hello, you charged my card twice for invoice 99120. Could you please refund one payment? Thank you.": """\
Topic    billing (0.6503)
Urgency  normal
Mood     calm
Order    99120
Record   customer since 2021

Dear customer,
thank you for your message. A payment taken twice goes back to the same card within three working days.
Your support desk""",
    "The app crashes with an error every time I log in since the update.": """\
Topic    technical (0.7654)
Urgency  normal
Mood     calm
Order    not given
Record   customer since 2021

Dear customer,
thank you for your message. Signing out everywhere and setting a new password solves this for most people.
Your support desk""",
    "Do you have gift cards?": """\
Topic    other (0.2187)
Urgency  normal
Mood     calm
Order    not given
Record   customer since 2021

Dear customer,
thank you for your message. A colleague will read your message and answer within one working day.
Your support desk""",
}


def header(name: str) -> tuple[str, list[str], str]:
    """What the three comment lines say: what it shows, the arguments of `orka`, what to expect."""
    shows, run, expect, after = (CONFIGS / name).read_text(encoding="utf-8").split("\n")[:4]
    assert not after.startswith("#")
    lines = [
        re.fullmatch(rf"# {word}: +(.+)", line)
        for word, line in zip(("Shows", "Run", "Expect"), (shows, run, expect), strict=True)
    ]
    assert all(lines), name
    said = [line[1] for line in lines if line is not None]
    command, *arguments = shlex.split(said[1])
    assert command == "orka"
    return said[0], arguments, said[2]


def test_every_file_is_tried_here() -> None:
    assert {path.name for path in CONFIGS.glob("*.y*ml")} == {*ANSWERS, *MODEL_CASES}


@pytest.mark.parametrize("name", ANSWERS)
async def test_graph_gives_what_its_header_says(name: str, orka, redis_settings: Settings) -> None:  # type: ignore[no-untyped-def]
    _, arguments, expected = header(name)
    verb, file, text = arguments
    assert (verb, file) == ("run", f"configs/{name}")
    if "orka worker" in expected:
        orka.start("worker")
    orchestrator = Orchestrator(CONFIGS / name, settings=redis_settings)
    assert orchestrator.warnings == ()
    answer = await orchestrator.run(text)
    assert answer == ANSWERS[name]
    if name != "quickstart.yml":
        assert expected.startswith(ANSWERS[name])


@pytest.fixture(autouse=True)
async def nothing_is_remembered(redis_settings: Settings) -> None:
    async with create_memory_logger(settings=redis_settings) as memories:
        await memories.clear_all_memories()
    async with client_of(redis_settings) as client:
        if learned := await client.keys("{orka:brain}:*"):
            await client.delete(*learned)


async def test_a_later_run_knows_what_an_earlier_one_was_told(redis_settings: Settings) -> None:
    async with Orchestrator(CONFIGS / "remember.yml", settings=redis_settings) as orchestrator:
        await orchestrator.run("The blue bicycle is in the cellar")
        assert await orchestrator.run("Where is my bicycle?") == "The blue bicycle is in the cellar"
        assert await orchestrator.run("bicycle?") == "The blue bicycle is in the cellar"  # the question was not kept


async def test_quickstart_shows_an_earlier_ticket_like_this_one(redis_settings: Settings) -> None:
    async with Orchestrator(CONFIGS / "quickstart.yml", settings=redis_settings) as orchestrator:
        await orchestrator.run("My order 1111 has not arrived")
        answer = await orchestrator.run("Where is my order 2222? It has not arrived.")
    assert "\nEarlier  My order 1111 has not arrived (delivery)\n" in answer


async def test_quickstart_answers_other_messages_too(redis_settings: Settings) -> None:
    async with Orchestrator(CONFIGS / "quickstart.yml", settings=redis_settings) as orchestrator:
        for message, answer in OTHER_MESSAGES.items():
            assert await orchestrator.run(message) == answer


async def test_branches_of_a_fork_run_at_the_same_time(redis_settings: Settings) -> None:
    async with Orchestrator(CONFIGS / "fork_join.yml", settings=redis_settings) as orchestrator:
        began = perf_counter()
        await orchestrator.run("Ship it on Monday")
        assert 0.3 <= perf_counter() - began < 0.6


def test_command_of_the_quickstart_prints_its_answer(orka, redis_settings: Settings) -> None:  # type: ignore[no-untyped-def]
    _, (verb, _, text), _ = header("quickstart.yml")
    done = orka(verb, str(CONFIGS / "quickstart.yml"), text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ANSWERS["quickstart.yml"] + "\n"
