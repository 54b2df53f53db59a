"""What keeps agents from changing what is not theirs: their results are copies, and so is what foreign code is handed.

The journal knows nothing of a value that was changed in place: a resumed run would go another way than the first one.
Built-in agents are trusted to change nothing, and see everything where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import msgspec

from orka.agents.base import AgentInput, LoopView
from orka.agents.values import copy_json
from orka.journal.entries import Value, decode_json
from orka.types import Json


def private_copy(value: Json, stored: Value, values: tuple[tuple[str, bytes], ...]) -> Json:
    """`value` decoded from what was just encoded of it for the journal: shared with nobody. `values` has the JSON of a
    large one."""
    if type(value) is not dict and type(value) is not list:
        return value
    return decode_json(values[0][1] if stored.ref else stored.json)


def private_output(output: dict[str, Json], stored: Value, values: tuple[tuple[str, bytes], ...]) -> dict[str, Json]:
    """The same of a result, whose outermost mapping is new already."""
    if all(type(item) is not dict and type(item) is not list for item in output.values()):
        return output
    return cast("dict[str, Json]", private_copy(output, stored, values))


class Copies(Mapping[str, Json]):
    """A mapping whose values are copied when they are read: most agents read few of them. What one agent reads twice is
    one copy."""

    __slots__ = ("_copied", "_source")

    def __init__(self, source: Mapping[str, Json]) -> None:
        self._source = source
        self._copied: dict[str, Json] = {}

    def __getitem__(self, key: str) -> Json:
        copied = self._copied
        if key not in copied:
            copied[key] = copy_json(self._source[key])
        return copied[key]

    def __contains__(self, key: object) -> bool:
        return key in self._source

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return repr(dict(self._source))


class PrivateInput(AgentInput, frozen=True, kw_only=True):
    """An `AgentInput` for foreign code: whatever it does to the values reaches nobody else."""

    copied: dict[str, Json] = msgspec.field(default_factory=dict[str, Json])
    """The run's input, once it was read: it may be large, and most agents are given a prompt."""

    @property
    def input(self) -> Json:  # pyright: ignore[reportIncompatibleVariableOverride]
        if "input" not in self.copied:
            self.copied["input"] = copy_json(cast(Json, AgentInput.input.__get__(self)))  # pyright: ignore
        return self.copied["input"]


def private_input(task: AgentInput) -> PrivateInput:
    return PrivateInput(
        run_id=task.run_id,
        path=task.path,
        node_id=task.node_id,
        attempt=task.attempt,
        input=task.input,
        prompt=task.prompt,
        outputs=Copies(task.outputs),
        options={name: copy_json(value) for name, value in task.options.items()},
        variables=Copies(task.variables),
        loop=None if task.loop is None else _private_loop(task.loop),
        now_ms=task.now_ms,
        emit=task.emit,
        session=task.session,
    )


def _private_loop(loop: LoopView) -> LoopView:
    return msgspec.structs.replace(loop, past=[copy_json(past) for past in loop.past], metadata=Copies(loop.metadata))
