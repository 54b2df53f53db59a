"""What agents know: folders kept as memories, answers from them on both backends, and searches in whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.running import at, execute, opened
from support.web import Page, open_web

from orka.errors import SearchError
from orka.settings import Settings
from orka.testing import Hit, ScriptedLLM, ScriptedSearch
from orka.types import Status

LOAD = """
orchestrator: {{id: t, agents: [load]}}
agents: [{{id: load, type: ingest, path: texts, namespace: "{space}"}}]
"""
ASK = """
orchestrator: {{id: t, agents: [answer]}}
agents: [{{id: answer, type: rag, namespace: "{space}", prompt: "{{{{ get_input() }}}}"{more}}}]
"""


@pytest.fixture(params=("redis", "redisstack"))
def settings(request: pytest.FixtureRequest, redis_settings: Settings) -> Settings:
    return replace(redis_settings, backend=request.param)


@pytest.fixture
def space(request: pytest.FixtureRequest) -> str:
    return f"ns {request.node.name}"


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "llamas.md").write_text("# Llamas\n\nLlamas live in the Andes.\n\n## Wool\n\nTheir wool is soft.\n")
    (folder / "bread.txt").write_text("Bread is made of flour and water.")
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    return folder


async def load(settings: Settings, space: str) -> dict[str, Any]:
    output = at(await execute(settings, LOAD.format(space=space)), "load").output
    assert isinstance(output, dict)
    return output


async def test_a_folder_is_kept_as_memories_once(settings: Settings, texts: Path, space: str) -> None:
    first = await load(settings, space)
    assert first["response"] == "2 files in 3 passages: 3 new, 0 kept, 0 deleted"
    assert first["skipped"] == [{"file": "picture.png", "reason": "is no text"}]
    assert (await load(settings, space))["response"] == "2 files in 3 passages: 0 new, 3 kept, 0 deleted"
    (texts / "bread.txt").unlink()
    (texts / "new.txt").write_text("Vicuñas are small.\n\nVicuñas are small.")
    last = await load(settings, space)
    assert [last[key] for key in ("files", "passages", "new", "kept", "deleted")] == [2, 3, 1, 2, 1]


async def test_an_answer_comes_from_the_memories_that_fit_and_names_them(
    settings: Settings, texts: Path, space: str
) -> None:
    await load(settings, space)
    models = ScriptedLLM(["<think>hm</think>In the Andes [1]."])
    async with opened(settings, ASK.format(space=space, more=", top_k: 1")) as plain:
        orchestrator = type(plain)(plain.graph, settings=settings, llm=models)
        result = await orchestrator.execute("Where do llamas live?")
    output: Any = at(result, "answer").output
    assert (output["response"], output["answer"]) == ("In the Andes [1].", "In the Andes [1].")
    (source,) = output["sources"]
    assert (source["number"], source["content"]) == (1, "Llamas live in the Andes.")
    assert source["metadata"] == {"folder": "texts", "file": "llamas.md", "heading": "Llamas"}
    assert result.usage.prompt_tokens > 0
    system, user = models.asked[0].question.messages
    assert system.role == "system"
    assert user.content == (
        "Sources:\n\n[1] llamas.md, Llamas\nLlamas live in the Andes.\n\nQuestion: Where do llamas live?"
    )


@pytest.mark.parametrize(
    ("more", "answer", "asked"),
    [
        ("", "Nothing that is stored fits this question.", 0),
        (", nothing: 'no idea'", "no idea", 0),
        (", nothing: null", "made up", 1),
    ],
)
async def test_where_nothing_is_stored_no_model_is_asked(
    redis_settings: Settings, space: str, more: str, answer: str, asked: int
) -> None:
    models = ScriptedLLM(["made up"])
    async with opened(redis_settings, ASK.format(space=space, more=more)) as plain:
        result = await type(plain)(plain.graph, settings=redis_settings, llm=models).execute("q")
    assert (result.output, len(models.asked)) == (answer, asked)
    assert at(result, "answer").output["sources"] == []  # type: ignore[index,call-overload]


async def test_an_empty_question_is_an_error(redis_settings: Settings, space: str) -> None:
    models = ScriptedLLM(["made up"])
    async with opened(redis_settings, ASK.format(space=space, more="")) as plain:
        result = await type(plain)(plain.graph, settings=redis_settings, llm=models).execute(" ")
    error = at(result, "answer").error
    assert error is not None
    assert (error.kind, models.asked) == ("NothingToAsk", [])


async def test_a_folder_outside_of_what_is_permitted_is_not_read(
    redis_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    text = "orchestrator: {id: t, agents: [a]}\nagents: [{id: a, type: %s, %s}]"
    for kind, keys in (("ingest", "path: .."), ("search", "prompt: q, search: {path: ..}")):
        error = at(await execute(redis_settings, text % (kind, keys)), "a").error
        assert error is not None
        assert "ORKA_SEARCH_FOLDERS" in error.message
    permitted = replace(redis_settings, search_folders=(tmp_path,))
    assert at(await execute(permitted, text % ("search", "prompt: q, search: {path: ..}")), "a").error is None


SEARCH = """
orchestrator: {id: t, agents: [first, over, end]%s}
agents:
  - {id: first, type: duckduckgo, prompt: "{{ get_input() }}"%s}
  - id: over
    type: failover
    children:
      - {id: broken, type: search, prompt: "broken"}
      - {id: spare, type: search, prompt: "spare"}
  - id: end
    type: template
    prompt: >-
      {%% for line in previous_outputs.first %%}<{{ line }}>{%% endfor %%}
      {{ previous_outputs.first | length }} {{ previous_outputs.over.successful_child }} {{ previous_outputs.over.spare[1] }}
