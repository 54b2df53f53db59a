"""Which embedder the settings mean, and what is said where they contradict each other."""

from __future__ import annotations

import pytest
from support import endpoint as served

from orka.embedding.choice import choose_embedder, open_embedder
from orka.embedding.local import LocalEmbedder
from orka.embedding.remote import RemoteEmbedder
from orka.errors import EmbeddingError, SettingsError
from orka.settings import Settings


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "wordllama-256"),
        ({"ORKA_EMBEDDING_MODEL": "wordllama-128"}, "wordllama-128"),
        ({"ORKA_EMBEDDING_MODEL": "wordllama-64", "ORKA_EMBEDDING_DIMENSION": "64"}, "wordllama-64"),
        ({"ORKA_EMBEDDING_MODEL": "wordllama"}, "wordllama-256"),
        ({"ORKA_EMBEDDING_MODEL": "wordllama", "ORKA_EMBEDDING_DIMENSION": "128"}, "wordllama-128"),
    ],
)
async def test_without_an_endpoint_the_model_is_local(environment: dict[str, str], name: str) -> None:
    async with open_embedder(Settings.from_environment(environment)) as embedder:
        assert isinstance(embedder, LocalEmbedder)
        assert embedder.name == name


@pytest.mark.parametrize(
    ("environment", "variable", "message"),
    [
        (
            {"ORKA_EMBEDDING_MODEL": "text-embedding-3-small"},
            "ORKA_EMBEDDING_MODEL",
            "ORKA_EMBEDDING_MODEL='text-embedding-3-small' is no local model (wordllama-64, wordllama-128, wordllama-256): a "
            "model of an endpoint needs ORKA_EMBEDDING_URL, such as https://api.openai.com/v1",
        ),
        (
            {"ORKA_EMBEDDING_DIMENSION": "100"},
            "ORKA_EMBEDDING_DIMENSION",
            "ORKA_EMBEDDING_DIMENSION=100 does not fit ORKA_EMBEDDING_MODEL='wordllama-256': the local models have 64, 128, "
            "256, as their names say",
        ),
        (
            {"ORKA_EMBEDDING_URL": "http://localhost:11434/v1"},
            "ORKA_EMBEDDING_MODEL",
            "ORKA_EMBEDDING_URL names an endpoint: set ORKA_EMBEDDING_MODEL to the name of a model there, such as "
            "text-embedding-3-small",
        ),
    ],
)
def test_contradictions_are_named(environment: dict[str, str], variable: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_embedder(Settings.from_environment(environment))
    assert (str(caught.value), caught.value.path) == (message, variable)


async def test_endpoint_is_asked_once_for_its_dimension_and_closed_at_the_end() -> None:
    async with served.started() as server:
        settings = Settings(embedding_url=server.url, embedding_model="m", embedding_key="k")
        async with open_embedder(settings) as embedder:
            assert isinstance(embedder, RemoteEmbedder)
            assert (embedder.name, embedder.dimension) == ("m", 16)
        assert len(server.asked) == 1
        assert server.headers[0]["authorization"] == "Bearer k"
        with pytest.raises(EmbeddingError, match="is closed"):
            await embedder.embed(["a"])


async def test_given_dimension_spares_the_question() -> None:
    async with served.started() as server:
        settings = Settings(embedding_url=server.url, embedding_model="m", embedding_dimension=8)
        async with open_embedder(settings) as embedder:
            assert embedder.dimension == 8
        assert server.asked == []
