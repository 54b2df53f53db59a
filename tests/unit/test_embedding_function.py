"""Any function as an embedder: in a thread or on the loop, its vectors checked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from orka.embedding.base import embed_each
from orka.embedding.function import FunctionEmbedder
from orka.errors import ConfigError, EmbeddingError


def lengths(texts: list[str]) -> list[list[float]]:
    return [[3.0 * len(text), 4.0 * len(text)] for text in texts]


async def later(texts: list[str]) -> list[list[float]]:
    await anyio.lowlevel.checkpoint()
    return lengths(texts)


class Model:
    async def __call__(self, texts: list[str]) -> Any:
        return np.array(lengths(texts), dtype=np.float32)


def starts(texts: list[str]) -> Any:
    return later(texts)


@pytest.mark.parametrize("function", [lengths, later, Model(), starts, lambda texts: tuple(map(tuple, lengths(texts)))])
async def test_rows_have_length_one_and_empty_texts_are_zeros(function: Callable[[list[str]], Any]) -> None:
    embedder = FunctionEmbedder(function, name="lengths-1", dimension=2)
    assert (embedder.name, embedder.dimension) == ("lengths-1", 2)
    rows = await embedder.embed(["a", " ", "bcd", ""])
    assert rows.dtype == np.float32
    assert rows == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0.6, 0.8], [0, 0]]))
    assert (await embedder.embed([])).shape == (0, 2)


async def test_plain_function_runs_in_one_thread_at_a_time_and_not_on_the_loop() -> None:
    inside = most = 0
    threads: set[int] = set()

    def slow(texts: list[str]) -> list[list[float]]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threads.add(threading.get_ident())
        threading.Event().wait(0.01)
        inside -= 1
        return lengths(texts)

    embedder = FunctionEmbedder(slow, name="slow", dimension=2)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(embedder.embed, ["a"])
    assert most == 1
    assert threading.get_ident() not in threads


async def test_coroutine_function_has_a_few_calls_under_way() -> None:
    inside = most = 0

    async def slow(texts: list[str]) -> list[list[float]]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await anyio.sleep(0.01)
        inside -= 1
        return lengths(texts)

    embedder = FunctionEmbedder(slow, name="slow", dimension=2)
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(embedder.embed, ["a"])
    assert most == 4


async def test_function_does_not_see_empty_texts_nor_half_characters() -> None:
    seen: list[str] = []

    def note(texts: list[str]) -> list[list[float]]:
        seen.extend(texts)
        return lengths(texts)

    embedder = FunctionEmbedder(note, name="note", dimension=2)
    await embedder.embed(["\ud800", "", "\t"])
    await embedder.embed([""])
    assert seen == ["?"]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0]], "gives vectors of shape (1, 2) for 2 texts: one row for each is needed"),
        ([1.0, 2.0], "gives vectors of shape (2,) for 2 texts: one row for each is needed"),
        (None, "gives vectors of shape () for 2 texts: one row for each is needed"),
        ([[1.0], [2.0]], "gives vectors of 1 numbers where 2 are expected: is it still the same model?"),
        ([[1.0, 2.0], [3.0]], "gives vectors that are not 2 equally long rows of numbers: "),
        ([[1.0, "x"], [3.0, 4.0]], "gives vectors that are not 2 equally long rows of numbers: "),
        ([[1.0, 2.0], [float("nan"), 4.0]], "gives a vector with infinite or undefined numbers (row 1 of 2)"),
        ([[float("inf"), 2.0], [3.0, 4.0]], "gives a vector with infinite or undefined numbers (row 0 of 2)"),
    ],
)
async def test_vectors_that_are_none_are_refused(vectors: Any, message: str) -> None:
    embedder = FunctionEmbedder(lambda texts: vectors, name="odd", dimension=2)
    with pytest.raises(EmbeddingError) as caught:
        await embedder.embed(["a", "b"])
    assert str(caught.value).startswith(f"the embedding function 'odd' {message}")


async def test_the_text_whose_vector_is_none_is_refused_alone() -> None:
    def some(texts: list[str]) -> Any:
        return [[float("nan"), 1.0] if "odd" in text else [1.0, 0.0] for text in texts]

    embedder = FunctionEmbedder(some, name="some-1", dimension=2)
    rows, refused = await embed_each(embedder, ["", "a", "odd", " ", "b", "odd too"])
    assert sorted(refused) == [2, 5]
    assert "infinite or undefined" in str(refused[2])
    assert rows.tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [1, 0], [0, 0]]


async def test_what_the_function_raises_is_named() -> None:
    def fail(texts: list[str]) -> list[list[float]]:
        raise KeyError("weights")

    with pytest.raises(EmbeddingError) as caught:
        await FunctionEmbedder(fail, name="mine", dimension=2).embed(["a"])
    assert str(caught.value) == "the embedding function 'mine' raised KeyError: 'weights'"
    assert isinstance(caught.value.__cause__, KeyError)


async def test_big_and_extreme_vectors_have_length_one() -> None:
    embedder = FunctionEmbedder(lambda texts: np.full((len(texts), 4), 1e308), name="big", dimension=4)
    rows = await embedder.embed(["a"] * 5000)
    assert rows.shape == (5000, 4)
    assert (rows == 0.5).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": 7}, "an embedding function is needed, and 7 cannot be called"),
        ({"name": ""}, "an embedding function needs a name: it is kept with the memories, to tell models apart"),
        ({"dimension": 0}, "dimension=0 and at_once=1 of an embedding function must be at least 1"),
        ({"at_once": 0}, "dimension=2 and at_once=0 of an embedding function must be at least 1"),
    ],
)
def test_useless_functions_are_refused(options: dict[str, Any], message: str) -> None:
    given = {"function": lengths, "name": "n", "dimension": 2, **options}
    with pytest.raises(ConfigError) as caught:
        FunctionEmbedder(given.pop("function"), **given)
    assert str(caught.value) == message
