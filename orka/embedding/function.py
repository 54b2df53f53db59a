"""`FunctionEmbedder`: any function from texts to vectors as an `Embedder`, its results checked."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import anyio
import anyio.to_thread

from orka.embedding.vectors import clean, unit_rows
from orka.errors import ConfigError, EmbeddingError, OrkaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.floating] | Sequence[Sequence[float]]"
Function: TypeAlias = "Callable[[list[str]], Vectors | Awaitable[Vectors]]"
AT_ONCE: Final = 4
"""Calls of a coroutine function under way at the same time. Models in this process are seldom safe to use from several
threads, and fill the machine alone: of a plain function there is one."""
INLINE_NUMBERS: Final = 16_384
"""Vectors with up to so many numbers are checked on the event loop."""


class FunctionEmbedder:
    """An `Embedder`, used on one event loop. A plain function runs in a thread, a coroutine function on the loop."""

    def __init__(self, function: Function, *, name: str, dimension: int, at_once: int | None = None) -> None:
        """`name` says which model and version it is: it is kept with the memories. `at_once`: calls under way, all others
        wait. `ConfigError` where one of them makes no sense."""
        if not callable(function):  # pyright: ignore[reportUnnecessaryComparison]  callers are not all typed
            raise ConfigError(f"an embedding function is needed, and {function!r} cannot be called")
        if not name:
            raise ConfigError("an embedding function needs a name: it is kept with the memories, to tell models apart")
        self._coroutine = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  an object whose call is a coroutine function
        )
        turns = (AT_ONCE if self._coroutine else 1) if at_once is None else at_once
        if dimension < 1 or turns < 1:
            raise ConfigError(
                f"dimension={dimension!r} and at_once={turns!r} of an embedding function must be at least 1"
            )
        self._function = function
        self._name = name
        self._dimension = dimension
        self._turns = anyio.CapacityLimiter(turns)

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimension(self) -> int:
        return self._dimension

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of length 1, zeros for texts of white space, which the function does not
        see. `EmbeddingError` when it raises, or gives anything but finite numbers of this shape. Cancelling waits for a
        plain function that was called already."""
        import numpy as np

        result = np.zeros((len(texts), self._dimension), dtype=np.float32)
        present = [(place, text) for place, raw in enumerate(texts) if (text := clean(raw))]
        if present:
            try:
                rows = await self._rows([text for _, text in present])
            except EmbeddingError as exc:
                if exc.index is None:
                    raise
                raise EmbeddingError(str(exc), index=present[exc.index][0]) from exc
            result[[place for place, _ in present]] = rows
        return result

    async def _rows(self, texts: list[str]) -> NDArray[np.float32]:
        try:
            if self._coroutine:
                async with self._turns:
                    vectors: object = await cast("Awaitable[Vectors]", self._function(texts))
            else:
                # Not abandoned when cancelled: the next call would find the model still at work.
                vectors = await anyio.to_thread.run_sync(self._function, texts, limiter=self._turns)
                if inspect.isawaitable(vectors):  # a plain function that gives a coroutine
                    async with self._turns:
                        vectors = await vectors
        except OrkaError:
            raise
        except Exception as exc:
            raise EmbeddingError(f"the embedding function {self._name!r} raised {type(exc).__name__}: {exc}") from exc
        if len(texts) * self._dimension <= INLINE_NUMBERS:
            return self._checked(vectors, len(texts))
        return await anyio.to_thread.run_sync(self._checked, vectors, len(texts))

    def _checked(self, vectors: object, count: int) -> NDArray[np.float32]:
        source = f"the embedding function {self._name!r}"
        return unit_rows(vectors, count=count, dimension=self._dimension, source=source)
