"""A Python function as a tool: the JSON Schema of its arguments from its signature, and a call with arguments that a model
wrote."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import anyio.to_thread
import msgspec
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python

from orka.agents.adapters import is_async
from orka.agents.tooling.base import KEY, NAME, Offer, ToolFault
from orka.errors import ConfigError
from orka.llm.base import Tool
from orka.types import Json

_LONGEST: Final = 4_000
"""Characters of a docstring that the model is told."""
_FAULTS: Final = 5
"""Wrong arguments that one message names."""


class _Schema(GenerateJsonSchema):
    """Without titles, which only repeat the names, and without warnings about defaults that JSON cannot show."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # as pydantic declares it

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


class FunctionTool:
    """Calls one function: an async one on the loop, any other in a worker thread."""

    def __init__(self, function: Callable[..., object], *, name: str | None = None, description: str = "") -> None:
        """`ConfigError` for a function of which no tool can be made, saying why. `description`: its docstring where none is
        given. Resolving annotations and building the schema takes milliseconds."""
        self.name = name or str(getattr(function, "__name__", ""))
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} cannot name a tool: letters, digits, '_' and '-', at most 64; give it a `name`"
            )
        self.function = function
        self._is_async = is_async(function)
        self._parameters = _parameters(function, self.name)
        try:
            self._model = _model(function, self._parameters, self.name)
            schema = self._model.model_json_schema(by_alias=True, schema_generator=_Schema)
        except PydanticUserError as exc:
            raise ConfigError(f"the arguments of tool {self.name!r} cannot come from JSON: {exc.message}") from exc
        said = (description or inspect.getdoc(function) or "").strip()
        schema.pop("title", None)
        self.tool = Tool(name=self.name, description=said[:_LONGEST], parameters=cast("Mapping[str, Json]", schema))

    def offer(self, origin: str) -> Offer:
        return Offer(tool=self.tool, call=self.call, origin=origin)

    async def call(self, arguments: Mapping[str, Json], key: str) -> str:
        """`ToolFault` for arguments that do not fit; what the function raises."""
        positional, named = self._bound(arguments, key)
        if self._is_async:
            value = self.function(*positional, **named)
        else:
            value = await anyio.to_thread.run_sync(lambda: self.function(*positional, **named), abandon_on_cancel=True)
        if inspect.isawaitable(value):
            value = await cast("Awaitable[object]", value)
        return text_of(value)

    def _bound(self, arguments: Mapping[str, Json], key: str) -> tuple[list[object], dict[str, object]]:
        try:
            settled = self._model.model_validate(dict(arguments))
        except ValidationError as exc:
            raise ToolFault(_described(exc)) from exc
        positional: list[object] = []
        named: dict[str, object] = {}
        for number, parameter in enumerate(self._parameters):
            value = key if parameter.name == KEY else getattr(settled, f"a{number}")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[parameter.name] = value
        return positional, named


def text_of(value: object) -> str:
    """What a model is told of a tool's value: a text as it is, anything else as JSON. `ToolFault` for what is none."""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(to_jsonable_python(value)).decode()
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as exc:
        raise ToolFault(f"it gave a value of type {type(value).__name__}, which cannot be told as JSON: {exc}") from exc


def _parameters(function: Callable[..., object], name: str) -> tuple[inspect.Parameter, ...]:
    try:
        found = tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"tool {name!r}: {function!r} tells no signature: {exc}") from exc
    for one in found:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise ConfigError(f"tool {name!r} takes *{one.name}: a model needs named arguments, one by one")
    return found


def _model(function: Callable[..., object], parameters: tuple[inspect.Parameter, ...], name: str) -> type[BaseModel]:
    """Fields have names of their own (`a0`, `a1`), because arguments may be called as methods of models are."""
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except Exception as exc:  # bulkhead: annotations are foreign code
        raise ConfigError(f"the annotations of tool {name!r} cannot be resolved: {type(exc).__name__}: {exc}") from exc
    fields: dict[str, Any] = {}
    for number, one in enumerate(parameters):
        if one.name != KEY:
            default: Any = ... if one.default is one.empty else one.default
            hint: Any = hints.get(one.name, Any)
            fields[f"a{number}"] = (typing.Annotated[hint, Field(alias=one.name)], default)
    return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)


def _described(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    told = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'the arguments'}: {fault['msg']}"
        for fault in faults[:_FAULTS]
    ]
    more = f" (and {len(faults) - _FAULTS} more)" if len(faults) > _FAULTS else ""
    return f"the arguments do not fit: {'; '.join(told)}{more}"
