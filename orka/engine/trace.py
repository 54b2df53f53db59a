"""What a trace file says of a run: made of its results, in declared order. Pure. Workflow-format 6.5."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, cast

import msgspec

from orka.clock import iso
from orka.engine.answer import entry_of, seen_after
from orka.engine.costs import Call, cost_analysis, find_calls, sums_by, total
from orka.graph.graph import Graph, lookup
from orka.graph.nodes import NO_OPTIONS, AgentNode, FailoverNode, LoopNode, Node, Scope
from orka.journal.paths import FRAME_SUFFIX, unescape
from orka.results import NodeResult, RunResult
from orka.secrets import redact
from orka.types import Json, NodeId, Path, Status

BLOB: Final = 200
"""Characters of JSON above which a value is kept apart, once."""
_PREVIEW: Final = 100
_MOST_REFERENCES: Final = 100
"""Memories named by one event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """What a trace says beside the results."""

    graph: Graph
    at_ms: int
    """When the trace is made."""
    input: Json = None
    session: str = ""
    backend: str = "redisstack"
    """Of memories."""
    environment: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    """`runtime_environment`."""
    whole: bool = False
    """Every payload where it belongs, in place of the blob store."""
    keep_previous: bool = False
    """Every event has the outputs that were there before it."""


class Blobs:
    """Values kept once, by the SHA-256 of their canonical JSON."""

    def __init__(self) -> None:
        self.kept: dict[str, Json] = {}
        self.references = 0
        self.saved = 0
        """Characters that are not written a second time."""

    def put(self, value: Json) -> Json:
        """A reference to `value`, or the value itself where it is short."""
        data = canonical(value)
        if len(data) <= BLOB:
            return value
        name = sha256(data).hexdigest()
        self.references += 1
        if name in self.kept:
            self.saved += len(data)
        self.kept[name] = value
        reference: dict[str, Json] = {"ref": name, "_type": "blob_reference"}
        if isinstance(value, dict):
            reference["_original_keys"] = list(value)
        return reference


def canonical(value: Json) -> bytes:
    """JSON with its keys sorted; halves of surrogate pairs, which msgspec refuses, are escaped."""
    try:
        return msgspec.json.encode(value, order="sorted")
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value, sort_keys=True).encode()


def make_trace(result: RunResult, facts: TraceFacts) -> dict[str, Json]:
    """The file as JSON, without secrets. CPU work in proportion to the results: for a thread."""
    calls = find_calls(result.results)
    blobs = None if facts.whole else Blobs()
    events: list[Json] = list(_events(result, facts, blobs))
    report = _report(result, facts, calls)
    run = _run(result, facts)
    if blobs is None:
        return {
            "execution_metadata": {
                "run_id": result.run_id,
                "total_agents": len(events),
                "execution_time": iso(facts.at_ms),
                "memory_backend": facts.backend,
                "version": "1.1.0",
            },
            "run": run,
            "memory_stats": _memory_stats(result, facts.backend),
            "agent_executions": events,
            "cost_analysis": redact(cost_analysis(calls)),
            "meta_report": report,
        }
    return {
        "_metadata": {
            "version": "1.2.0",
            "deduplication_enabled": True,
            "blob_threshold_chars": BLOB,
            "total_blobs_stored": len(blobs.kept),
            "stats": {
                "total_entries": len(events),
                "blob_references": blobs.references,
                "characters_saved": blobs.saved,
            },
            "generated_at": iso(facts.at_ms),
        },
        "run": run,
        "blob_store": blobs.kept,
        "events": events,
        "cost_analysis": redact(cost_analysis(calls)),
        "meta_report": report,
    }


def resolve(trace: Mapping[str, Json], value: Json) -> Json:
    """`value` of a trace with what it refers to in place of the reference."""
    if isinstance(value, dict) and value.get("_type") == "blob_reference":
        store = cast("dict[str, Json]", trace["blob_store"])
        return store[cast(str, value["ref"])]
    return value


def _run(result: RunResult, facts: TraceFacts) -> Json:
    return redact(
        {
            "run_id": result.run_id,
            "session_id": facts.session or result.run_id,
            "graph": facts.graph.id,
            "graph_digest": facts.graph.digest,
            "status": str(result.status),
            "input": facts.input,
            "output": result.output,
            "error": None if result.error is None else {"kind": result.error.kind, "message": result.error.message},
            "error_path": result.error_path,
            "duration_ms": result.duration_ms,
        }
    )


