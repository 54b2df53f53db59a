"""Loops of a file: the mapping of a `loop` to its `Definition`, with its ways of finding a score."""

from __future__ import annotations

import re
import warnings

from orka.errors import TemplateError
from orka.graph.entry import Entry, define, find, policy_of, settle_entry
from orka.graph.fields import as_options, entry_at, keys_of, without
from orka.graph.models import CognitionKeys, ControlKeys, LoopKeys, StrategyKeys
from orka.graph.nodes import DEFAULT_POLICY, INSIGHT_FLAGS, Cognition, LoopNode, Scope, ScoreStrategy
from orka.graph.outline import Definition, Text
from orka.graph.tree import ListTree, MapTree, Scalar, Tree, kind_of
from orka.types import NodeId

_EMPTY = Scope(sequence=(), nodes={})
MAX_PATTERN = 1000
"""Characters of one regular expression."""
_STRUCTURE = frozenset(keys_of(ControlKeys)) - {"capabilities", "metadata"}
_LOOP_FIELDS = frozenset(
    {
        "internal_workflow",
        "max_loops",
        "score_threshold",
        "score_extraction_pattern",
        "score_extraction_key",
        "high_priority_agents",
        "past_loops_metadata",
        "cognitive_extraction",
        "fallback_score",
        "timeout_score",
    }
)
"""Keys of a loop that have a field of `LoopNode`; the others become its options."""


def read_loop(entry: Entry) -> Definition:
    keys = settle_entry(entry, LoopKeys)
    tree = entry.table.value("internal_workflow")
    body = None
    if isinstance(tree, MapTree):  # also when other keys are wrong: its own faults are worth reporting
        body = entry.parse_area(tree, entry.area, entry.id, entry.defaults)
    if keys is None or body is None:
        definition = define(entry, None)
        definition.body = body
        return definition
    if keys.score_threshold > 1:
        entry.warning(
            f"'score_threshold' of {entry.owner} is never reached: scores are 0 to 1",
            entry_at(entry.table, "score_threshold"),
            hint=f"did you mean {keys.score_threshold / 100:g}?" if keys.score_threshold <= 100 else None,
            key="score_threshold",
        )
    fields, texts = _metadata(entry)
    node = LoopNode(
        id=entry.id,
        body=_EMPTY,
        max_loops=keys.max_loops,
        score_threshold=keys.score_threshold,
        strategies=_strategies(entry, keys),
        priority_agents=tuple(NodeId(name) for name in keys.high_priority_agents),
        past_loops_metadata=fields,
        cognition=_cognition(entry, keys.cognitive_extraction),
        fallback_score=keys.fallback_score,
        timeout_score=keys.timeout_score,
        options=as_options(without(entry.table, _STRUCTURE | _LOOP_FIELDS)),
        policy=policy_of(keys, DEFAULT_POLICY),
        terminal=keys.is_terminal,
        line=entry.at.line,
    )
    definition = define(entry, node, texts=texts)
    definition.body = body
    return definition


def _strategies(entry: Entry, keys: LoopKeys) -> tuple[ScoreStrategy, ...]:
    made: list[ScoreStrategy] = []
    config = keys.score_extraction_config
    for number, strategy in enumerate(config.strategies if config else ()):
        place = find(entry.table, "score_extraction_config", "strategies", number)
        _check_strategy(entry, strategy, place)
        made.append(
            ScoreStrategy(
                type=strategy.type,
                key=strategy.key,
                patterns=tuple(strategy.patterns),
                agents=tuple(NodeId(name) for name in strategy.agents),
            )
        )
    if config is not None and config.agreement_fallback:
        entry.warning(
            f"'agreement_fallback' of {entry.owner} has no effect yet",
            find(entry.table, "score_extraction_config", "agreement_fallback").at,
            hint="a round without a score gets 'fallback_score'",
            key="agreement_fallback",
        )
    if keys.score_extraction_pattern is not None:
        check_pattern(entry, keys.score_extraction_pattern, find(entry.table, "score_extraction_pattern"))
        made.append(ScoreStrategy(type="pattern", patterns=(keys.score_extraction_pattern,)))
    if keys.score_extraction_key is not None:
        made.append(ScoreStrategy(type="direct_key", key=keys.score_extraction_key))
    return tuple(made)


def _check_strategy(entry: Entry, strategy: StrategyKeys, place: Tree) -> None:
    for pattern in strategy.patterns:
        check_pattern(entry, pattern, find(place, "patterns"))
    needs = {"direct_key": "key", "pattern": "patterns", "agent_key": "agents"}[strategy.type]
    if not getattr(strategy, needs):
        entry.error(f"strategy {strategy.type!r} of {entry.owner} has no {needs!r}", place.at, key=needs)


def _cognition(entry: Entry, keys: CognitionKeys | None) -> Cognition | None:
    if keys is None or not keys.enabled:
        return None
    for category, patterns in keys.extract_patterns.items():
        for pattern in patterns:
            place = find(entry.table, "cognitive_extraction", "extract_patterns", category)
            check_pattern(entry, pattern, place, INSIGHT_FLAGS)
    patterns = {category: tuple(patterns) for category, patterns in keys.extract_patterns.items()}
    return Cognition(patterns=patterns, max_length=keys.max_length_per_category)


def check_pattern(entry: Entry, pattern: str, place: Tree, flags: int = 0) -> None:
    """Reports a regular expression that does not compile, or that a run would refuse, at its place in the list `place`
    where it has one."""
    for item in place.items if isinstance(place, ListTree) else ():
        if isinstance(item, Scalar) and item.value == pattern:
            place = item
            break
    problem = None
    if len(pattern) > MAX_PATTERN:
        problem = f"longer than {MAX_PATTERN} characters"
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                re.compile(pattern, flags)
                entry.check_pattern(pattern, flags)
        except TemplateError as exc:
            entry.error(f"{entry.owner}: {exc}", place.at)
        except (re.error, RecursionError, OverflowError, ValueError) as exc:
            problem = str(exc)
    if problem is not None:
        shown = pattern if len(pattern) <= 60 else pattern[:57] + "..."
        entry.error(f"bad regular expression {shown!r} in {entry.owner}: {problem}", place.at)


def _metadata(entry: Entry) -> tuple[tuple[tuple[str, str], ...], tuple[Text, ...]]:
    fields: list[tuple[str, str]] = []
    texts: list[Text] = []
    table = entry.table.value("past_loops_metadata")
    for item in table.entries if isinstance(table, MapTree) else ():
        if not isinstance(item.value, Scalar):
            entry.error(
                f"{item.key.text!r} in 'past_loops_metadata' of {entry.owner} must be text, not {kind_of(item.value)}",
                item.value.at,
                key="past_loops_metadata",
            )
            continue
        fields.append((item.key.text, "" if item.value.value is None else item.value.text))
        texts.append(Text(owner=entry.id, key="past_loops_metadata", scalar=item.value))
    return tuple(fields), tuple(texts)
