"""`Rounds`: a model is asked, calls tools, is told what they gave, and is asked again, until it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orka.agents.base import AgentInput, AgentTools
from orka.agents.model import Model, Reply, with_description
from orka.agents.tooling.offering import Offering
from orka.agents.tooling.options import ToolEntry
from orka.agents.tooling.turn import Turns
from orka.errors import AgentError, LLMError
from orka.llm.base import Answer, Message, Tool
from orka.llm.recovery import without_thoughts
from orka.llm.structure import describe_schema, missing_fields
from orka.results import Usage
from orka.types import Json


@dataclass(slots=True)
class _Spent:
    """What the answers of one visit came to."""

    usage: Usage = field(default_factory=Usage)
    priced: bool = True
    latency_ms: float = 0.0
    answers: int = 0

    def add(self, answer: Answer) -> Answer:
        self.usage += answer.usage
        self.priced = self.priced and answer.priced
        self.latency_ms += answer.latency_ms
        self.answers += 1
        return answer

    def total(self, last: Answer) -> Answer:
        return replace(last, usage=self.usage, priced=self.priced, latency_ms=round(self.latency_ms, 3))


class Rounds:
    """Made once per node."""

    def __init__(
        self, model: Model, entries: Sequence[ToolEntry], tools: AgentTools, *, owner: str, most: int, timeout: float
    ) -> None:
        """`most`: turns with calls. `timeout`: seconds for one call."""
        self._model = model
        self._offering = Offering(entries, tools, owner)
        self._owner = owner
        self._most = most
        self._timeout = timeout

    async def ask(
        self,
        task: AgentInput,
        prompt: str,
        *,
        system: str | None = None,
        schema: Mapping[str, Json] | None = None,
        coerces: bool = True,
    ) -> tuple[Reply, list[Json]]:
        """The answer, as `Model.ask` gives it, with the usage of all rounds, and a record of every call. `AgentError` for
        tools that are not to be had, and when the model does not stop calling; `LLMError`, or an `AgentError` that stands
        for one and knows the usage so far."""
        offers, timeouts = await self._offering.collect(self._timeout)
        turns = Turns(offers, task, timeouts)
        messages = (Message(role="user", content=prompt),)
        if system:
            messages = (Message(role="system", content=system), *messages)
        if schema is not None:
            messages = with_description(messages, schema)
        spent = _Spent()
        try:
            tools = tuple(offer.tool for offer in offers.values())
            answer, messages = await self._converse(task, messages, tools, turns, spent, formed=schema is not None)
            if schema is not None:
                answer = await self._formed(task, answer, messages, schema, spent)
        except LLMError as exc:
            if not spent.answers:
                raise
            raise AgentError(str(exc), kind=type(exc).__name__, usage=spent.usage) from exc
        if answer is None:
            raise AssertionError("an answer that is to be formed was formed")
        return await self._model.reply(spent.total(answer), schema if coerces else None), turns.records

    async def _converse(
        self,
        task: AgentInput,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        turns: Turns,
        spent: _Spent,
        *,
        formed: bool,
    ) -> tuple[Answer | None, tuple[Message, ...]]:
        """The first answer without calls, and the conversation before it. After the last round the model is asked once more
        and may not call; none is asked for where that answer is to be `formed` anyway."""
        model = self._model
        for _ in range(self._most):
            answer = spent.add(await model.send(model.question(messages, tools=tools), on_token=task.emit))
            if not answer.calls:
                return answer, messages
            said = Message(role="assistant", content=answer.text, calls=answer.calls)
            messages = (*messages, said, *await turns.answer(answer.calls))
        if formed:
            return None, messages
        last = replace(model.question(messages, tools=tools), tool_choice="none")
        answer = spent.add(await model.send(last, on_token=task.emit))
        if answer.calls and not without_thoughts(answer.text).strip():
            raise AgentError(
                f"agent {self._owner!r}: the model still calls tools after {self._most} rounds and gives no answer; raise "
                "`max_rounds`, or tell it in the prompt when to stop",
                kind="TooManyRounds",
                usage=spent.usage,
            )
        return answer, messages

    async def _formed(
        self,
        task: AgentInput,
        answer: Answer | None,
        messages: tuple[Message, ...],
        schema: Mapping[str, Json],
        spent: _Spent,
    ) -> Answer:
        """An answer that has the fields of the schema as it is, else the one to a last question that asks for nothing
        else."""
        if answer is not None:
            found = (await self._model.reply(answer)).fields
            if found is not None and not missing_fields(found, schema):
                return answer
            if answer.text.strip():
                messages = (*messages, Message(role="assistant", content=answer.text))
        messages = (*messages, Message(role="user", content=describe_schema(schema)))
        return spent.add(await self._model.formed(messages, schema, task.emit))
