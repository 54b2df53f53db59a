"""Whether the configured endpoint answers, and which models it has: what `orka system status` tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from orka.errors import ConfigError, LLMError
from orka.llm.address import ANTHROPIC, CHAT, GENERATE, OLLAMA, endpoint_at, guess_provider
from orka.llm.base import Endpoint
from orka.llm.faults import label_of, said_by, unreachable
from orka.settings import Settings

PATIENCE: Final = 3.0
"""Seconds."""
_MOST: Final = 1024 * 1024
"""Bytes of a list of models that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """What could be learned of it."""

    url: str | None = None
    """As messages may show it; None: no address is configured."""
    reachable: bool = False
    models: tuple[str, ...] = ()
    error: str | None = None


class _Named(msgspec.Struct):
    id: str = ""
    name: str = ""


class _Listed(msgspec.Struct):
    data: list[_Named] = []
    models: list[_Named] = []


_decoder: Final = msgspec.json.Decoder(_Listed)


async def probe_models(settings: Settings, *, patience: float = PATIENCE) -> ModelServer:
    """Asks the endpoint of `ORKA_LLM_URL`, else of `OPENAI_BASE_URL`, for its models. Whatever goes wrong is in `error`."""
    url, key = (settings.llm_url, settings.llm_key) if settings.llm_url else (settings.openai_url, settings.openai_key)
    if url is None:
        return ModelServer(error="no address is configured: set ORKA_LLM_URL")
    try:
        endpoint = endpoint_at(guess_provider(url), url, key)
    except ConfigError as error:
        return ModelServer(error=str(error))
    try:
        models = await _list(endpoint, patience)
    except LLMError as error:
        # An endpoint that refuses to list them is there all the same.
        return ModelServer(url=label_of(endpoint), reachable=error.status is not None, error=str(error))
    return ModelServer(url=label_of(endpoint), reachable=True, models=models)


async def _list(endpoint: Endpoint, patience: float) -> tuple[str, ...]:
    import httpx

    address, headers = _question(endpoint)
    local = (urlsplit(address).hostname or "") in ("localhost", "127.0.0.1", "::1")
    body = bytearray()
    try:
        async with (
            httpx.AsyncClient(timeout=patience, trust_env=not local) as client,
            client.stream("GET", address, headers=headers) as response,
        ):
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MOST:
                    break
    except httpx.TimeoutException as exc:
        raise unreachable(endpoint, f"no answer within {patience:g} s") from exc
    except httpx.HTTPError as exc:
        raise unreachable(endpoint, str(exc)) from exc
    if response.status_code != 200:
        where, status = label_of(endpoint), response.status_code
        said = said_by(endpoint, bytes(body))
        raise LLMError(f"{where} does not list its models ({status}: {said})", provider=where, status=status)
    return names_in(bytes(body))


def _question(endpoint: Endpoint) -> tuple[str, dict[str, str]]:
    """The address that lists the models, and the headers that it wants."""
    assert endpoint.url is not None
    parts, key = urlsplit(endpoint.url), endpoint.key
    path = parts.path.rstrip("/")
    if endpoint.provider == OLLAMA:
        path = path.removesuffix(CHAT).removesuffix(GENERATE) + "/api/tags"
    else:
        path += "/v1/models" if endpoint.provider == ANTHROPIC else "/models"
    headers: dict[str, str] = {}
    if key is not None and endpoint.provider == ANTHROPIC:
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    elif key is not None:
        headers = {"Authorization": f"Bearer {key}"}
    return urlunsplit(parts._replace(path=path)), headers


def names_in(body: bytes) -> tuple[str, ...]:
    """Names in a list of models, as OpenAI, Anthropic or Ollama write it; none where it is no such list."""
    try:
        listed = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return ()
    return tuple(one.id or one.name for one in listed.data or listed.models if one.id or one.name)
