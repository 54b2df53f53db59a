"""`ScriptedSearch`: engines that find what they are told to, for tests and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from orka.errors import SearchError
from orka.search.base import Hit, SearchEngine, Source

Found: TypeAlias = "Sequence[Hit] | Exception"
"""Hits, or an error that is raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """One search that was done, and where."""

    source: Source
    query: str
    limit: int


@dataclass(slots=True)
class ScriptedSearch:
    """Stands for every search engine. What is found comes from the first rule of `when` that fits, else it is `default`.

    `ScriptedSearch().when("llama", Hit(title="Llama", url="https://llama.test", text="A camelid."))` finds that page for
    every query with the word in it; `latency` seconds pass before each answer.
    """

    default: Found | None = None
    """None: one hit that quotes the query."""
    latency: float = 0.0
    searched: list[Searched] = field(default_factory=list[Searched])
    """Everything that was searched for, oldest first."""
    on_search: Callable[[Searched], None] | None = None
    _rules: list[tuple[str, Found]] = field(default_factory=list[tuple[str, Found]], init=False)

    def when(self, word: str, *found: Hit | Exception) -> ScriptedSearch:
        """What queries that hold `word` find: hits, nothing, or an error."""
        error = next((one for one in found if isinstance(one, Exception)), None)
        self._rules.append((word, error or [one for one in found if isinstance(one, Hit)]))
        return self

    def engine(self, source: Source, /) -> SearchEngine:
        return _Engine(self, source)

    async def search(self, source: Source, query: str, limit: int, timeout: float) -> list[Hit]:
        """One search at one source. `SearchError` when `latency` is longer than `timeout`; whatever the script raises."""
        searched = Searched(source=source, query=query, limit=limit)
        self.searched.append(searched)
        if self.on_search is not None:
            self.on_search(searched)
        try:
            with anyio.fail_after(timeout):
                await anyio.sleep(self.latency)
        except TimeoutError as exc:
            raise SearchError(f"the scripted search gave no answer within {timeout:g} s") from exc
        found = next((found for word, found in self._rules if word in query), self.default)
        if isinstance(found, Exception):
            raise found
        if found is None:
            found = [Hit(title="(dry run)", url="https://dry-run.invalid/", text=f"What would be found for {query!r}.")]
        return list(found)[:limit]


@dataclass(frozen=True, slots=True)
class _Engine:
    script: ScriptedSearch
    source: Source

    @property
    def name(self) -> str:
        return self.source.named or "scripted"

    async def search(self, query: str, /, *, limit: int, timeout: float) -> list[Hit]:
        return await self.script.search(self.source, query, limit, timeout)
