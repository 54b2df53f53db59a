"""`Turns`: calls what a model wants called. Whatever goes wrong in a tool is told to the model, and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import anyio

from orka.agents.base import AgentInput
from orka.agents.tooling.base import Offer, ToolFault
from orka.agents.tooling.records import TOLD, arguments_of, cut, key_of, record_of, sayable
from orka.clock import monotonic
from orka.errors import sole_error
from orka.llm.base import Message, ToolCall
from orka.secrets import redact_text
from orka.types import Json

AT_ONCE: Final = 8
"""Calls of one turn that run at the same time."""
_MOST: Final = 64
"""Calls of one turn; the others are refused."""


class Turns:
    """Of one visit."""

    def __init__(self, offers: Mapping[str, Offer], task: AgentInput, timeouts: Mapping[str, float]) -> None:
        """`timeouts`: seconds for one call, by the name of the tool."""
        self.records: list[Json] = []
        """One for each call, in the order in which the model wanted them."""
        self._offers = offers
        self._visit = task.idempotency_key
        self._timeouts = timeouts
        self._earlier: Counter[str] = Counter()

    async def answer(self, calls: Sequence[ToolCall]) -> tuple[Message, ...]:
        """Calls them, several at a time. The turns that answer, in the order of the calls. Cancelling cancels all."""
        settled: list[tuple[str, Json]] = [("", None)] * len(calls)
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def work(number: int, call: ToolCall, arguments: dict[str, Json] | str, key: str) -> None:
            async with limiter:
                settled[number] = await self._settle(call, arguments, key)

        try:
            async with anyio.create_task_group() as group:
                for number, call in enumerate(calls):
                    arguments, key = self._prepared(number, call)
                    known = None if isinstance(arguments, str) else arguments
                    settled[number] = _failed(call, "it was cancelled by its own code", known)
                    group.start_soon(work, number, call, arguments, key)
        except BaseExceptionGroup as error:  # what no tool may raise, an interrupt say: by itself again
            raise sole_error(error) from None
        self.records += (record for _, record in settled)
        return tuple(
            Message(role="tool", content=text, call_id=call.id, tool=call.name)
            for call, (text, _) in zip(calls, settled, strict=True)
        )

    def _prepared(self, number: int, call: ToolCall) -> tuple[dict[str, Json] | str, str]:
        """Arguments, or why there are none; the key. In the order of the calls, because the key counts them."""
        try:
            if number >= _MOST:
                raise ToolFault(f"more than {_MOST} calls in one turn: call it again in the next one")
            arguments = arguments_of(call)
        except ToolFault as exc:
            return str(exc), ""
        key = key_of(self._visit, call.name, arguments, 0)
        earlier = self._earlier[key]
        self._earlier[key] += 1
        return arguments, key_of(self._visit, call.name, arguments, earlier)

    async def _settle(self, call: ToolCall, arguments: dict[str, Json] | str, key: str) -> tuple[str, Json]:
        """What the model is told, and the record."""
        if isinstance(arguments, str):
            return _failed(call, arguments)
        offer = self._offers.get(call.name)
        if offer is None:
            return _failed(call, f"there is no tool {call.name!r}: there are {', '.join(self._offers)}", arguments)
        began, seconds = monotonic(), self._timeouts[call.name]
        failed, text = True, f"no result within {seconds:g} s"
        with anyio.move_on_after(seconds):
            try:
                text, failed = await offer.call(arguments, key), False
            except ToolFault as exc:
                text = str(exc)
            # Bulkhead: a tool is foreign code; what it raises is for the model to read.
            except (Exception, SystemExit) as exc:
                text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        ms = (monotonic() - began) * 1000
        text = sayable(text)
        if failed:
            return _failed(call, text, arguments, ms)
        return cut(text, TOLD), record_of(call, arguments, text, failed=False, ms=ms)


def _failed(call: ToolCall, why: str, arguments: Mapping[str, Json] | None = None, ms: float = 0.0) -> tuple[str, Json]:
    why = redact_text(why)
    return cut(f"error: {why}", TOLD), record_of(call, arguments, why, failed=True, ms=ms)
