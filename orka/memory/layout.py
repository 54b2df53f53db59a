"""`Layout`: by which model and in which form memories are indexed, the same for every process that shares a Redis.

It is written down beside the memories by the first process that opens them. Each version has a vector field and an index of
its own, so that one can be built while the other serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import msgspec
from redis.asyncio import Redis, RedisCluster

from orka.errors import IndexMismatch, StoreError
from orka.redis.keys import memory_layout_key

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

    def same_vectors(self, other: Layout) -> bool:
        """Whether vectors made for one are right for the other."""
        return (self.embedder, self.dimension) == (other.embedder, other.dimension)

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


LAYOUT_FIELDS: Final = ("current", "next")
"""Of the hash: the layout that serves, and the one that a rebuild makes."""


def decode_layout(raw: bytes | None) -> Layout | None:
    return None if raw is None else msgspec.json.decode(raw, type=Layout)


async def layout_for(client: Redis | RedisCluster, embedder: str, dimension: int) -> Layout:
    """What a process that has this model wants: the form that is in use, if there is one, since it may have been rebuilt with
    other numbers than the defaults."""
    raw = await client.hget(memory_layout_key(), "current")  # pyright: ignore[reportGeneralTypeIssues]
    form = decode_layout(cast("bytes | None", raw)) or Layout(embedder=embedder, dimension=dimension)
    return msgspec.structs.replace(form, embedder=embedder, dimension=dimension)


async def agree_on(client: Redis | RedisCluster, wanted: Layout) -> Layout:
    """The layout in use: `wanted` if none was before. `IndexMismatch` when memories are there under another one."""
    key = memory_layout_key()
    await client.hsetnx(key, "current", wanted.encode())  # pyright: ignore[reportGeneralTypeIssues]
    raw = await client.hget(key, "current")  # pyright: ignore[reportGeneralTypeIssues]
    if raw is None:
        raise StoreError("the layout of the memories was deleted while it was being read: try again")
    found = msgspec.json.decode(cast("bytes", raw), type=Layout)
    if msgspec.structs.replace(wanted, version=found.version, ef_runtime=found.ef_runtime) != found:
        raise IndexMismatch(_mismatch(wanted, found))
    return found


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