def _events(result: RunResult, facts: TraceFacts, blobs: Blobs | None) -> Iterator[dict[str, Json]]:
    """One for every visit. What runs inside a loop, a map or a failover stands before it, with the step that it is part
    of."""
    outputs: dict[str, Json] = {}
    step = 1
    for visit in result.results:
        event = entry_of(visit, step, result.run_id)
        event["path"] = visit.path
        event["payload"] = _kept(redact(event["payload"]), blobs)
        if visit.inner:
            event["inner"] = True
        if references := _references(visit):
            event["memory_references"] = redact(references)
        event["template_resolution"] = _resolution(visit, facts.graph)
        if facts.keep_previous:
            event["previous_outputs"] = {name: _kept(redact(value), blobs) for name, value in outputs.items()}
        yield event
        if not visit.inner:
            step += 1
            outputs.update(seen_after(visit))


def _kept(value: Json, blobs: Blobs | None) -> Json:
    return value if blobs is None else blobs.put(value)


def _references(visit: NodeResult) -> list[Json]:
    """The memories that a visit read or wrote."""
    output = visit.output
    if not isinstance(output, dict):
        return []
    found: list[Json] = []
    memories = output.get("memories")
    for memory in memories[:_MOST_REFERENCES] if isinstance(memories, list) else ():
        if isinstance(memory, dict) and memory.get("key"):
            found.append(_reference(memory["key"], memory.get("timestamp"), memory.get("content")))
    if isinstance(key := output.get("memory_key"), str) and key:
        found.append(_reference(key, visit.started_ms, visit.prompt))
    return found


def _reference(key: Json, timestamp: Json, content: Json) -> dict[str, Json]:
    text = content if isinstance(content, str) else ""
    return {"key": key, "timestamp": timestamp, "content_preview": text[:_PREVIEW]}


def _resolution(visit: NodeResult, graph: Graph) -> dict[str, Json]:
    node = node_at(graph, visit.path, visit.node_id)
    source = (node.prompt or "") if isinstance(node, AgentNode) else ""
    count = source.count("{{")
    default = not source and visit.prompt is not None  # the prompt of its type
    return {
        "has_template": count > 0 or "{%" in source or default,
        "was_rendered": visit.prompt is not None,
        "has_unresolved_vars": any("undefined" in warning for warning in visit.warnings),
        "variable_count": count,
    }


def node_at(graph: Graph, path: Path, node_id: NodeId) -> Node | None:
    """The node whose visit `path` is: loops shadow what is outside of them, failovers have children of their own."""
    chain: tuple[Scope, ...] = (graph.scope,)
    children: Sequence[Node] = ()
    for segment in path.split("/")[:-1]:
        name = FRAME_SUFFIX.sub("", segment).partition("#")[0]
        node = _named(NodeId(unescape(name)), children, chain)
        children = node.children if isinstance(node, FailoverNode) else ()
        if isinstance(node, LoopNode):
            chain = (node.body, *chain)
    return _named(node_id, children, chain)


def _named(node_id: NodeId, children: Sequence[Node], chain: tuple[Scope, ...]) -> Node | None:
    return next((child for child in children if child.id == node_id), None) or lookup(chain, node_id)


def _memory_stats(result: RunResult, backend: str) -> dict[str, Json]:
    read = written = 0
    for visit in result.results:
        if isinstance(visit.output, dict):
            memories = visit.output.get("memories")
            read += len(memories) if isinstance(memories, list) else 0
            written += isinstance(visit.output.get("memory_key"), str)
    return {"backend": backend, "memories_read": read, "memories_written": written}


def _report(result: RunResult, facts: TraceFacts, calls: Sequence[Call]) -> dict[str, Json]:
    whole = total(calls).shown()
    by_agent = sums_by(calls, lambda call: call.node_id)
    by_model = sums_by(calls, lambda call: call.model)
    executed = [visit for visit in result.results if visit.status in (Status.SUCCESS, Status.ERROR)]
    return {
        "total_duration": round(result.duration_ms / 1000, 3),
        "total_llm_calls": whole["calls"],
        "total_tokens": whole["tokens"],
        "total_cost_usd": whole["cost_usd"],
        "avg_latency_ms": whole["avg_latency_ms"],
        "agent_breakdown": {
            name: _some(found.shown(), "calls", "tokens", "cost_usd", "avg_latency_ms")
            for name, found in by_agent.items()
        },
        "model_usage": {name: _some(found.shown(), "calls", "tokens", "cost_usd") for name, found in by_model.items()},
        "runtime_environment": dict(facts.environment),
        "execution_stats": {
            "total_agents_executed": len(executed),
            "failed": sum(visit.status is Status.ERROR for visit in executed),
            "run_id": result.run_id,
            "generated_at": iso(facts.at_ms),
        },
    }


def _some(table: Mapping[str, Json], *names: str) -> dict[str, Json]:
    return {name: table[name] for name in names}
