"""`ingest`: keeps the texts of a folder as memories: passages that are new are stored, those that are gone are deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from pydantic import BaseModel, Field

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType, MemoryAccess
from orka.errors import AgentError, ConfigError
from orka.graph.nodes import AgentNode
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import MemoryRecord, key_for, new_record
from orka.search.passages import MOST, split_text
from orka.search.reading import NotText, list_files, permitted_folder, read_text
from orka.types import Json

if TYPE_CHECKING:  # it brings numpy and the stores along
    from orka.memory.memory import Memory

_MOST: Final = 10_000
"""Passages of a folder: as many memories as one search gives."""
_NAMED: Final = 50
"""Files passed over that a result names."""
_IMPORTANCE: Final = 0.8


class IngestOptions(BaseModel):
    """Keys of an `ingest` node."""

    path: str = Field(description="Folder of texts, relative to the working directory.")
    namespace: str = Field(default="default", description="Where they are stored.")
    category: str = Field(default="stored", description="Of the memories.")
    passage_size: int = Field(default=MOST, ge=100, le=20_000, description="Characters of one memory at most.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What a folder holds."""

    files: int
    wanted: dict[str, tuple[str, str, str]]
    """(content, file, heading) by the key of the memory."""
    skipped: tuple[tuple[str, str], ...]


class IngestAgent:
    """Comes to the same memories however often it is repeated."""

    def __init__(self, options: IngestOptions, access: MemoryAccess, roots: Sequence[Path]) -> None:
        self._options = options
        self._access = access
        self._roots = roots

    async def run(self, task: AgentInput, /) -> AgentOutput:
        options = self._options
        texts = await anyio.to_thread.run_sync(read_texts, options, self._roots)
        memory = await self._access.opened()
        stored = await _stored(memory, options)
        new = [key for key in texts.wanted if key not in stored]
        gone = [key for key in stored if key not in texts.wanted]
        await _write(memory, [_record(key, *texts.wanted[key], options, task) for key in new])
        if gone:
            await memory.delete(gone)
        kept = len(texts.wanted) - len(new)
        skipped: list[Json] = [{"file": name, "reason": why} for name, why in texts.skipped[:_NAMED]]
        return AgentOutput(
            response=f"{texts.files} files in {len(texts.wanted)} passages: {len(new)} new, {kept} kept, {len(gone)} deleted",
            fields={
                "namespace": options.namespace,
                "files": texts.files,
                "passages": len(texts.wanted),
                "new": len(new),
                "kept": kept,
                "deleted": len(gone),
                "skipped": skipped,
            },
        )


def read_texts(options: IngestOptions, roots: Sequence[Path]) -> Texts:
    """Blocking. `ConfigError` for a folder that graphs may not read, `AgentError` for one with too many passages."""
    listing = list_files(permitted_folder(options.path, roots))
    wanted: dict[str, tuple[str, str, str]] = {}
    skipped = list(listing.skipped)
    files = 0
    for file in listing.files:
        try:
            passages = split_text(read_text(file), options.passage_size)
        except NotText as exc:
            skipped.append((file.name, str(exc)))
            continue
        files += 1
        repeated = Counter[str]()
        for passage in passages:
            repeated[passage.text] += 1  # the same passage twice in one file is one memory
            if repeated[passage.text] == 1:
                key = key_for("text", options.namespace, options.path, file.name, passage.heading, passage.text)
                wanted[key] = (passage.text, file.name, passage.heading)
        if len(wanted) > _MOST:
            raise AgentError(
                f"the folder {options.path!r} holds more than {_MOST:,} passages: load its parts into namespaces of "
                "their own, or make `passage_size` larger",
                kind="FolderTooLarge",
            )
    return Texts(files=files, wanted=wanted, skipped=tuple(skipped))


async def _stored(memory: Memory, options: IngestOptions) -> set[str]:
    """Keys of what is stored of this folder."""
    filters = Filters(namespace=options.namespace, metadata={"folder": options.path})
    return {hit.record.key for hit in await memory.search(MemoryQuery(limit=_MOST, filters=filters))}


async def _write(memory: Memory, records: Sequence[MemoryRecord]) -> None:
    errors = [error for error in await memory.write_many(records, until="stored") if error is not None]
    if errors:
        raise AgentError(f"{len(errors)} of {len(records)} passages were not stored: {errors[0]}", kind="WriteLost")


def _record(key: str, content: str, file: str, heading: str, options: IngestOptions, task: AgentInput) -> MemoryRecord:
    return new_record(
        content,
        key=key,
        namespace=options.namespace,
        category=options.category,
        memory_type="long_term",
        importance=_IMPORTANCE,
        node_id=task.node_id,
        trace_id=task.run_id,
        timestamp_ms=task.now_ms,
        metadata={"folder": options.path, "file": file, "heading": heading},
    )


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    if tools.memory is None:
        raise ConfigError(f"agent {node.id!r} is of type 'ingest', and this process has opened no memory")
    roots = tools.settings.search_folders or (Path(),)
    return IngestAgent(IngestOptions.model_validate(dict(node.options)), tools.memory, roots)


TYPE: Final = AgentType(
    name="ingest",
    event_type="IngestAgent",
    options=IngestOptions,
    build=_build,
    plain=True,
    trusted=True,
    summary="Keeps the texts of a folder as memories, for `rag` and `memory` to find.",
)
