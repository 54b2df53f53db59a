"""Loops of a file: the mapping of a `loop` to its `Definition`, with its ways of finding a score.

The checks judge the file's own values, not the settled keys: one bad key must not hide what is wrong with others.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from orka.errors import TemplateError
from orka.graph.diagnostics import suggest
from orka.graph.entry import Entry, define, policy_of, settle_entry
from orka.graph.fields import as_options, keys_of, without
from orka.graph.keys import ControlKeys
from orka.graph.models import CognitionKeys, LoopKeys, ScoringKeys
from orka.graph.nodes import DEFAULT_POLICY, INSIGHT_FLAGS, Cognition, LoopNode, Scope, ScoreStrategy, Scoring
from orka.graph.outline import Definition, Text
from orka.graph.tree import ListTree, MapTree, Scalar, Tree, kind_of
from orka.scoring import CONTEXTS, PRESETS, BooleanScoreCalculator
from orka.types import NodeId

_EMPTY = Scope(sequence=(), nodes={})
MAX_PATTERN = 1000
"""Characters of one regular expression."""
_NEEDED: Mapping[str, str] = {"direct_key": "key", "pattern": "patterns", "agent_key": "agents"}
"""Type of a strategy -> the key that it cannot do without."""
_STRUCTURE = frozenset(keys_of(ControlKeys)) - {"capabilities", "metadata"}
_LOOP_FIELDS = frozenset(
    {
        "internal_workflow",
        "max_loops",
        "score_threshold",
        "score_extraction_config",
        "score_extraction_pattern",
        "score_extraction_key",
        "high_priority_agents",
        "past_loops_metadata",
        "cognitive_extraction",
        "fallback_score",
        "timeout_score",
        "scoring",
        "persist_across_runs",
    }
)
"""Keys of a loop that have a field of `LoopNode`; the others become its options."""


def read_loop(entry: Entry) -> Definition:
    keys = settle_entry(entry, LoopKeys)
    tree = entry.table.value("internal_workflow")
    body = None
    if isinstance(tree, MapTree):  # also when other keys are wrong: its own faults are worth reporting
        body = entry.parse_area(tree, entry.area, entry.id, entry.defaults)
    _check_threshold(entry)
    _check_searches(entry)
    _check_insights(entry)
    scoring = _scoring(entry)
    fields, texts = _metadata(entry)
    if keys is None or body is None:
        definition = define(entry, None, texts=texts)
        definition.body = body
        return definition
    node = LoopNode(
        id=entry.id,
        body=_EMPTY,
        max_loops=keys.max_loops,
        score_threshold=keys.score_threshold,
        strategies=_strategies(keys),
        priority_agents=tuple(NodeId(name) for name in keys.high_priority_agents),
        past_loops_metadata=fields,
        cognition=_cognition(keys.cognitive_extraction),
        fallback_score=keys.fallback_score,
        timeout_score=keys.timeout_score,
        scoring=scoring,
        agreement=keys.score_extraction_config is not None and keys.score_extraction_config.agreement_fallback,
        persist=keys.persist_across_runs,
        options=as_options(without(entry.table, _STRUCTURE | _LOOP_FIELDS)),
        policy=policy_of(keys, DEFAULT_POLICY),
        terminal=keys.is_terminal,
        line=entry.at.line,
    )
    definition = define(entry, node, texts=texts)
    definition.body = body
    return definition


def _strategies(keys: LoopKeys) -> tuple[ScoreStrategy, ...]:
    made: list[ScoreStrategy] = []
    for strategy in keys.score_extraction_config.strategies if keys.score_extraction_config else ():
        made.append(
            ScoreStrategy(
                type=strategy.type,
                key=strategy.key,
                patterns=tuple(strategy.patterns),
                agents=tuple(NodeId(name) for name in strategy.agents),
            )
        )
    if keys.score_extraction_pattern is not None:
        made.append(ScoreStrategy(type="pattern", patterns=(keys.score_extraction_pattern,)))
    if keys.score_extraction_key is not None:
        made.append(ScoreStrategy(type="direct_key", key=keys.score_extraction_key))
    return tuple(made)


def _cognition(keys: CognitionKeys | None) -> Cognition | None:
    if keys is None or not keys.enabled:
        return None
    patterns = {category: tuple(patterns) for category, patterns in keys.extract_patterns.items()}
    return Cognition(patterns=patterns, max_length=keys.max_length_per_category)


def _check_threshold(entry: Entry) -> None:
    tree = entry.table.value("score_threshold")
    value = tree.value if isinstance(tree, Scalar) else None
    if tree is None or not isinstance(value, int | float) or isinstance(value, bool) or value <= 1:
        return
    entry.warning(
        f"'score_threshold' of {entry.owner} is never reached: scores are 0 to 1",
        tree.at,
        hint=f"did you mean {value / 100:g}?" if value <= 100 else None,
        key="score_threshold",
    )


def _check_searches(entry: Entry) -> None:
    """The ways of finding a score."""
    config = entry.table.value("score_extraction_config")
    strategies = config.value("strategies") if isinstance(config, MapTree) else None
    for strategy in strategies.items if isinstance(strategies, ListTree) else ():
        if not isinstance(strategy, MapTree):
            continue
        _check_patterns(entry, strategy.value("patterns"))
        tree = strategy.value("type")
        kind = tree.text if isinstance(tree, Scalar) else ""
        needs = _NEEDED.get(kind)
        if needs is not None and not _is_given(strategy.value(needs)):
            entry.error(f"strategy {kind!r} of {entry.owner} has no {needs!r}", strategy.at, key=needs)
    _check_patterns(entry, entry.table.value("score_extraction_pattern"))


def _scoring(entry: Entry) -> Scoring | None:
    """None, with a warning, where the loop cannot score by what the file says: its other ways of finding a score count."""
    tree = entry.table.value("scoring")
    table = tree if isinstance(tree, MapTree) else None
    preset = tree if table is None else table.value("preset")
    if table is not None and table.value("custom_weights") is not None and not _is_given(preset):
        message = f"'custom_weights' of {entry.owner} have no effect without a 'preset'"
        entry.warning(message, table.at, hint=f"one of {', '.join(PRESETS)}", key="scoring")
    if not isinstance(preset, Scalar) or not isinstance(preset.value, str) or not preset.value.strip():
        return None
    names, fit = [preset.value.strip().lower(), ScoringKeys().context], True
    context = None if table is None else table.value("context")
    for index, (place, choices) in enumerate(((preset, PRESETS), (context, tuple(CONTEXTS)))):
        if isinstance(place, Scalar) and isinstance(place.value, str):
            names[index] = place.value.strip().lower()
            if names[index] not in choices:
                hint = suggest(names[index], choices) or f"there are {', '.join(choices)}"
                _scores_not(entry, f"there is no scoring {('preset', 'context')[index]} {place.value!r}", place, hint)
                fit = False
    weights = _weights(entry, table, names[1]) if fit else None
    return None if weights is None else Scoring(preset=names[0], context=names[1], weights=weights)


def _weights(entry: Entry, table: MapTree | None, context: str) -> dict[str, float] | None:
    tree = None if table is None else table.value("custom_weights")
    weights: dict[str, float] = {}
    for item in tree.entries if isinstance(tree, MapTree) else ():
        name = item.key.text
        if name not in CONTEXTS[context].weights:
            hint = suggest(name, CONTEXTS[context].weights) or f"there are {', '.join(CONTEXTS[context].weights)}"
            _scores_not(entry, f"scoring context {context!r} has no criterion {name!r}", item.key, hint)
            return None
        try:
            weights[name] = float(item.value.text if isinstance(item.value, Scalar) else "")
        except ValueError:
            return None  # the model reports it
    try:
        BooleanScoreCalculator(context=context, custom_weights=weights)
    except ValueError as exc:
        _scores_not(entry, str(exc), tree or entry.table)
        return None
    return weights


def _scores_not(entry: Entry, why: str, place: Tree, hint: str | None = None) -> None:
    entry.warning(f"{why}: {entry.owner} does without boolean scoring", place.at, hint=hint, key="scoring")


def _check_insights(entry: Entry) -> None:
    cognition = entry.table.value("cognitive_extraction")
    if not isinstance(cognition, MapTree):
        return
    enabled = cognition.value("enabled")
    patterns = cognition.value("extract_patterns")
    if not isinstance(patterns, MapTree) or (isinstance(enabled, Scalar) and enabled.value is False):
        return
    for category in patterns.entries:
        _check_patterns(entry, category.value, INSIGHT_FLAGS)


def _is_given(tree: Tree | None) -> bool:
    if isinstance(tree, ListTree):
        return bool(tree.items)
    return tree is not None and not (isinstance(tree, Scalar) and tree.value in (None, ""))


def _check_patterns(entry: Entry, tree: Tree | None, flags: int = 0) -> None:
    """One regular expression, or a list of them; what is no text at all, the model reports."""
    for item in tree.items if isinstance(tree, ListTree) else (tree,):
        if isinstance(item, Scalar) and isinstance(item.value, str):
            check_pattern(entry, item.value, item, flags)


def check_pattern(entry: Entry, pattern: str, place: Tree, flags: int) -> None:
    """Reports a regular expression that does not compile, or that a run would refuse."""
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
