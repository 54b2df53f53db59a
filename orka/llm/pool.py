"""`LLMPool`: the clients of one process, one for each endpoint, opened when they are first asked."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

import anyio

from orka.llm.address import ANTHROPIC, OLLAMA
from orka.llm.anthropic_client import AnthropicClient
from orka.llm.base import Answer, Endpoint, LLMClient, OnToken, Question
from orka.llm.costs import Prices
from orka.llm.faults import late
from orka.llm.ollama_client import OllamaClient
from orka.llm.openai_client import OpenAIClient

RETRIES = 3
"""Of one question, after failures that may pass."""


class LLMStatistics(NamedTuple):
    """Of all endpoints."""

    asked: int
    running: int
    waiting: int
    """Questions that wait for others: see `max_concurrency`."""
    failed: int


class _Transport(LLMClient, Protocol):
    async def aclose(self) -> None: ...


class LLMPool:
    """Owned by the services of one process. `concurrency`: questions under way at once, per endpoint; all others wait."""

    def __init__(self, *, timeout: float, concurrency: int, prices: Prices, retries: int = RETRIES) -> None:
        self._timeout = timeout
        self._concurrency = concurrency
        self._prices = prices
        self._retries = retries
        self._clients: dict[Endpoint, _Limited] = {}

    def client(self, endpoint: Endpoint, /) -> LLMClient:
        found = self._clients.get(endpoint)
        if found is None:
            transport = _open(endpoint, self._timeout, self._retries)
            found = _Limited(endpoint, transport, self._concurrency, self._prices, self._timeout)
            self._clients[endpoint] = found
        return found

    async def aclose(self) -> None:
        """Closes every connection. What is still asked fails."""
        clients, self._clients = list(self._clients.values()), {}
        for one in clients:
            await one.transport.aclose()

    def statistics(self) -> LLMStatistics:
        clients = self._clients.values()
        return LLMStatistics(
            asked=sum(one.asked for one in clients),
            running=sum(one.limiter.borrowed_tokens for one in clients),
            waiting=sum(one.limiter.statistics().tasks_waiting for one in clients),
            failed=sum(one.failed for one in clients),
        )


class _Limited:
    """A transport with a bound on what is under way, and the price of what it gives."""

    def __init__(
        self, endpoint: Endpoint, transport: _Transport, concurrency: int, prices: Prices, timeout: float
    ) -> None:
        self.transport = transport
        self.limiter = anyio.CapacityLimiter(concurrency)
        self.asked = self.failed = 0
        self._endpoint = endpoint
        self._prices = prices
        self._timeout = timeout

    async def ask(self, question: Question, /, *, on_token: OnToken | None = None) -> Answer:
        async with self.limiter:
            self.asked += 1
            seconds = question.timeout or self._timeout
            try:
                # The libraries bound one attempt, and of a stream the time between two pieces: not what a caller waits.
                with anyio.fail_after(seconds):
                    answer = await self.transport.ask(question, on_token=on_token)
            except TimeoutError as exc:
                self.failed += 1
                raise late(self._endpoint, question.model, seconds) from exc
            except BaseException:
                self.failed += 1
                raise
        cost = await self._prices.cost(self._endpoint, question.model, answer.usage, answer.latency_ms)
        if cost is None:
            return answer
        return replace(answer, usage=replace(answer.usage, cost_usd=cost), priced=True)


def _open(endpoint: Endpoint, timeout: float, retries: int) -> _Transport:
    match endpoint.provider:
        case _ if endpoint.provider == ANTHROPIC:
            return AnthropicClient(endpoint, timeout=timeout, retries=retries)
        case _ if endpoint.provider == OLLAMA:
            return OllamaClient(endpoint, timeout=timeout, retries=retries)
        case _:
            return OpenAIClient(endpoint, timeout=timeout, retries=retries)
