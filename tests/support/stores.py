"""A `MemoryStore` in a mapping, which fails and waits as a test tells it to, and an embedder that refuses texts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from orka.errors import EmbeddingError, OrkaError, RecordRefused, StoreError
from orka.memory.query import Candidate, Look
from orka.memory.record import MemoryRecord
from orka.testing import HashEmbedder


class PlainStore:
    """Keeps contents by key. Each write takes the next of `faults` (an error to raise, or None), and waits while `held`."""

    name = "plain"
    together = 32

    def __init__(self) -> None:
        self.contents: dict[str, str] = {}
        self.batches: list[list[str]] = []
        """Contents of each write, also of those that failed."""
        self.faults: list[BaseException | None] = []
        self.held = asyncio.Event()
        self.held.set()

    async def write(self, records: Sequence[MemoryRecord], vectors: Any, /) -> Sequence[OrkaError | None]:
        assert len(vectors) == len(records) > 0
        self.batches.append([record.content for record in records])
        fault = self.faults.pop(0) if self.faults else None
        await self.held.wait()
        if fault is not None:
            raise fault
        for record in records:
            record.content.encode()
        for record in records:
            if record.content != "refused":
                self.contents[record.key] = record.content
        return [RecordRefused("no") if record.content == "refused" else None for record in records]

    async def search(self, looks: Sequence[Look], /) -> Sequence[Sequence[Candidate]]:
        raise NotImplementedError

    async def delete(self, keys: Sequence[str], /) -> int:
        raise NotImplementedError

    async def scan(self) -> AsyncIterator[Sequence[MemoryRecord]]:
        raise NotImplementedError
        yield []


class FussyEmbedder(HashEmbedder):
    """Refuses texts that hold `bad`, one at a time, `broken` gives no vectors at all, and `wild` raises what it should not."""

    def __init__(self) -> None:
        super().__init__(16)
        self.calls: list[int] = []

    async def embed(self, texts: Sequence[str], /) -> "np.ndarray[Any, np.dtype[np.float32]]":
        self.calls.append(len(texts))
        await asyncio.sleep(0)
        for index, text in enumerate(texts):
            if "bad" in text:
                raise EmbeddingError(f"refused: {text}", index=index)
            if "broken" in text:
                raise EmbeddingError("the endpoint is away")
            if "wild" in text:
                raise RuntimeError("out of memory")
        return await super().embed(texts)


AWAY = StoreError("Redis is away")
