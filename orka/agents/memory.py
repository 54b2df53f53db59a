"""`memory`: writes memories and finds them again. One visit writes one memory, the same one however often it is repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, Field, field_validator

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType, MemoryAccess, OptionName
from orka.clock import now_ms
from orka.errors import ConfigError
from orka.graph.nodes import AgentNode
from orka.graph.values import Ignored
from orka.memory.decay import DecayLayer, DecayRules, Wishes, classify, merge, parse_decay
from orka.memory.presets import category_filter, get_memory_preset, merge_preset_with_config
from orka.memory.query import Filters, MemoryQuery, Scalar, Wanted
from orka.memory.record import key_for, new_record
from orka.memory.shape import describe, split_metadata, whole_metadata
from orka.types import Json

if TYPE_CHECKING:
    from orka.memory.memory import Memory

_THRESHOLD = 0.6
_NAMESPACE = "default"
_FORMER = "Of OrKa 0.9; accepted and ignored."
_SEPARATE = "\n"
"""Between the contents in the response of a read."""


class MemoryConfig(BaseModel):
    """`config` of a `memory` node."""

    operation: Literal["read", "write"] = Field(default="read", description="What it does.")
    namespace: str | None = Field(default=None, description="As the key of the agent, which wins.")
    session: str | None = Field(
        default=None,
        description="Part of a namespace: written, and filtered by when reading. What a run with a session of its own "
        'writes has that one where nothing is said here; `"{{ session_id }}"` makes reads keep to it.',
    )
    limit: int | None = Field(default=None, ge=1, le=1000, description="Memories to read at most (10).")
    top_k: int | None = Field(default=None, ge=1, le=1000, description="Another name of `limit`.")
    similarity_threshold: float | None = Field(
        default=None, ge=-1, le=1, description="Cosine below which a memory found by meaning is none (0.6)."
    )
    enable_vector_search: bool | None = Field(default=None, description="Search by meaning (true).")
    enable_hybrid_search: bool | None = Field(default=None, description="By meaning and by words (false).")
    vector_weight: float | None = Field(default=None, ge=0, le=1, description="Of meaning in a hybrid score (0.7).")
    text_weight: float | None = Field(default=None, ge=0, le=1, description="Of words in a hybrid score (0.3).")
    fallback_to_text: bool | None = Field(
        default=None, description="When nothing is found by meaning, look for the words (true)."
    )
    enable_temporal_ranking: bool | None = Field(default=None, description="Newer memories move up (false).")
    temporal_weight: float | None = Field(default=None, ge=0, le=10, description="How much they do (0.1).")
    temporal_decay_hours: float | None = Field(
        default=None, gt=0, description="Age at which nothing is left of it (24)."
    )
    enable_context_search: bool | None = Field(
        default=None, description="Memories that share words with recent outputs move up (false)."
    )
    context_weight: float | None = Field(default=None, ge=0, le=1, description="How much they do (0.2).")
    context_window_size: int | None = Field(default=None, ge=1, le=100, description="Outputs that count (5).")
    ef_runtime: int | None = Field(
        default=None, ge=1, le=4096, description="Width of the search in the index; widens it only."
    )
    memory_type_filter: str | list[str] | None = Field(default=None, description="Types to read; `all` for any.")
    memory_category_filter: str | list[str] | None = Field(default=None, description="Categories to read.")
    min_importance: float | None = Field(default=None, ge=0, le=1, description="Importance to read from.")
    metadata_filter: dict[str, Scalar | list[Scalar]] | None = Field(
        default=None, description="Scalars that the metadata must have; of a list, one."
    )
    memory_type: str | None = Field(default=None, description="Of what is written; without it, as the decay rules say.")
    importance: float | None = Field(
        default=None, ge=0, le=1, description="Of what is written, in place of the rules'."
    )
    expiry_hours: float | None = Field(
        default=None, gt=0, description="Life of what is written, in place of the rules'."
    )
    metadata: dict[str, Any] | None = Field(default=None, description="As the key of the agent, which wins by name.")
    category: str | None = Field(default=None, description="Of what is written (`stored`).")
    key_template: str | None = Field(default=None, description="As the key of the agent, which wins.")
    vector: bool | None = Field(default=None, description="Write a vector: false finds it by words only (true).")
    embed_field: Ignored = Field(default=None, description=_FORMER)
    force_recreate_index: Ignored = Field(default=None, description=_FORMER)
    query_key: Ignored = Field(default=None, description=_FORMER)
    search_field: Ignored = Field(default=None, description=_FORMER)
    search_params: Ignored = Field(default=None, description=_FORMER)
    store_metadata: Ignored = Field(default=None, description=_FORMER)
    store_params: Ignored = Field(default=None, description=_FORMER)
    vector_field: Ignored = Field(default=None, description=_FORMER)
    vector_field_name: Ignored = Field(default=None, description=_FORMER)
    vector_params: Ignored = Field(default=None, description=_FORMER)


class MemoryOptions(BaseModel):
    """Keys of a `memory` node."""

    config: MemoryConfig = Field(default_factory=MemoryConfig, description="What it does, and how it searches.")
    namespace: str | None = Field(default=None, description="Memories of other namespaces are not seen (`default`).")
    memory_preset: str | None = Field(
        default=None, description="`sensory`, `working`, `episodic`, `semantic`, `procedural` or `meta`."
    )
    decay: dict[str, Any] | bool | None = Field(default=None, description="How long what it writes lives.")
    metadata: dict[str, Any] | None = Field(
        default=None, description="Stored with what it writes; texts are templates."
    )
    key_template: str | None = Field(
        default=None, description="Template of a name: a second write of that name replaces the first."
    )

    @field_validator("memory_preset")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None:
            _checked(get_memory_preset, name)
        return name

    @field_validator("decay")
    @classmethod
    def _usable(cls, decay: object) -> object:
        _checked(parse_decay, decay)
        return decay


def _checked(parse: Callable[[Any], object], value: object) -> None:
    try:
        parse(value)
    except ConfigError as exc:
        raise ValueError(str(exc)) from exc


class MemoryAgent:
    """Reads or writes. What its preset and its graph say is settled once."""

    def __init__(
        self, options: MemoryOptions, access: MemoryAccess, graph: Mapping[str, Json], env: DecayLayer
    ) -> None:
        self._access = access
        preset = options.memory_preset or _text(graph.get("memory_preset"))
        own = options.config.model_dump(exclude_none=True)
        operation = options.config.operation
        self._preset: Mapping[str, Json] = get_memory_preset(preset, operation) if preset else {}
        self._name = preset
        self._config = merge_preset_with_config(preset, own, operation) if preset else own
        self._reads = operation == "read"
        self._rules = _rules(options, self._preset, graph, env)

    async def run(self, task: AgentInput, /) -> AgentOutput:
        options = MemoryOptions.model_validate(dict(task.options))  # its texts are rendered now
        config = {**self._config, **options.config.model_dump(exclude_none=True)}
        memory = await self._access.opened()
        if self._reads:
            return await _read(memory, task, options, config)
        return await _write(memory, task, options, config, self._rules)


async def _read(memory: Memory, task: AgentInput, options: MemoryOptions, config: Mapping[str, Json]) -> AgentOutput:
    text = task.text.strip()
    mode, named = _mode_of(config)
    facts: dict[str, Json] = {"query": text, "backend": memory.backend, "search_type": named}
    if not text:
        return AgentOutput(
            response="", fields={"memories": [], **facts, "num_results": 0, "error": "there is nothing to search for"}
        )
    window = int(_number(config, "context_window_size", 5))
    context = tuple(_words_of(output) for output in list(task.outputs.values())[-window:])
    query = MemoryQuery(
        text=text,
        limit=int(_number(config, "top_k", _number(config, "limit", 10))),
        filters=Filters(
            namespace=_namespace(options, config),
            session=_text(config.get("session")),
            category=_wanted(category_filter(config.get("memory_category_filter"))),
            memory_type=_wanted(config.get("memory_type_filter")),
            least_importance=cast("float | None", config.get("min_importance")),
            metadata=cast("dict[str, Scalar]", config.get("metadata_filter") or {}),
        ),
        mode=mode,
        vector_weight=_number(config, "vector_weight", 0.7),
        text_weight=_number(config, "text_weight", 0.3),
        least_similarity=_number(config, "similarity_threshold", _THRESHOLD),
        fallback_to_text=config.get("fallback_to_text") is not False,
        temporal_weight=_number(config, "temporal_weight", 0.1) if config.get("enable_temporal_ranking") else 0.0,
        temporal_decay_hours=_number(config, "temporal_decay_hours", 24.0),
        context=context if config.get("enable_context_search") else (),
        context_weight=_number(config, "context_weight", 0.2) if config.get("enable_context_search") else 0.0,
        ef_runtime=max(memory.layout.ef_runtime, int(_number(config, "ef_runtime", 0))),
    )
    hits = await memory.search(query)
    at_ms = now_ms()
    memories: list[Json] = [describe(hit, at_ms) for hit in hits]
    return AgentOutput(
        response=_SEPARATE.join(hit.record.content for hit in hits),
        fields={"memories": memories, **facts, "num_results": len(memories)},
    )


async def _write(
    memory: Memory, task: AgentInput, options: MemoryOptions, config: Mapping[str, Json], rules: DecayRules
) -> AgentOutput:
    content, found = _content_of(task)
    if not content.strip():
        return AgentOutput(response="", fields={"status": "error", "error": "there is nothing to write"})
    rest, lifted = split_metadata({**found, **(options.config.metadata or {}), **(options.metadata or {})})
    fields = {
        "namespace": _namespace(options, config),
        "session": _text(config.get("session")) or lifted.get("session") or task.session,
        "category": _text(config.get("category")) or lifted.get("category", "stored"),
    }
    wishes = Wishes(
        memory_type=_text(config.get("memory_type")),
        importance=cast("float | None", config.get("importance")),
        expiry_hours=cast("float | None", config.get("expiry_hours")),
    )
    judged = classify(rules, content, {**rest, "category": fields["category"]}, at_ms=task.now_ms, wishes=wishes)
    name = options.key_template or _text(config.get("key_template"))
    if name:
        rest["memory_key_template"] = name
    record = new_record(
        content,
        key=key_for("name", fields["namespace"], name) if name else key_for("visit", task.run_id, task.path),
        node_id=task.node_id,
        trace_id=task.run_id,
        importance=judged.importance,
        memory_type=judged.memory_type,
        expire_ms=judged.expire_ms,
        timestamp_ms=task.now_ms,
        metadata=rest,
        **fields,
    )
    vector = config.get("vector") is not False
    await memory.write(record, until="stored", vector=None if vector else memory.no_vector())
    return AgentOutput(
        response=record.key,
        fields={
            "status": "success",
            "session": record.session,
            "namespace": record.namespace,
            "content_length": len(content),
            "backend": memory.backend,
            "vector_enabled": vector,
            "memory_key": record.key,
            "stored_metadata": whole_metadata(record),
        },
    )


_GUARDIANS = ("true_validation_guardian", "false_validation_guardian")
"""Ids of validating agents whose `memory_object` is written in place of the input, as OrKa 0.9 did."""


def _content_of(task: AgentInput) -> tuple[str, dict[str, Json]]:
    """The text to write, and metadata that comes with it. A prompt wins."""
    if task.prompt is None:
        for name in _GUARDIANS:
            output = task.outputs.get(cast("Any", name))
            if not isinstance(output, dict):
                continue
            inner = output.get("response")
            found = output.get("memory_object") or (inner.get("memory_object") if isinstance(inner, dict) else None)
            if isinstance(found, dict):
                text = "; ".join(f"{key}: {value}" for key, value in found.items())
                status = "validated" if name == _GUARDIANS[0] else "rejected"
                lifted = {key: found[key] for key in ("analysis_type", "confidence") if key in found}
                return text, {"structured_data": found, "validation_status": status, **lifted}
    return task.text, {}


def _mode_of(config: Mapping[str, Json]) -> tuple[Literal["vector", "text", "hybrid"], str]:
    """How it searches, and how that is called in the result."""
    if config.get("enable_vector_search") is False:
        return "text", "text"
    return ("hybrid", "hybrid") if config.get("enable_hybrid_search") else ("vector", "enhanced_vector")


def _namespace(options: MemoryOptions, config: Mapping[str, Json]) -> str:
    return options.namespace or _text(config.get("namespace")) or _NAMESPACE


def _wanted(value: Json) -> Wanted:
    values = value if isinstance(value, list) else [value]
    if not values or any(one in (None, "", "all") for one in values):
        return None
    return tuple(str(one) for one in values)


def _words_of(output: Json) -> str:
    response = output.get("response") if isinstance(output, dict) else output
    return response if isinstance(response, str) else str(response)


def _number(config: Mapping[str, Json], key: str, default: float) -> float:
    value = config.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _rules(
    options: MemoryOptions, preset: Mapping[str, Json], graph: Mapping[str, Json], env: DecayLayer
) -> DecayRules:
    layers = [parse_decay(preset.get("decay"), "decay of the preset")]
    for key in ("memory_config", "memory"):
        table = graph.get(key)
        if isinstance(table, dict):
            layers.append(parse_decay(table.get("decay"), f"orchestrator.{key}.decay"))
    return merge(*layers, env, parse_decay(options.decay))


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    if tools.memory is None:
        raise ConfigError(f"agent {node.id!r} is of type 'memory', and this process has opened no memory")
    return MemoryAgent(MemoryOptions.model_validate(dict(node.options)), tools.memory, tools.graph, tools.decay)


def _event_type(node: AgentNode) -> str:
    config = node.options.get("config")
    writes = isinstance(config, dict) and config.get("operation") == "write"
    return "MemoryWriterNode" if writes else "MemoryReaderNode"


TYPE = AgentType(
    name="memory",
    event_type="MemoryReaderNode",
    event_type_of=_event_type,
    options=MemoryOptions,
    build=_build,
    templates=frozenset({"config", "namespace", "metadata", "key_template"}),
    names={"namespace": OptionName(places=(("namespace",), ("config", "namespace")), default=_NAMESPACE)},
    summary="Writes memories and finds them again, by meaning, words, filters and time.",
)
