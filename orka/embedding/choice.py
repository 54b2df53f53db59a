"""Which embedder the settings mean, opened and closed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from orka.embedding.base import Embedder
from orka.embedding.cache import CachedEmbedder
from orka.embedding.endpoint import Endpoint
from orka.embedding.local import DIMENSIONS, LocalEmbedder
from orka.embedding.remote import RemoteEmbedder
from orka.errors import SettingsError
from orka.redis.pipeline import Pipe, Router
from orka.settings import Settings

CACHE_SECONDS: Final = 30 * 86400.0
"""How long an endpoint's vectors are kept when the settings do not say."""
_LOCAL: Final = "wordllama"


def choose_embedder(settings: Settings) -> LocalEmbedder | RemoteEmbedder:
    """Without any I/O; a `RemoteEmbedder` is to be closed. `SettingsError` where model and endpoint do not fit."""
    model = settings.embedding_model
    local = model == _LOCAL or model.startswith(f"{_LOCAL}-")
    if settings.embedding_url is None:
        return LocalEmbedder(_local_dimension(settings))
    if local:
        raise SettingsError(
            "ORKA_EMBEDDING_URL names an endpoint: set ORKA_EMBEDDING_MODEL to the name of a model there, such as "
            "text-embedding-3-small",
            path="ORKA_EMBEDDING_MODEL",
        )
    return RemoteEmbedder(
        Endpoint(
            url=settings.embedding_url,
            model=model,
            key=settings.embedding_key,
            dimension=settings.embedding_dimension,
        )
    )


@asynccontextmanager
async def open_embedder(
    settings: Settings, router: Router | None = None, given: Embedder | None = None
) -> AsyncGenerator[Embedder]:
    """For as long as the block lasts; its dimension is known. An endpoint whose dimension the settings do not give is asked
    once (`EmbeddingError` when it does not answer). With the way to a Redis, vectors are cached there, over connections of
    its own, where the settings want that. `given`: in place of the settings' own; whoever made it closes it."""
    async with AsyncExitStack() as stack:
        embedder = given or choose_embedder(settings)
        seconds = settings.embedding_cache or 0.0
        if isinstance(embedder, RemoteEmbedder):
            if given is None:
                await stack.enter_async_context(embedder)
            await embedder.probe()
            seconds = CACHE_SECONDS if settings.embedding_cache is None else seconds
        if router is None or not seconds:
            yield embedder
        else:
            pipe = Pipe(router)
            stack.push_async_callback(pipe.aclose)
            yield CachedEmbedder(embedder, pipe, seconds)


def _local_dimension(settings: Settings) -> int:
    model, wanted = settings.embedding_model, settings.embedding_dimension
    known = {f"{_LOCAL}-{dimension}": dimension for dimension in DIMENSIONS}
    if model == _LOCAL:
        known[model] = wanted if wanted in DIMENSIONS else DIMENSIONS[-1]
    if model not in known:
        raise SettingsError(
            f"ORKA_EMBEDDING_MODEL={model!r} is no local model ({', '.join(known)}): a model of an endpoint needs "
            "ORKA_EMBEDDING_URL, such as https://api.openai.com/v1",
            path="ORKA_EMBEDDING_MODEL",
        )
    if wanted not in (None, known[model]):
        raise SettingsError(
            f"ORKA_EMBEDDING_DIMENSION={wanted} does not fit ORKA_EMBEDDING_MODEL={model!r}: the local models have "
            f"{', '.join(map(str, DIMENSIONS))}, as their names say",
            path="ORKA_EMBEDDING_DIMENSION",
        )
    return known[model]
