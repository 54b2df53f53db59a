"""`orka run --dry-run`: a run that asks nobody and leaves nothing behind, and says what it would have asked."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from orka.cli.output import safe_line, warn
from orka.llm.scripted import Asked, ScriptedLLM
from orka.search.scripted import ScriptedSearch, Searched
from orka.settings import Settings


@contextmanager
def rehearsal(settings: Settings) -> Generator[Settings]:
    """Settings of a private server of its own, whose data vanish with it: memories, skills and runs stay as they are."""
    with TemporaryDirectory(prefix="orka-dry-run-", ignore_cleanup_errors=True) as folder:
        yield replace(settings, redis_url=None, home=Path(folder), server_linger=0.0, audit="off")


def scripted(*, quiet: bool) -> ScriptedLLM:
    """Answers that fit what is asked for, and on standard error the questions."""
    return ScriptedLLM(on_ask=None if quiet else show_question, rehearsal=True)


def scripted_search(*, quiet: bool) -> ScriptedSearch:
    """Finds one made-up page for everything, and on standard error what it was asked for."""
    return ScriptedSearch(on_search=None if quiet else show_search)


def show_search(searched: Searched) -> None:
    where = searched.source.url or searched.source.path or ""
    warn(
        safe_line(
            f"would search {searched.source.named or 'the web'} {where}".rstrip() + f" for: {searched.query}", 2000
        )
    )


def show_question(asked: Asked) -> None:
    question = asked.question
    form = question.form
    wanted = "" if form is None else ", a JSON object" if form.schema is None else ", JSON of a schema"
    tools = f", tools {', '.join(tool.name for tool in question.tools)}" if question.tools else ""
    warn(safe_line(f"would ask {question.model} at {asked.endpoint.label}{wanted}{tools}:", 400))
    for message in question.messages:
        for number, line in enumerate(message.content.splitlines() or [""]):
            label = f"{message.role}:" if number == 0 else ""
            warn(safe_line(f"  {label:<10} {line}", 2000))
