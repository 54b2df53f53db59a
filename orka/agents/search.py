"""`duckduckgo` (also `search`): asks a search engine. Templates see the list of what it found, a line with the time first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError, field_validator

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.clock import iso
from orka.errors import AgentError, ConfigError
from orka.graph.nodes import AgentNode
from orka.results import Failure
from orka.search.base import Backend, Hit, SearchAccess, Source
from orka.types import Json

TIMEOUT = 15.0
"""Seconds for a search of a node without a `timeout`."""
MOST_QUERY = 500
"""Characters of a query: what models write as one may be pages long, and engines refuse that."""
MOST_TEXT = 500
"""Characters of one text that was found on the web; passages of a folder come whole."""


class SourceKeys(BaseModel):
    """`search` of a `duckduckgo` node, and of `orchestrator:`."""

    backend: Backend | None = Field(
        default=None,
        description="`duckduckgo`, `searxng` or `folder`; without it, what `url`, `path` or the environment say.",
    )
    url: str | None = Field(default=None, description="Address of a SearXNG instance (`ORKA_SEARXNG_URL`).")
    path: str | None = Field(default=None, description="Folder of texts, relative to the working directory.")
    region: str | None = Field(
        default=None, description="Region (DuckDuckGo: `de-de`) or language (SearXNG: `de`) to search in."
    )

    def source(self) -> Source:
        return Source(backend=self.backend, url=self.url, path=self.path, region=self.region)


class SearchOptions(BaseModel):
    """Keys of a `duckduckgo` node."""

    search: SourceKeys | Backend | None = Field(
        default=None, description="Where to search: a backend's name, or a mapping."
    )
    max_results: int = Field(default=5, ge=1, le=50, description="Hits at most.")

    @field_validator("search", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value


class SearchAgent:
    """One search a visit."""

    def __init__(self, options: SearchOptions, node: AgentNode, source: Source, access: SearchAccess) -> None:
        self._options = options
        self._source = source
        self._access = access
        self._timeout = node.policy.timeout or TIMEOUT

    async def run(self, task: AgentInput, /) -> AgentOutput:
        query = " ".join(task.text.split())[:MOST_QUERY]
        if not query:
            raise AgentError("there is nothing to search for: the prompt is empty", kind="NothingToSearch")
        engine = self._access.engine(self._source)
        hits = await engine.search(query, limit=self._options.max_results, timeout=self._timeout)
        lines: list[Json] = [_time_line(task.now_ms), *(_line(hit) for hit in hits)]
        if not hits:
            lines.append(f"Nothing was found for {query!r}.")
        return AgentOutput(
            response=lines,
            fields={
                "hits": [{"title": hit.title, "url": hit.url, "text": hit.text} for hit in hits],
                "query": query,
                "backend": engine.name,
                "num_results": len(hits),
            },
        )


def _time_line(at_ms: int) -> str:
    return f"Date and time of this search: {iso(at_ms)[:19].replace('T', ' ')} UTC"


def _line(hit: Hit) -> str:
    text = " ".join(hit.text.split())
    if hit.url.startswith(("http://", "https://")) and len(text) > MOST_TEXT:
        text = f"{text[: MOST_TEXT - 1]}…"
    head = f"{hit.title}: {text}" if hit.title and text else hit.title or text
    return f"{head} ({hit.url})" if hit.url else head


def failed_search(failure: Failure, at_ms: int) -> Mapping[str, Json]:
    """What templates print in place of findings."""
    return {"response": [_time_line(at_ms), f"The search failed: {failure.message}"], "hits": [], "num_results": 0}


def source_of(node: AgentNode, options: SearchOptions, graph: Mapping[str, Json]) -> Source:
    """What the node says, over what `orchestrator.search` says. `ConfigError` where that is neither."""
    own = _source(options.search)
    try:
        usual = SearchOptions.model_validate({"search": cast(Any, graph.get("search"))}).search
    except ValidationError as exc:
        raise ConfigError(f"orchestrator.search, which agent {node.id!r} would use: {exc}") from exc
    return own.over(_source(usual))


def _source(search: SourceKeys | Backend | None) -> Source:
    return search.source() if isinstance(search, SourceKeys) else Source(backend=search)


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    if tools.search is None:
        raise ConfigError(f"agent {node.id!r} searches, and this process has no search engines")
    options = SearchOptions.model_validate(dict(node.options))
    return SearchAgent(options, node, source_of(node, options, tools.graph), tools.search)


TYPE = AgentType(
    name="duckduckgo",
    event_type="DuckDuckGoTool",
    options=SearchOptions,
    build=_build,
    plain=True,
    trusted=True,
    bare=True,
    on_failure=failed_search,
    summary="Searches the web (DuckDuckGo, SearXNG) or a folder of texts with its prompt or input.",
)
