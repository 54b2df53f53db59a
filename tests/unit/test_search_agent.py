"""The search agent: its lines, its failures, and which engine it asks. With it, the pages of docs/search.md."""

import asyncio
import inspect
from typing import Any

import pytest
from support.pages import ROOT, read_blocks
from support.running import graph

from orka.agents.registry import Registry
from orka.agents.search import TYPE, failed_search
from orka.engine.program import Workshop, build_program
from orka.errors import AgentError, ConfigError, SearchError
from orka.results import Failure
from orka.search.base import Source
from orka.template.environment import Environment
from orka.testing import HashEmbedder, Hit, ScriptedSearch, example_task, run_agent

LLAMA = Hit(title="Llama", url="https://llama.test", text="A  camelid\nof the Andes. " + "x" * 600)
FOUND = [LLAMA, Hit(title="", url="", text="only text"), Hit(title="only title", url="https://t.test", text="")]


async def test_the_response_is_a_line_with_the_time_and_one_for_each_hit() -> None:
    web = ScriptedSearch(FOUND)
    output = await run_agent("duckduckgo", "where do\n llamas live?", search=web)
    assert output.response == [
        "Date and time of this search: 2026-01-01 00:00:00 UTC",
        f"Llama: A camelid of the Andes. {'x' * 475}… (https://llama.test)",
        "only text",
        "only title (https://t.test)",
    ]
    assert output.fields["num_results"] == 3
    assert output.fields["query"] == "where do llamas live?"
    assert output.fields["hits"][0] == {"title": "Llama", "url": "https://llama.test", "text": LLAMA.text}  # type: ignore[index]
    assert (web.searched[0].query, web.searched[0].limit) == ("where do llamas live?", 5)


async def test_finding_nothing_is_no_failure() -> None:
    output = await run_agent("search", "q", search=ScriptedSearch([]))
    assert output.response == ["Date and time of this search: 2026-01-01 00:00:00 UTC", "Nothing was found for 'q'."]


async def test_a_query_is_short_and_never_empty() -> None:
    web = ScriptedSearch()
    await run_agent("search", "word " * 500, search=web)
    assert len(web.searched[0].query) <= 500
    with pytest.raises(AgentError, match="nothing to search for"):
        await run_agent("search", " \n ", search=web)
    await run_agent("search", example_task(input={"input": "from the input"}), search=web)
    assert web.searched[-1].query == "from the input"


async def test_a_search_that_failed_raises_and_its_type_makes_the_list() -> None:
    web = ScriptedSearch().when("llama", SearchError("is down"))
    with pytest.raises(SearchError, match="is down"):
        await run_agent("search", "a llama", search=web)
    assert failed_search(Failure(kind="SearchError", message="is down"), 1_767_225_600_000)["response"] == [
        "Date and time of this search: 2026-01-01 00:00:00 UTC",
        "The search failed: is down",
    ]
    assert TYPE.bare


async def test_a_slow_script_is_late() -> None:
    web = ScriptedSearch(latency=9)
    with pytest.raises(SearchError, match=r"within 0\.01 s"):
        await web.engine(Source()).search("q", limit=1, timeout=0.01)


@pytest.mark.parametrize(
    ("usual", "own", "source"),
    [
        ("", "", Source()),
        ("", ", search: folder", Source(backend="folder")),
        ("", ", search: ' SearXNG '", Source(backend="searxng")),
        (", search: {url: 'http://s'}", "", Source(backend="searxng", url="http://s")),
        (
            ", search: searxng",
            ", search: {url: 'http://own', region: de}",
            Source(backend="searxng", url="http://own", region="de"),
        ),
        (", search: {path: texts}", ", search: folder, max_results: 2", Source(backend="folder", path="texts")),
    ],
)
async def test_the_source_is_that_of_the_node_over_that_of_the_graph(usual: str, own: str, source: Source) -> None:
    web = ScriptedSearch()
    text = f"""
        orchestrator: {{id: t, agents: [a]{usual}}}
        agents: [{{id: a, type: search, prompt: q{own}}}]
        """
    await _built(text, web).run(example_task("q"))
    assert web.searched[0].source == source


def _built(text: str, web: ScriptedSearch) -> Any:
    from orka.agents.base import AgentTools

    shop = Workshop(
        types=Registry().specs(), tools=AgentTools(embedder=HashEmbedder(), search=web), environment=Environment()
    )
    return build_program(graph(text), shop).body.steps["a"].agent  # type: ignore[index]


@pytest.mark.parametrize("own", ["search: google", "search: {backend: google}", "max_results: 0", "max_results: 51"])
def test_what_cannot_be_is_told_when_the_file_is_loaded(own: str) -> None:
    with pytest.raises(AssertionError, match=r"flow\.yml"):
        graph(f"""
            orchestrator: {{id: t, agents: [a]}}
            agents: [{{id: a, type: search, prompt: q, {own}}}]
            """)


def test_a_source_of_the_graph_that_is_none_is_told() -> None:
    text = """
        orchestrator: {id: t, agents: [a], search: google}
        agents: [{id: a, type: search, prompt: q}]
        """
    with pytest.raises(ConfigError, match=r"orchestrator\.search, which agent 'a' would use"):
        _built(text, ScriptedSearch())


def test_the_page_about_search_runs() -> None:
    page = read_blocks(ROOT / "docs" / "search.md")
    for block in page:
        if block.kind == "yaml":
            graph(block.text)
        elif block.kind == "python":
            names: dict[str, Any] = {"__name__": "search_page"}
            exec(compile(block.text, "docs/search.md", "exec"), names)
            test = names["test_my_search"]
            assert inspect.iscoroutinefunction(test)
            asyncio.run(test())
    assert {block.kind for block in page} == {"yaml", "python"}
