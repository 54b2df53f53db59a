"""What a file written for OrKa 0.9 does otherwise here: one rule per difference, told only where the file uses it. Pure.

What every run shows (errors are told as such, answers are kept whole) is no rule: docs/migrating-from-orka-0.9.md has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from orka.graph.legacy import Part, Workflow, branches_of, list_of, mapping_of, mentioned
from orka.types import Json

Find = Callable[[Workflow], Iterable[str]]

_OPENAI = ("openai-answer", "openai-binary", "openai-classification")
_SILENT_PARAMS = (*_OPENAI, "loop", "memory", "duckduckgo")
"""Types whose `params` had no effect."""
_MEMORY = ("memory", "memory-reader", "memory-writer")
_SEARCHED = frozenset({"operation", "namespace", "limit", "vector", "metadata"})
"""Keys of a memory agent's `config` that 0.9 read."""
_TRUTHS = frozenset({"true", "false", "yes", "no", "on", "off"})
"""Keys that YAML reads as booleans, in any case, unless they are quoted."""
_WHOLE = re.compile(r"\{\{-?\s*previous_outputs(?:\.\w+|\[['\"][^'\"]+['\"]\])\s*-?\}\}")
_NAMES = re.compile(r"\b(?:run_id|session_id|current_time|step_index|trace_id)\b|\bnow\(\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it was."""

    code: str
    """A short name, stable for programs."""
    message: str
    agents: tuple[str, ...]
    """Ids of the entries that it is about; none: the file as a whole."""

    def as_json(self) -> dict[str, Json]:
        return {"code": self.code, "message": self.message, "agents": list(self.agents)}


@dataclass(frozen=True, slots=True)
class Rule:
    """`find` gives the ids of the entries concerned, `orchestrator` for the file's own keys."""

    code: str
    message: str
    find: Find


def find_differences(workflow: Workflow) -> tuple[Difference, ...]:
    """In the order of `RULES`."""
    found = ((rule, tuple(dict.fromkeys(rule.find(workflow)))) for rule in RULES)
    return tuple(Difference(code=rule.code, message=rule.message, agents=ids) for rule, ids in found if ids)


def _forks(workflow: Workflow) -> Iterator[str]:
    for fork in workflow.of("fork"):
        if len(branches_of(fork)) > 1 and fork.keys.get("mode") != "sequential":
            yield fork.id


def _cross_reads(workflow: Workflow) -> Iterator[str]:
    for fork in workflow.of("fork"):
        branches = branches_of(fork)
        everywhere = {name for branch in branches for name in branch}
        for branch in branches if fork.keys.get("mode") != "sequential" else ():
            others = everywhere.difference(branch)
            for member in branch:
                part = workflow.by_id.get(member)
                if part is not None and others & mentioned(part.expressions):
                    yield member


def _unmatched(workflow: Workflow) -> Iterator[str]:
    for router in workflow.of("router"):
        if "default" not in router.mapping("routing_map") and "fallback_route" not in router.keys:
            yield router.id


def _loose_keys(workflow: Workflow) -> Iterator[str]:
    for router in workflow.of("router"):
        if any(key != key.lower() and key.lower() not in _TRUTHS for key in router.mapping("routing_map")):
            yield router.id


def _text_routes(workflow: Workflow) -> Iterator[str]:
    for router in workflow.of("router"):
        if any(isinstance(route, str) for route in router.mapping("routing_map").values()):
            yield router.id


def _falsy(workflow: Workflow) -> Iterator[str]:
    for part in workflow.parts:
        schema = mapping_of(part.mapping("structured_output").get("schema"))
        truth = mapping_of(schema.get("types")).get("response") in ("boolean", "bool")
        empty = part.type == "router" and any(route == [] for route in part.mapping("routing_map").values())
        if truth or empty or part.type in ("openai-binary", "binary"):
            yield part.id


def _paths_of_loops(workflow: Workflow) -> Iterator[str]:
    for part in workflow.of("path-executor"):
        source = workflow.by_id.get(str(part.keys.get("path_source", "")).split(".")[0])
        if source is not None and source.type == "loop":
            yield part.id


def _last(workflow: Workflow) -> Iterator[str]:
    names = [name for name in list_of(workflow.head.get("agents")) if isinstance(name, str)]
    while names and (part := workflow.by_id.get(names[-1])) is not None:
        if part.type in ("loop", "path-executor"):
            yield part.id
        elif part.type in ("memory", "router", "join"):
            names.pop()
            continue
        return


def _outer_reads(workflow: Workflow) -> Iterator[str]:
    outside = {part.id for part in workflow.parts if part.loop is None}
    inside: dict[str, set[str]] = {}
    for part in workflow.parts:
        if part.loop is not None:
            inside.setdefault(part.loop, set()).add(part.id)
    for part in workflow.parts:
        if part.loop is not None and (mentioned(part.expressions) - inside[part.loop]) & outside:
            yield part.id


def _names(workflow: Workflow) -> Iterator[str]:
    return (p.id for p in workflow.parts if p.type not in _MEMORY and _found(_NAMES, p))


def _loop_input(workflow: Workflow) -> Iterator[str]:
    return (p.id for p in workflow.parts if p.loop is not None and "get_input()" in p.expressions)


def _scoring_context(workflow: Workflow) -> Iterator[str]:
    for loop in workflow.of("loop"):
        scoring = loop.mapping("scoring")
        if scoring and "context" not in scoring:
            yield loop.id


def _memory_search(workflow: Workflow) -> Iterator[str]:
    return (part.id for part in workflow.of(*_MEMORY) if set(part.mapping("config")) - _SEARCHED)


def _memory_preset(workflow: Workflow) -> Iterator[str]:
    agents = list(workflow.of(*_MEMORY))
    if agents and "memory_preset" in workflow.head:
        yield "orchestrator"
    yield from (part.id for part in agents if "memory_preset" in part.keys)


def _memory_config(workflow: Workflow) -> Iterator[str]:
    agents = next(workflow.of(*_MEMORY), None)
    if agents is not None and ("memory_config" in workflow.head or "memory" in workflow.head):
        yield "orchestrator"


def _params(workflow: Workflow) -> Iterator[str]:
    return (part.id for part in workflow.of(*_SILENT_PARAMS) if part.params)


def _dead_search(workflow: Workflow) -> Iterator[str]:
    return (p.parent for p in workflow.of("duckduckgo") if p.parent is not None)


def _types(*types: str) -> Find:
    return lambda workflow: (part.id for part in workflow.of(*types))


def _keys(types: tuple[str, ...], *keys: str) -> Find:
    return lambda workflow: (part.id for part in workflow.of(*types) if any(key in part.keys for key in keys))


def _written(pattern: str | re.Pattern[str]) -> Find:
    expression = re.compile(pattern)
    return lambda workflow: (part.id for part in workflow.parts if _found(expression, part))


def _found(pattern: re.Pattern[str], part: Part) -> bool:
    return pattern.search(part.expressions) is not None


def _terminal(workflow: Workflow) -> Iterator[str]:
    return (part.id for part in workflow.parts if part.keys.get("is_terminal") is True)


RULES: tuple[Rule, ...] = (
    Rule(
        "fork-order",
        "Branches of a fork run at the same time; 0.9 ran them one after another, the last one first. With "
        "`mode: sequential` they run one after another in the order of the file.",
        _forks,
    ),
    Rule(
        "branch-reads",
        "A branch reads an output of another branch of its fork, which is empty while both run; with "
        "`mode: sequential` on the fork a later branch sees the earlier ones.",
        _cross_reads,
    ),
    Rule(
        "router-unmatched",
        "When no key of `routing_map` fits, nothing runs, as in 0.9, and the run warns of it; a key `default` names a "
        "route for that case.",
        _unmatched,
    ),
    Rule(
        "router-case", "Keys of `routing_map` match in any case; of 0.9 the answer had to be exactly it.", _loose_keys
    ),
    Rule("router-text", "A route that is one id runs it; 0.9 ran nothing.", _text_routes),
    Rule(
        "falsy",
        "A result that is `false`, 0 or empty stays what it is; 0.9 put a mapping with the whole answer in its place, "
        "which was true.",
        _falsy,
    ),
    Rule("failover-search", "A search that fails is a failure, and the next child is tried.", _dead_search),
    Rule("failing-at-once", "It fails at once; 0.9 waited for 5 seconds.", _types("failing")),
    Rule(
        "loop-input",
        "`get_input()` inside a loop gives the original input; 0.9 printed a mapping of everything.",
        _loop_input,
    ),
    Rule("loop-outer", "Inside a loop outputs of agents outside are seen; in 0.9 they were empty.", _outer_reads),
    Rule(
        "loop-threshold",
        "`get_score_threshold()` gives the loop's own threshold; 0.9 gave 0.9.",
        _written(r"\bget_score_threshold\("),
    ),
    Rule(
        "loop-scores",
        "`fallback_score` counts when a round has no score, `timeout_score` when it ran out of time; 0.9 ignored them.",
        _keys(("loop",), "fallback_score", "timeout_score"),
    ),
    Rule(
        "loop-scoring",
        "`scoring` without `context` means `loop_convergence`; 0.9 took the criteria of graph-scout.",
        _scoring_context,
    ),
    Rule(
        "answer",
        "It stands last, so the value of `run()` is the response of what ran in it last; 0.9 gave an earlier agent's "
        "response, or the whole log.",
        _last,
    ),
    Rule("terminal", "`is_terminal` decides the value of `run()`; 0.9 ignored it.", _terminal),
    Rule(
        "printed-output",
        "`{{ previous_outputs.x }}` prints compact JSON without `_metrics` and `formatted_prompt`; 0.9 printed Python.",
        _written(_WHOLE),
    ),
    Rule(
        "names",
        "`run_id`, `session_id`, `now()` and the like have a value in every template; in 0.9 they were empty.",
        _names,
    ),
    Rule(
        "regex-search", "The filter `regex_search` exists; 0.9 could not run the file.", _written(r"\|\s*regex_search")
    ),
    Rule(
        "memory-search",
        "What `config` says about searching (threshold, filters, weights) takes effect; 0.9 read `limit` alone.",
        _memory_search,
    ),
    Rule(
        "memory-score",
        "`similarity_score` is a similarity: more is better. In 0.9 it was the distance.",
        _written(r"\bsimilarity_score\b"),
    ),
    Rule("memory-preset", "`memory_preset` takes effect on reading, writing and decay.", _memory_preset),
    Rule("memory-config", "Decay and vector settings of the orchestrator take effect.", _memory_config),
    Rule("params", "Keys under `params` take effect like the agent's own; 0.9 ignored them for this type.", _params),
    Rule(
        "openai-prompt",
        "The model is sent the rendered prompt alone; 0.9 appended a print of all it knew. `model` and `temperature` "
        "are honoured.",
        _types(*_OPENAI),
    ),
    Rule("new-type", "0.9 had no such type and refused the file; it runs.", _types("openai-gpt-4", "anthropic")),
    Rule(
        "real-type",
        "It does what its type says; in 0.9 that was a stub or always failed.",
        _types("binary", "classification", "rag"),
    ),
    Rule(
        "search-limits",
        "`max_results` and `timeout` of a search are honoured.",
        _keys(("duckduckgo",), "max_results", "timeout"),
    ),
    Rule(
        "structure-stored",
        "`store_structure` is part of the question; 0.9 lost it.",
        _keys(("validate-and-structure",), "store_structure"),
    ),
    Rule(
        "scout-routes",
        "What a graph-scout decides on runs next; 0.9 only reported it.",
        _types("graph-scout", "graphscout"),
    ),
    Rule(
        "path-of-loop",
        "`path_source` names a loop, of which the best proposal is executed; 0.9 ended with an error.",
        _paths_of_loops,
    ),
    Rule(
        "path-executor",
        "Of a shortlist the best path alone is executed, and its agents see all earlier outputs; `executed_path` "
        "holds what really ran.",
        _types("path-executor"),
    ),
)
