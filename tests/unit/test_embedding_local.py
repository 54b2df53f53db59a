"""The local model and the model-free test embedder."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import threading

import anyio
import numpy as np
import pytest

from orka.embedding import local
from orka.embedding.local import LocalEmbedder
from orka.errors import BackendMissing
from orka.testing import HashEmbedder

FRUIT = ["I love apples", "Apples are my favourite fruit", "The server crashed at midnight"]


async def test_near_texts_are_near_and_others_are_not() -> None:
    vectors = await LocalEmbedder().embed(FRUIT)
    assert vectors.shape == (3, 256)
    assert vectors.dtype == np.float32
    assert vectors[0] @ vectors[1] == pytest.approx(0.5388, abs=1e-4)
    assert vectors[0] @ vectors[2] == pytest.approx(-0.0557, abs=1e-4)


@pytest.mark.parametrize("dimension", [64, 128, 256])
async def test_rows_have_length_one_and_empty_texts_are_zeros(dimension: int) -> None:
    embedder = LocalEmbedder(dimension)
    vectors = await embedder.embed([*FRUIT, "", "  \n\t", "é🚀", "half \ud800 pair"])
    assert (embedder.name, embedder.dimension) == (f"wordllama-{dimension}", dimension)
    assert vectors.shape == (7, dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0, 0, 1, 1], abs=1e-6)


async def test_short_vectors_are_the_beginning_of_long_ones() -> None:
    long = (await LocalEmbedder(256).embed(FRUIT))[:, :64]
    short = await LocalEmbedder(64).embed(FRUIT)
    assert short == pytest.approx(long / np.linalg.norm(long, axis=1, keepdims=True), abs=1e-6)


async def test_vector_does_not_depend_on_the_batch() -> None:
    embedder = LocalEmbedder()
    texts = [f"order {number} never arrived, and here is more of the story" * (number % 7) for number in range(1300)]
    together = await embedder.embed(texts)
    for number in (0, 1, 6, 700, 1299):
        alone = await embedder.embed([texts[number]])
        assert (together[number] == alone[0]).all()


async def test_very_long_text_is_summed_in_pieces() -> None:
    vectors = await LocalEmbedder().embed(["apple banana " * 20_000, "apple banana " * 20])
    assert vectors[0] @ vectors[1] == pytest.approx(1.0, abs=1e-3)


async def test_no_texts_give_no_rows() -> None:
    assert (await LocalEmbedder().embed([])).shape == (0, 256)


def test_vectors_are_those_of_the_wordllama_package() -> None:
    # In a process of its own: importing the package configures the root logger.
    script = """
import asyncio, sys
from pathlib import Path
import numpy as np
import wordllama
from orka.embedding.local import LocalEmbedder
folder = Path(wordllama.__file__).parent
theirs = wordllama.WordLlama.load(cache_dir=folder, disable_download=True).embed(sys.argv[1:], norm=True)
ours = asyncio.run(LocalEmbedder().embed(sys.argv[1:]))
assert np.abs(theirs - ours).max() < 1e-6
"""
    subprocess.run([sys.executable, "-c", script, *FRUIT, "größer, 大きい"], check=True, timeout=60)


@pytest.mark.parametrize("count", [20_000, 1], ids=["many", "one"])
async def test_big_batches_leave_the_loop_free(count: int) -> None:
    embedder = LocalEmbedder()
    await embedder.embed(["warm"])
    texts = ["a longer sentence about orders, parcels and refunds. " * (20_000 // count)] * count
    turns = 0
    done = False

    async def count() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await anyio.sleep(0.001)

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await embedder.embed(texts)
        done = True
    assert turns > 5


async def test_model_is_loaded_once_for_many_embedders(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    load = local._load

    def counted() -> local._Model:
        loads.append(threading.get_ident())
        return load()

    monkeypatch.setattr(local, "_load", counted)
    monkeypatch.setattr(local, "_loaded", [])
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(LocalEmbedder().embed, FRUIT)
    assert len(loads) == 1
    assert loads[0] != threading.get_ident()


async def test_missing_extra_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_loaded", [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing) as caught:
        await LocalEmbedder().embed(["x"])
    assert str(caught.value) == (
        "the local embedding model cannot be used (the package 'wordllama' is not installed): "
        'run `pip install "orka[local]"`'
    )


def test_unknown_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="dimension=100 must be one of 64, 128, 256"):
        LocalEmbedder(100)


async def test_logging_is_left_alone() -> None:
    before = list(logging.getLogger().handlers)
    await LocalEmbedder().embed(["x"])
    assert logging.getLogger().handlers == before


async def test_hash_embedder_is_the_same_everywhere() -> None:
    vectors = await HashEmbedder(8).embed(["red green", "Green, red!", "", "blue"])
    assert vectors.shape == (4, 8)
    assert (vectors[0] == vectors[1]).all()
    assert vectors[2].tolist() == [0.0] * 8
    assert vectors[3].tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert np.linalg.norm(vectors[0]) == pytest.approx(1.0)
