"""`RemoteEmbedder`: vectors from an OpenAI-compatible endpoint, in batches, a few at once, tried again when that may help."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import anyio
import anyio.to_thread

from orka.embedding.endpoint import Busy, Endpoint, TooMuch, judge_status, read_answer
from orka.embedding.vectors import clean
from orka.errors import EmbeddingError, sole_error
from orka.logs import get_logger
from orka.version import VERSION

if TYPE_CHECKING:  # httpx takes 0.15 s to import, and most processes ask no endpoint
    import httpx
    import numpy as np
    from numpy.typing import NDArray

MOST_ANSWER: Final = 128 * 1024 * 1024
"""Bytes of one answer."""
INLINE_ANSWER: Final = 64 * 1024
"""Bytes up to which an answer is read on the event loop: it takes less than going to a thread does."""
PROBE: Final = "dimension"

_log = get_logger("orka.embedding")


class RemoteStatistics(NamedTuple):
    requests: int
    """Sent since the start, repeated ones included."""
    repeated: int
    under_way: int
    """At most the endpoint's `at_once`."""


class RemoteEmbedder:
    """An `Embedder`, used on one event loop; whoever made it closes it. Nothing is sent before the first text."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._dimension = endpoint.dimension
        self._most_texts = endpoint.texts
        self._client: httpx.AsyncClient | None = None
        self._opening = anyio.Lock()
        self._turns = anyio.Semaphore(endpoint.at_once)
        self._not_before = 0.0
        self._requests = 0
        self._repeated = 0
        self._closed = False

    @property
    def name(self) -> str:
        return self._endpoint.model

    @property
    def dimension(self) -> int:
        """`EmbeddingError` while it is unknown: until the first answer, unless the endpoint was given one."""
        if self._dimension is None:
            raise EmbeddingError(
                f"how long the vectors of {self.name!r} are is not known yet: await `probe()` first, or set "
                "ORKA_EMBEDDING_DIMENSION"
            )
        return self._dimension

    def statistics(self) -> RemoteStatistics:
        return RemoteStatistics(self._requests, self._repeated, self._endpoint.at_once - self._turns.value)

    async def probe(self) -> int:
        """The dimension, asked for with one short text where it is not known. `EmbeddingError` as `embed`."""
        if self._dimension is None:
            await self._rows([PROBE], [0])
        return self.dimension

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of length 1, zeros for texts of white space, which are not sent.

        `EmbeddingError` when the endpoint refuses, answers wrongly, or does not answer after all attempts; its `index` is
        that of a text that is refused alone. All or nothing: no text's vector is given then."""
        import numpy as np

        parts: list[tuple[list[int], NDArray[np.float32]]] = []
        batches = self._batches(texts)

        async def work() -> None:
            for places, asked in batches:
                parts.append((places, await self._rows(asked, places)))

        first = next(batches, None)
        if first is not None:
            # Alone: one batch is the rule and needs no task, and it shows how many texts the endpoint takes.
            parts.append((first[0], await self._rows(first[1], first[0])))
        if (second := next(batches, None)) is not None:
            try:
                async with anyio.create_task_group() as group:
                    for _ in range(self._endpoint.at_once - 1):
                        group.start_soon(work)
                    parts.append((second[0], await self._rows(second[1], second[0])))
                    await work()
            except BaseExceptionGroup as failures:
                raise sole_error(failures) from None
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for places, rows in parts:
            result[places] = rows
        return result

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
        places: list[int] = []
        batch: list[str] = []
        characters = 0
        for place, raw in enumerate(texts):
            if not (text := clean(raw)):
                continue
            too_long = characters + len(text) > self._endpoint.characters
            if batch and (too_long or len(batch) >= self._most_texts):
                yield places, batch
                places, batch, characters = [], [], 0
            places.append(place)
            batch.append(text)
            characters += len(text)
        if batch:
            yield places, batch

    async def _rows(self, texts: list[str], places: list[int]) -> NDArray[np.float32]:
        """Of one batch, in halves where the endpoint refuses the whole: it may take fewer texts, or one of them may be too
        long for its model."""
        import numpy as np

        try:
            return await self._ask(texts)
        except TooMuch as exc:
            if len(texts) == 1:
                hint = "" if self._endpoint.dimension is None else _NO_DIMENSIONS
                raise EmbeddingError(
                    f"{self._endpoint.label} refuses a text of {len(texts[0]):,} characters alone ({exc}){hint}",
                    index=places[0],
                ) from None
        except EmbeddingError as exc:
            if exc.index is None:
                raise
            raise EmbeddingError(str(exc), index=places[exc.index]) from exc
        half = len(texts) // 2
        left = await self._rows(texts[:half], places[:half])
        right = await self._rows(texts[half:], places[half:])
        self._most_texts = min(self._most_texts, len(texts) - half)
        return np.concatenate([left, right])

    async def _ask(self, texts: list[str]) -> NDArray[np.float32]:
        """One request, as many times as it is worth. `TooMuch` when it is refused as it is."""
        endpoint = self._endpoint
        pause = endpoint.pause
        for attempt in range(1, endpoint.attempts + 1):
            try:
                return await self._attempt(texts)
            except Busy as exc:
                wait = max(exc.after or 0.0, pause * random.uniform(0.5, 1.0))
                if attempt == endpoint.attempts or wait > endpoint.longest_pause:
                    raise EmbeddingError(_gave_up(endpoint, attempt, exc)) from exc.__cause__
                if exc.after is not None:  # it means all of us
                    self._not_before = max(self._not_before, anyio.current_time() + exc.after)
                _log.info(
                    "embedding.failed", endpoint=endpoint.label, attempt=attempt, reason=str(exc), wait=round(wait, 3)
                )
                await anyio.sleep(wait)
                self._repeated += 1
                pause = min(2 * pause, endpoint.longest_pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, texts: list[str]) -> NDArray[np.float32]:
        async with self._turns:
            if (wait := self._not_before - anyio.current_time()) > 0:
                await anyio.sleep(wait)
            status, retry_after, body = await self._post(self._endpoint.question(texts))
        judge_status(self._endpoint, status, retry_after, body)
        if len(body) <= INLINE_ANSWER:
            rows = self._read(body, len(texts))
        else:
            rows = await anyio.to_thread.run_sync(self._read, body, len(texts))
        if self._dimension is None:
            self._dimension = rows.shape[1]
        elif rows.shape[1] != self._dimension:  # two first answers at once
            return self._read(body, len(texts))
        return rows

    def _read(self, body: bytes, count: int) -> NDArray[np.float32]:
        return read_answer(self._endpoint, body, count=count, dimension=self._dimension)

    async def _post(self, body: bytes) -> tuple[int, str | None, bytes]:
        """Status, Retry-After, body. `Busy` where the connection or the time was not enough."""
        client = await self._open()
        import httpx

        label = self._endpoint.label
        chunks: list[bytes] = []
        size = 0
        self._requests += 1
        try:
            with anyio.fail_after(self._endpoint.timeout):
                async with client.stream("POST", self._endpoint.target, content=body) as response:
                    async for chunk in response.aiter_bytes():
                        size += len(chunk)
                        if size > MOST_ANSWER:
                            raise EmbeddingError(
                                f"{label} gives an answer beyond {MOST_ANSWER:,} bytes: it cannot be used"
                            )
                        chunks.append(chunk)
                return response.status_code, response.headers.get("Retry-After"), b"".join(chunks)
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise Busy(f"no answer within {self._endpoint.timeout:g} s") from exc
        except httpx.HTTPError as exc:
            raise Busy(f"{type(exc).__name__}: {exc}") from exc

    async def _open(self) -> httpx.AsyncClient:
        if self._closed:
            raise EmbeddingError(f"the embedder of {self.name!r} is closed")
        if self._client is None:
            async with self._opening:
                if self._client is None:  # reading the certificates takes a while
                    self._client = await anyio.to_thread.run_sync(_client, self._endpoint)
        return self._client

    async def aclose(self) -> None:
        """Closes its connections; harmless when repeated."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


_NO_DIMENSIONS: Final = ". Not every model can be asked for a dimension: leave ORKA_EMBEDDING_DIMENSION unset then"


def _gave_up(endpoint: Endpoint, attempt: int, last: Busy) -> str:
    if last.after is not None and last.after > endpoint.longest_pause:
        return f"{endpoint.label} wants to be left alone for {last.after:,.0f} s ({last}): try again later"
    times = "one attempt" if attempt == 1 else f"{attempt} attempts"
    return (
        f"{endpoint.label} gives no vectors after {times} (the last time, {last}): look whether it is up and whether "
        "ORKA_EMBEDDING_URL names it"
    )


def _client(endpoint: Endpoint) -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(
        headers={**endpoint.headers, "User-Agent": f"orka/{VERSION}"},
        timeout=httpx.Timeout(endpoint.timeout, connect=min(10.0, endpoint.timeout), pool=None),
        limits=httpx.Limits(max_connections=endpoint.at_once, max_keepalive_connections=endpoint.at_once),
        follow_redirects=False,  # the key would go along
        trust_env=not endpoint.local,
    )
