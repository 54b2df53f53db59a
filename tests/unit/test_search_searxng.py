"""Asking a SearXNG instance: real HTTP on 127.0.0.1, with every fault that it may have."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from support.web import Page, Web, open_web

from orka.errors import ConfigError, SearchError
from orka.search.base import Hit, SearchEngine, Source
from orka.search.engines import Engines
from orka.settings import Settings
from orka.testing import HashEmbedder

FOUND = [
    {"url": "https://a.test/1", "title": "Llamas", "content": "They live in the Andes.", "engine": "x", "score": 2.5},
    {"url": "https://a.test/2", "title": "Alpacas", "content": None},
    {"url": "https://a.test/3", "title": "", "content": ""},
    {"url": "https://a.test/4", "title": "Vicuñas", "content": "They are small."},
]


def page(results: Any = FOUND, **rest: Any) -> Page:
    return Page(json.dumps({"query": "q", "results": results, "suggestions": []}).encode(), **rest)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with open_web() as web:
        web.answer = lambda path, query: page()
        yield web


@pytest.fixture
async def engine(web: Web) -> AsyncIterator[SearchEngine]:
    async with aclosing(Engines(Settings(searxng_url=web.url), HashEmbedder())) as engines:
        yield engines.engine(Source())


def in_turn(*pages: Page) -> Callable[[str, dict[str, str]], Page]:
    waiting = list(pages)
    return lambda path, query: waiting.pop(0) if len(waiting) > 1 else waiting[0]


async def test_hits_are_what_the_instance_gives_up_to_the_limit(web: Web, engine: SearchEngine) -> None:
    assert engine.name == "searxng"
    hits = await engine.search("where do llamas live?", limit=2, timeout=5)
    assert hits == [
        Hit(title="Llamas", url="https://a.test/1", text="They live in the Andes."),
        Hit(title="Alpacas", url="https://a.test/2", text=""),
    ]
    assert len(await engine.search("q", limit=9, timeout=5)) == 3  # one says nothing
    assert web.asked[0] == ("/search", {"q": "where do llamas live?", "format": "json"})
    assert web.connections == 1


@pytest.mark.parametrize("ending", ["", "/", "/search", "/sub/path/"])
async def test_the_address_may_be_written_in_several_ways(web: Web, ending: str) -> None:
    async with aclosing(Engines(Settings(), HashEmbedder())) as engines:
        await engines.engine(Source(url=web.url + ending, region="de")).search("q", limit=1, timeout=5)
    assert web.asked == [
        ("/sub/path/search" if "sub" in ending else "/search", {"q": "q", "format": "json", "language": "de"})
    ]


@pytest.mark.parametrize(
    "first",
    [Page(status=429), Page(status=429, headers={"Retry-After": "0"}), Page(status=502), Page(b"{" * 9, cut=True)],
)
async def test_a_failure_that_may_pass_is_asked_again_once(web: Web, engine: SearchEngine, first: Page) -> None:
    web.answer = in_turn(first, page())
    assert len(await engine.search("q", limit=1, timeout=5)) == 1
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    ("pages", "message", "asked"),
    [
        ([Page(status=429)], "cannot be asked: it answers with status 429", 2),
        ([Page(status=429, headers={"Retry-After": "60"})], "cannot be asked: it answers with status 429", 1),
        ([Page(status=429, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})], "status 429", 1),
        ([Page(status=403)], "status 403: its settings.yml must list `json` under search.formats", 1),
        ([Page(status=404)], "status 404: is this the base address of a SearXNG instance", 1),
        ([Page(status=302, headers={"Location": "https://elsewhere.test"})], "status 302: is this the base address", 1),
        ([Page(b"<html>")], "does not answer as SearXNG's JSON API does", 1),
        ([Page(b'{"results": 3}')], "does not answer as SearXNG's JSON API does", 1),
        ([Page(b"\xff\xfe")], "does not answer as SearXNG's JSON API does", 1),
        ([Page(b"[" * 100_000)], "does not answer as SearXNG's JSON API does", 1),
        ([Page(b" " * (8 * 1024 * 1024 + 1))], "an answer beyond 8,388,608 bytes", 1),
    ],
)
async def test_what_is_no_answer_is_a_search_error(
    web: Web, engine: SearchEngine, pages: list[Page], message: str, asked: int
) -> None:
    web.answer = in_turn(*pages)
    with pytest.raises(SearchError, match=message):
        await engine.search("q", limit=1, timeout=5)
    assert len(web.asked) == asked


async def test_a_slow_instance_is_left_when_time_is_over(web: Web, engine: SearchEngine) -> None:
    web.answer = lambda path, query: page(delay=30)
    started = time.perf_counter()
    with pytest.raises(SearchError, match=r"gave no answer within 0\.1 s"):
        await engine.search("q", limit=1, timeout=0.1)
    assert time.perf_counter() - started < 2


async def test_many_searches_share_connections(web: Web, engine: SearchEngine) -> None:
    web.answer = lambda path, query: page(delay=0.02)
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(lambda n: engine.search(f"q{n}", limit=1, timeout=10), number)
    assert len(web.asked) == 100
    assert web.connections <= 32


async def test_nobody_there_is_a_search_error() -> None:
    async with aclosing(Engines(Settings(searxng_url="http://127.0.0.1:9"), HashEmbedder())) as engines:
        with pytest.raises(SearchError, match=r"http://127\.0\.0\.1:9 cannot be asked: ConnectError"):
            await engines.engine(Source()).search("q", limit=1, timeout=5)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(backend="searxng"), "needs an address"),
        (Source(url="http://user:secret@host"), "url of a SearXNG instance must not hold a user name"),
        (Source(url="ftp://host"), "must begin with http"),
        (Source(backend="folder"), "needs its path"),
    ],
)
def test_a_source_that_cannot_be_searched_is_told(source: Source, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        Engines(Settings(), HashEmbedder()).engine(source)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "own", "graph", "name"),
    [
        (Settings(searxng_url="http://s"), Source(), Source(), "searxng"),
        (Settings(searxng_url="http://s", search_backend="duckduckgo"), Source(), Source(), "duckduckgo"),
        (Settings(searxng_url="http://s"), Source(), Source(path="texts"), "folder"),
        (Settings(searxng_url="http://s"), Source(backend="duckduckgo"), Source(path="texts"), "duckduckgo"),
        (Settings(searxng_url="http://s"), Source(backend="searxng"), Source(path="texts"), "searxng"),
        (Settings(), Source(url="http://own"), Source(backend="folder", path="texts"), "searxng"),
        (Settings(), Source(backend="folder"), Source(path="texts"), "folder"),
        (Settings(), Source(), Source(), "duckduckgo"),
    ],
)
def test_the_agent_wins_over_the_graph_and_the_graph_over_the_environment(
    settings: Settings, own: Source, graph: Source, name: str
) -> None:
    assert Engines(settings, HashEmbedder()).engine(own.over(graph)).name == name