"""


async def test_a_search_that_fails_prints_counts_as_failed_and_is_followed_by_the_next(
    redis_settings: Settings,
) -> None:
    web = (
        ScriptedSearch()
        .when("broken", SearchError("is down"))
        .when("spare", Hit(title="Error 404 explained", url="https://e.test", text="failed requests"))
    )
    async with opened(redis_settings, SEARCH % ("", "")) as plain:
        result = await type(plain)(plain.graph, settings=redis_settings, search=web).execute("broken")
    assert at(result, "first").status is Status.ERROR
    said = str(result.output)
    assert "<The search failed: is down>" in said
    assert said.startswith("<Date and time of this search: 20")
    assert said.endswith("2 spare Error 404 explained: failed requests (https://e.test)")


async def test_a_run_searches_a_searxng_of_the_graph_and_a_late_one_fails_with_a_list(redis_settings: Settings) -> None:
    async with open_web() as web:
        web.answer = lambda path, query: Page(b'{"results": [{"title": "T", "url": "u", "content": "C"}]}')
        usual = f", search: {{url: '{web.url}'}}"
        result = await execute(redis_settings, SEARCH % (usual, ""), "q")
        assert "<T: C (u)>" in str(result.output)
        web.answer = lambda path, query: Page(b'{"results": []}', delay=9 if query["q"] == "q" else 0)
        result = await execute(redis_settings, SEARCH % (usual, ", timeout: 0.1"), "q")
    first = at(result, "first")
    assert first.status is Status.ERROR
    assert "within 0.1 s" in str(first.output)


async def test_what_was_found_is_the_same_when_the_run_is_read_again(redis_settings: Settings) -> None:
    web = ScriptedSearch()
    async with opened(redis_settings, SEARCH % ("", "")) as plain:
        orchestrator = type(plain)(plain.graph, settings=redis_settings, search=web)
        async with orchestrator:
            log: Any = await orchestrator.run("q", return_logs=True)
            done = len(web.searched)
            assert await orchestrator.resume(log[0]["run_id"], return_logs=True) == log
    assert len(web.searched) == done
    assert log[0]["event_type"] == "DuckDuckGoTool"
    assert log[0]["payload"]["result"] == log[0]["payload"]["response"] == log[1]["previous_outputs"]["first"]
    assert log[0]["payload"]["hits"][0]["title"] == "(dry run)"
