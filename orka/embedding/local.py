"""The local model: WordLlama's static word vectors, read from its wheel. Nothing is downloaded or sent anywhere.

A text's vector is the mean of its tokens' vectors, scaled to length 1 (https://github.com/dleemiller/WordLlama). The
two files are read directly: importing the `wordllama` package itself would configure the root logger.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from orka.embedding.vectors import clean
from orka.errors import BackendMissing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

DIMENSIONS = (64, 128, 256)
"""The model was trained so that the first 64 and 128 numbers of a vector stand alone (Matryoshka)."""
INLINE_TEXTS = 4
INLINE_CHARACTERS = 400
"""Up to these a batch is embedded on the event loop: a sentence takes about 30 microseconds, and going to a thread and
back would hold the loop for longer than that."""
BATCH_TEXTS = 512
BATCH_CHARACTERS = 256 * 1024
"""Texts are tokenized in batches of at most these, so that what is in memory at once is bounded."""
PARALLEL_TEXTS = 16
PARALLEL_CHARACTERS = 8192
"""From here on the tokenizer's own threads pay for being woken; and only they leave Python to others meanwhile."""
CHUNK_TOKENS = 16_384
"""Tokens of one text whose vectors are summed at once: 16 MiB of them."""


class LocalEmbedder:
    """Loads the model (0.1 s, off the loop) when first used; all embedders of a process share it."""

    def __init__(self, dimension: int = 256) -> None:
        if dimension not in DIMENSIONS:
            raise ValueError(f"dimension={dimension!r} must be one of {', '.join(map(str, DIMENSIONS))}")
        self._dimension = dimension
        self._model: _Model | None = None

    @property
    def name(self) -> str:
        return f"wordllama-{self._dimension}"

    @property
    def dimension(self) -> int:
        return self._dimension

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of length 1, zeros for a text without a token. `BackendMissing` when the
        extra `local` is not installed."""
        model = self._model
        if model is None:
            model = self._model = await anyio.to_thread.run_sync(_model)
        if len(texts) <= INLINE_TEXTS and sum(map(len, texts)) <= INLINE_CHARACTERS:
            return model.embed(texts, self._dimension)
        return await anyio.to_thread.run_sync(model.embed, texts, self._dimension)


class _Model:
    """The tokenizer and the table of vectors; safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, table: NDArray[np.float32]) -> None:
        self._tokenizer = tokenizer
        self._table = table

    def embed(self, texts: Sequence[str], dimension: int) -> NDArray[np.float32]:
        """Blocking; see `LocalEmbedder.embed`. A row depends on its own text alone, whatever the batch."""
        import numpy as np

        sums = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        row = 0
        for batch in _batches(texts):
            for ids in self._tokens(batch):
                if len(ids) <= CHUNK_TOKENS:
                    np.add.reduce(self._table.take(ids, axis=0), axis=0, out=sums[row])
                else:
                    for start in range(0, len(ids), CHUNK_TOKENS):
                        sums[row] += self._table.take(ids[start : start + CHUNK_TOKENS], axis=0).sum(axis=0)
                row += 1
        rows = sums[:, :dimension]
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, np.newaxis]
        return np.divide(rows, lengths, out=np.zeros(rows.shape, dtype=np.float32), where=lengths > 0)

    def _tokens(self, batch: list[str]) -> Iterator[list[int]]:
        if len(batch) < PARALLEL_TEXTS and sum(map(len, batch)) < PARALLEL_CHARACTERS:
            for text in batch:
                yield self._tokenizer.encode(text, add_special_tokens=False).ids
        else:
            for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield encoding.ids


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(clean(text))
        characters += len(text)
        if len(batch) == BATCH_TEXTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


_lock = threading.Lock()
_loaded: list[_Model] = []


def _model() -> _Model:
    with _lock:
        if not _loaded:
            _loaded.append(_load())
        return _loaded[0]


def _load() -> _Model:
    try:
        import numpy as np
        from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]  (its `Dict` lacks types)
        from tokenizers import Tokenizer

        spec = importlib.util.find_spec("wordllama")
    except ImportError as exc:
        raise _missing(str(exc)) from exc
    if spec is None or spec.origin is None:
        raise _missing("the package 'wordllama' is not installed")
    folder = Path(spec.origin).parent
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        table: NDArray[np.float16] = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    except Exception as exc:  # bulkhead: the tokenizer's own library raises bare Exception for a missing file
        raise _missing(f"its files in {folder} cannot be read: {exc}") from exc
    return _Model(tokenizer, np.ascontiguousarray(table, dtype=np.float32))


def _missing(why: str) -> BackendMissing:
    return BackendMissing(f'the local embedding model cannot be used ({why}): run `pip install "orka[local]"`')
