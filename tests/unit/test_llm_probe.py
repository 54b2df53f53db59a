"""Whether a model's server is there: asked as each kind of server lists its models, with bounds on waiting and reading."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.openai_server import Reply, Server, started

from orka.llm.probe import ModelServer, names_in, probe_models
from orka.settings import Settings


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with started() as server:
        yield server


@pytest.mark.parametrize(
    ("path", "shown", "asked", "models"),
    [
        ("", "/v1", "/v1/models", ("test-model",)),
        ("/v1/", "/v1", "/v1/models", ("test-model",)),
        ("/v1/chat/completions", "/v1", "/v1/models", ("test-model",)),
        ("/api/generate", "/api/generate", "/api/tags", ("test-model:latest",)),
        ("/v1/messages", "", "/v1/models", ("test-model",)),
    ],
)
async def test_lists_the_models_of_each_kind_of_server(
    path: str, shown: str, asked: str, models: tuple[str, ...], server: Server
) -> None:
    found = await probe_models(Settings(llm_url=server.url + path))
    assert found == ModelServer(url=server.url + shown, reachable=True, models=models)
    assert server.last.path == asked


async def test_the_key_goes_to_the_address_that_it_belongs_to_and_nowhere_else(server: Server) -> None:
    await probe_models(Settings(llm_url=server.url, llm_key="sk-one", openai_key="sk-two"))
    assert server.last.headers["authorization"] == "Bearer sk-one"
    await probe_models(Settings(openai_url=server.url, openai_key="sk-two"))
    assert server.last.headers["authorization"] == "Bearer sk-two"
    await probe_models(Settings(llm_url=f"{server.url}/v1/messages", llm_key="sk-three"))
    assert server.last.headers["x-api-key"] == "sk-three"
    await probe_models(Settings(llm_url=server.url, openai_key="sk-two"))
    assert "authorization" not in server.last.headers


async def test_a_server_that_refuses_is_reachable_and_its_words_hold_no_key(server: Server) -> None:
    server.replies.append(Reply(status=401, error="bad key sk-secret-secret-secret"))
    found = await probe_models(Settings(llm_url=server.url, llm_key="sk-secret-secret-secret"))
    assert found.reachable
    assert found.error is not None
    assert "does not list its models (401" in found.error
    assert "sk-secret" not in found.error


async def test_who_does_not_answer_is_not_waited_for(server: Server) -> None:
    server.replies.append(Reply(delay=30))
    slow = await probe_models(Settings(llm_url=server.url), patience=0.2)
    assert (slow.reachable, slow.models) == (False, ())
    assert "no answer within 0.2 s" in str(slow.error)
    gone = await probe_models(Settings(llm_url="http://127.0.0.1:9"))
    assert not gone.reachable
    assert "cannot be reached" in str(gone.error)


async def test_without_an_address_nothing_is_asked() -> None:
    found = await probe_models(Settings(openai_key="sk-two"))
    assert (found.url, found.reachable, found.error) == (None, False, "no address is configured: set ORKA_LLM_URL")
    assert (await probe_models(Settings(llm_url="ftp://x"))).error is not None


@pytest.mark.parametrize("body", [b"", b"[1]", b"<html>", b'{"data": 7}', b'{"data": [1]}', b"[" * 100_000])
def test_what_is_no_list_of_models_names_none(body: bytes) -> None:
    assert names_in(body) == ()
