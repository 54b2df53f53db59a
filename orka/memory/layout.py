"""`Layout`: by which model and in which form memories are indexed, the same for every process that shares a Redis.

It is written down beside the memories by the first process that opens them. Each version has a vector field and an index of
its own, so that one can be built while the other serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from orka.errors import IndexMismatch, StoreError
from orka.redis.faults import translate
from orka.redis.keys import memory_layout_key
from orka.redis.pipeline import Keyed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX: Final = "orka_enhanced_memory"
"""The documented name: an alias of the version that serves."""
Precision: TypeAlias = Literal["FLOAT16", "FLOAT32"]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the index."""

    embedder: str
    """Name of the model that made the vectors."""
    dimension: int
    precision: Precision = "FLOAT16"
    m: int = 16
    """Links of each vector to others (HNSW's M)."""
    ef_construction: int = 64
    ef_runtime: int = 256
    """Width of a search that asks for none. Of the ten nearest of 100,000 package descriptions it finds 9.6, 128 finds 9.4, and
    the server's own default of 10 finds 6.7."""
    version: int = 1

    @property
    def field(self) -> str:
        """Of the vector in a memory's hash."""
        return f"v{self.version}"

    @property
    def index(self) -> str:
        """Of the search module."""
        return f"{INDEX}:{self.version}"

    @property
    def row_bytes(self) -> int:
        """Of one vector."""
        return self.dimension * (2 if self.precision == "FLOAT16" else 4)

    def pack(self, vectors: NDArray[np.float32]) -> list[bytes]:
        """Rows of shape (n, dimension) as the server wants them; empty for a row of zeros."""
        import numpy as np

        present: list[bool] = vectors.any(axis=1).tolist()  # pyright: ignore[reportAssignmentType]  its stub knows scalars
        rows = vectors.astype(np.float16 if self.precision == "FLOAT16" else np.float32)
        size = rows.shape[1] * rows.itemsize
        data = rows.tobytes()
        return [data[i * size : (i + 1) * size] if there else b"" for i, there in enumerate(present)]

    def unpack(self, packed: Sequence[bytes]) -> NDArray[np.float32]:
        """Shape (n, dimension); zeros for what is empty or of another size."""
        import numpy as np

        kind = np.dtype(np.float16 if self.precision == "FLOAT16" else np.float32)
        size = kind.itemsize * self.dimension
        zeros = bytes(size)
        data = b"".join(row if len(row) == size else zeros for row in packed)
        return np.frombuffer(data, dtype=kind).reshape(len(packed), self.dimension).astype(np.float32)

    def cosines(self, packed: Sequence[bytes], vector: NDArray[np.float32]) -> list[float | None]:
        """Of each row with `vector` (shape (dimension,), length 1); None where there is no vector."""
        import numpy as np

        rows = self.unpack([*packed, *self.pack(vector.reshape(1, -1))])
        with np.errstate(all="ignore"):  # somebody may have stored numbers that are none
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            cosines = (rows[:-1] @ rows[-1]) / (lengths[:-1] * lengths[-1])
        return [None if cosine != cosine else min(1.0, max(-1.0, cosine)) for cosine in cosines.tolist()]

    def same_vectors(self, other: Layout) -> bool:
        """Whether vectors made for one are right for the other."""
        return (self.embedder, self.dimension) == (other.embedder, other.dimension)

    def packs_like(self, other: Layout) -> bool:
        """Whether they are in the same field, and in the same form."""
        return (self.version, self.precision) == (other.version, other.precision)

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


LAYOUT_FIELDS: Final = ("current", "next")
"""Of the hash: the layout that serves, and the one that a rebuild makes."""


def decode_layout(raw: bytes | None) -> Layout | None:
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Layout)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise StoreError(
            f"the layout of the memories in {memory_layout_key()!r} cannot be read, of a newer Orka perhaps: {exc}"
        ) from exc


class LayoutInUse:
    """The layout that an open store works with. It follows a rebuild by another process."""

    def __init__(self, layout: Layout) -> None:
        self.current = layout
        """The one that serves; the next version after a rebuild."""
        self._next: Layout | None = None
        self.seen: tuple[bytes | None, ...] = (layout.encode(), None)
        """What was written down when this process looked last."""

    def heed(self, written: Sequence[bytes | None]) -> bool:
        """Takes over what is written down; whether that is news. `IndexMismatch` when it is of another model."""
        seen = tuple(written)
        current, following = (decode_layout(raw) for raw in seen)
        if seen == self.seen or current is None:
            return False
        if not current.same_vectors(self.current):
            raise IndexMismatch(
                f"the memories were indexed anew with {current.embedder!r} ({current.dimension} numbers) while this process "
                f"works with {self.current.embedder!r} ({self.current.dimension}): start it again with that model"
            )
        self.current, self._next, self.seen = current, following, seen
        return True

    def rows(self, count: int, vectors: NDArray[np.float32] | None) -> dict[str, list[bytes]]:
        """Packed rows for every vector field that a hash may have. What is not written is emptied: an older record of the
        same key may have left a vector of another text there."""
        none = [b""] * count
        version = self.current.version
        rows = {f"v{one}": none for one in range(max(1, version - 1), version + 2)}
        for layout in (self.current, self._next):
            if layout is not None and vectors is not None and layout.same_vectors(self.current):
                rows[layout.field] = layout.pack(vectors)
        return rows


def ask_layouts() -> Keyed:
    """The command whose reply `LayoutInUse.heed` takes."""
    return memory_layout_key(), ("HMGET", memory_layout_key(), *LAYOUT_FIELDS)


async def layout_for(client: Redis | RedisCluster, embedder: str, dimension: int) -> Layout:
    """What a process that has this model wants: the form that is in use, if there is one, since it may have been rebuilt with
    other numbers than the defaults."""
    form = await _written_down(client) or Layout(embedder=embedder, dimension=dimension)
    return msgspec.structs.replace(form, embedder=embedder, dimension=dimension)


async def agree_on(client: Redis | RedisCluster, wanted: Layout) -> Layout:
    """The layout in use: `wanted` if none was before. `IndexMismatch` when memories are there under another one. Nothing is
    written when there is one: a server that is full, or a user who may only read, can be asked."""
    found = await _written_down(client)
    if found is None:
        try:
            await client.hsetnx(memory_layout_key(), "current", wanted.encode())  # pyright: ignore[reportGeneralTypeIssues]
        except (RedisError, OSError) as exc:
            raise translate(exc) from exc
        found = await _written_down(client)
    if found is None:
        raise StoreError("the layout of the memories was deleted while it was being read: try again")
    if msgspec.structs.replace(wanted, version=found.version, ef_runtime=found.ef_runtime) != found:
        raise IndexMismatch(_mismatch(wanted, found))
    return found


async def _written_down(client: Redis | RedisCluster) -> Layout | None:
    try:
        raw = await client.hget(memory_layout_key(), "current")  # pyright: ignore[reportGeneralTypeIssues]
    except (RedisError, OSError) as exc:
        raise translate(exc) from exc
    return decode_layout(cast("bytes | None", raw))


def _mismatch(wanted: Layout, found: Layout) -> str:
    differences = [
        f"{name} {getattr(found, name)!r} there, {getattr(wanted, name)!r} wanted"
        for name in ("embedder", "dimension", "precision", "m", "ef_construction")
        if getattr(found, name) != getattr(wanted, name)
    ]
    return (
        f"the memories in this Redis are indexed in another way ({'; '.join(differences)}): use the same settings, or "
        "rebuild the index with `orka memory reindex`, which serves searches meanwhile"
    )
