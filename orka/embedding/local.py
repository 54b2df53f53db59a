"""The local model: WordLlama's static word vectors, read from its wheel. Nothing is downloaded or sent anywhere.

A text's vector is the mean of its tokens' vectors, scaled to length 1 (https://github.com/dleemiller/WordLlama). The
two files are read directly: importing the `wordllama` package itself would configure the root logger.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from orka.errors import BackendMissing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

DIMENSIONS = (64, 128, 256)
"""The model was trained so that the first 64 and 128 numbers of a vector stand alone (Matryoshka)."""
INLINE_TEXTS = 4
INLINE_CHARACTERS = 1000
"""Up to these a batch is embedded on the event loop: one sentence takes about 30 microseconds, going to a thread and
back takes longer and holds the loop as long."""
CHUNK_TOKENS = 16_384
"""Tokens whose vectors are in memory at once, 16 MiB of them."""


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
        """Blocking; see `LocalEmbedder.embed`."""
        import numpy as np

        rows = np.zeros((len(texts), dimension), dtype=np.float32)
        for index, text in enumerate(texts):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids if text.strip() else []
            total = np.zeros(dimension, dtype=np.float32)
            for start in range(0, len(ids), CHUNK_TOKENS):
                total += self._table[ids[start : start + CHUNK_TOKENS], :dimension].sum(axis=0)
            length = float(np.linalg.norm(total))
            if length > 0.0:
                rows[index] = total / length
        return rows


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
        from safetensors import safe_open
        from tokenizers import Tokenizer

        spec = importlib.util.find_spec("wordllama")
    except ImportError as exc:
        raise _missing(str(exc)) from exc
    if spec is None or spec.origin is None:
        raise _missing("the package 'wordllama' is not installed")
    folder = Path(spec.origin).parent
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        with safe_open(folder / "weights" / "l2_supercat_256.safetensors", framework="np") as file:
            table = file.get_tensor("embedding.weight")
    except Exception as exc:  # bulkhead: the tokenizer's own library raises bare Exception for a missing file
        raise _missing(f"its files in {folder} cannot be read: {exc}") from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return _Model(tokenizer, np.ascontiguousarray(table, dtype=np.float32))


def _missing(why: str) -> BackendMissing:
    return BackendMissing(f'the local embedding model cannot be used ({why}): run `pip install "orka[local]"`')
