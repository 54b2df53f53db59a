"""`orka dead list`, `show`, `retry` and `drop`: tasks that were given up because they took their workers down."""

from __future__ import annotations

import json as standard_json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from orka.cli.exits import Exit, exit_for
from orka.cli.interrupt import run_until_stopped
from orka.cli.output import print_json, print_table, render_json, safe_line, safe_text, warn
from orka.cli.runs import AsJson
from orka.clock import iso
from orka.dispatch.dead import DeadLetters, Letter
from orka.errors import DispatchError
from orka.journal.paths import readable
from orka.operations import retry_letter
from orka.services import Services, open_services
from orka.settings import Settings

Id = Annotated[str, Parameter(name="ID", help="Of a dead letter, as orka dead list prints it.")]
Ids = Annotated[list[str], Parameter(name="ID", help="Of dead letters, as orka dead list prints them.")]


def list_letters(*, json: AsJson = False) -> int:
    """List dead letters, the latest first."""

    async def work(services: Services) -> int:
        found = await DeadLetters(services.registry).list()
        if json:
            print_json([asdict(letter) for letter in found])
        elif found:
            rows = (
                (
                    x.id,
                    x.run,
                    readable(x.path) or "(run)",
                    x.queue,
                    str(x.deaths),
                    iso(x.died_ms)[:19],
                    safe_line(x.reason, 60),
                )
                for x in found
            )
            print_table(("ID", "RUN", "PATH", "QUEUE", "DEATHS", "GIVEN UP", "REASON"), rows)
        return Exit.OK

    return _with_services(work)


def show(letter: Id, /, *, json: AsJson = False) -> int:
    """Show one dead letter with its task."""

    async def work(services: Services) -> int:
        found = await DeadLetters(services.registry).find(letter)
        if json:
            print_json({**asdict(found), "task": _task_of(found)})
        else:
            _print_letter(found)
        return Exit.OK

    return _with_services(work)


def retry(
    letters: Ids,
    /,
    *,
    queue: Annotated[
        str | None, Parameter(help="Whose workers resume the run; by default the run's own queue.")
    ] = None,
) -> int:
    """Have a worker resume the run of a dead letter, and so try it again. The letter is deleted.

    Of a run that is under way or completed nothing is tried again: its join has taken the failure in.
    """

    async def one(services: Services, letter_id: str) -> None:
        letter = await DeadLetters(services.registry).find(letter_id)
        chosen = await retry_letter(services, letter, queue)
        print(f"run {letter.run} waits on queue {chosen!r} to be resumed")

    return _with_services(lambda services: _each(services, letters, one))


def drop(letters: Ids, /) -> int:
    """Delete dead letters. Their runs stay as they are."""

    async def one(services: Services, letter_id: str) -> None:
        await DeadLetters(services.registry).drop(letter_id)
        print(f"dropped {letter_id}")

    return _with_services(lambda services: _each(services, letters, one))


async def _each(services: Services, letters: list[str], act: Callable[[Services, str], Awaitable[None]]) -> int:
    """What goes wrong with one keeps no other from its turn; the exit code is that of the first."""
    code: int = Exit.OK
    for letter_id in letters:
        try:
            await act(services, letter_id)
        except DispatchError as error:
            warn(f"error: {error}")
            code = code or exit_for(error)
    return code


def _with_services(work: Callable[[Services], Awaitable[int]]) -> int:
    async def main() -> int:
        async with open_services(Settings.from_environment()) as services:
            return await work(services)

    return run_until_stopped(main)


def _task_of(letter: Letter) -> Any:
    with suppress(ValueError):
        return standard_json.loads(letter.task)
    return letter.task


def _print_letter(letter: Letter) -> None:
    facts = {
        "id": letter.id,
        "run": letter.run,
        "path": readable(letter.path) or "(the whole run)",
        "queue": letter.queue,
        "deaths": str(letter.deaths),
        "given up": iso(letter.died_ms),
        "reason": letter.reason,
    }
    for name, value in facts.items():
        print(f"{name:<9} {safe_text(value)}")
    print(f"task      {safe_text(render_json(_task_of(letter)))}")
