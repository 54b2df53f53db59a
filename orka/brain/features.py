"""What kind of task a context describes, whatever its domain: structures, patterns of thought, shapes. Pure.

Two tasks of different domains that are structured alike can be done alike: that is what lets a skill be transferred.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from orka.brain.reading import Facts, facts_of, number_of, text_of, texts_of
from orka.ids import digest_of

STRUCTURES: Final = {
    "decomposition": r"break(?:ing)? (?:\w+ ){0,3}down|split\w*|decompos\w+|divid\w+|subtasks?|piece by piece|parts",
    "sequential": r"then|afterwards|step by step|in order|one after (?:the other|another)|sequen\w+|pipelines?|stages?",
    "parallel": r"parallel\w*|simultaneous\w*|concurrent\w*|at (?:the same time|once)|side by side|fan[- ]?out",
    "aggregation": r"aggregat\w+|combin\w+|merg\w+|summar\w+|consolidat\w+|collect\w*|totals?",
    "comparison": r"compar\w+|versus|vs|differences?|contrast\w*|against each other|trade-?offs?",
    "transformation": r"transform\w*|convert\w*|translat\w+|rewrit\w+|reformat\w*|normali[sz]\w+|turn\w* \w+ into",
    "filtering": r"filter\w*|exclud\w+|remov\w+|select\w*|discard\w*|only those|shortlist\w*",
    "routing": r"rout(?:e|es|ed|ing)|dispatch\w*|triag\w+|branch\w*|depending on|escalat\w+|hand\w* over",
    "iteration": r"iterat\w+|repeat\w*|loop\w*|until|refin\w+|retr(?:y|ies|ied|ying)|again and again|converg\w+",
    "validation": r"validat\w+|verif\w+|check\w*|confirm\w*|test(?:s|ed|ing)?|ensur\w+|audit\w*",
}
"""Words by which a structure is known: a regular expression between word boundaries."""

PATTERNS: Final = {
    "analysis": r"analy[sz]\w*|examin\w+|investigat\w+|inspect\w*|diagnos\w+|understand\w*",
    "synthesis": r"synthes\w+|integrat\w+|combin\w+|put\w* together|weav\w+|unif(?:y|ies|ied)",
    "evaluation": r"evaluat\w+|assess\w*|judg\w+|rat(?:e|es|ed|ing)|scor(?:e|es|ed|ing)|review\w*|critiqu\w+",
    "generation": r"generat\w+|creat(?:e|es|ed|ing)|writ(?:e|es|ing)|draft\w*|compos(?:e|es|ed|ing)|produc\w+",
    "classification": r"classif\w+|categori[sz]\w+|label\w*|tag(?:s|ged|ging)?|sort(?:s|ed|ing)?|triag\w+",
    "extraction": r"extract\w*|pull\w* out|retriev\w+|identif\w+|find\w*|locat(?:e|es|ed|ing)|pars(?:e|es|ed|ing)",
    "reasoning": r"reason\w*|deduc\w+|infer\w*|conclud\w+|argu(?:e|es|ed|ing)|because|therefore|why",
    "planning": r"plan(?:s|ned|ning)?|schedul\w+|organi[sz]\w+|prioriti[sz]\w+|roadmaps?|strateg\w+",
    "optimization": r"optimi[sz]\w+|improv\w+|speed\w* up|tun(?:e|es|ed|ing)|enhanc\w+|reduc\w+|minimi[sz]\w+|maximi[sz]\w+",
    "abstraction": r"abstract\w*|generali[sz]\w+|concept\w*|principles?|essence|high[- ]level",
}

INPUT_SHAPES: Final = ("list", "structured", "long_text", "single_text", "unknown")
OUTPUT_SHAPES: Final = ("structured", "list", "boolean", "numeric", "text")

_LONG: Final = 1000
"""Characters above which a text is long."""
_SPOKEN: Final = ("task", "input_description", "description", "goal", "prompt", "input")
"""Keys of a context whose texts are read."""
_READ: Final = 20_000
"""Characters that are read in all."""


def _finders(words: dict[str, str]) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(rf"\b(?:{pattern})\b") for name, pattern in words.items()}


_STRUCTURES = _finders(STRUCTURES)
_PATTERNS = _finders(PATTERNS)

_INPUT_WORDS: Final = (
    ("list", re.compile(r"\b(?:lists?|arrays?|items|rows|several|many|batch(?:es)?)\b")),
    ("structured", re.compile(r"\b(?:json|yaml|csv|tables?|records?|objects?|mappings?|dicts?|schemas?)\b")),
    ("long_text", re.compile(r"\b(?:documents?|articles?|books?|reports?|transcripts?|long texts?)\b")),
    ("single_text", re.compile(r"\b(?:texts?|sentences?|questions?|messages?|strings?|paragraphs?|emails?)\b")),
)
_OUTPUT_WORDS: Final = (
    ("boolean", re.compile(r"\b(?:bool(?:ean)?|yes[/ ]?(?:or )?no|true[/ ]?(?:or )?false)\b")),
    ("structured", re.compile(r"\b(?:json|yaml|structured|objects?|tables?|schemas?|dicts?|csv)\b")),
    ("list", re.compile(r"\b(?:lists?|arrays?|bullets?|items)\b")),
    ("numeric", re.compile(r"\b(?:numbers?|numeric|integers?|floats?|scores?|percent(?:age)?s?|amounts?)\b")),
)


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """The abstract features of one context."""

    task_structures: tuple[str, ...] = ()
    cognitive_patterns: tuple[str, ...] = ()
    input_shape: str = "unknown"
    output_shape: str = "text"
    complexity: int = 1
    """1 to 10."""
    domain_hints: tuple[str, ...] = ()
    abstract_goal: str = ""
    metadata: dict[str, Any] = {}

    @property
    def fingerprint(self) -> str:
        """The same for contexts of the same structures, patterns and shapes; empty when the context tells of neither
        structures nor patterns, since two such have nothing in common."""
        if not self.task_structures and not self.cognitive_patterns:
            return ""
        parts = [sorted(self.task_structures), sorted(self.cognitive_patterns), self.input_shape, self.output_shape]
        return digest_of(parts)[:16]


def analyse(context: Facts) -> Features:
    """Of a context with the keys `domain`, `task`, `input` (any value), `input_description`, `output_format`, `strategy`,
    `agents`, `steps`; others are ignored."""
    spoken = " ".join(text for key in _SPOKEN if (text := text_of(context.get(key), most=_READ)))[:_READ].lower()
    structures = [name for name, finder in _STRUCTURES.items() if finder.search(spoken)]
    strategy = text_of(context.get("strategy")).lower()
    if strategy in ("parallel", "sequential") and strategy not in structures:
        structures.append(strategy)
    patterns = [name for name, finder in _PATTERNS.items() if finder.search(spoken)]
    input_shape, output_shape = _input_shape(context), _output_shape(context)
    return Features(
        task_structures=tuple(structures),
        cognitive_patterns=tuple(patterns),
        input_shape=input_shape,
        output_shape=output_shape,
        complexity=_complexity(context, len(structures), len(patterns), input_shape),
        domain_hints=(domain_of(context),),
        abstract_goal=_goal(structures, patterns, input_shape, output_shape),
        metadata={key: text for key in ("domain", "task", "strategy") if (text := text_of(context.get(key), most=500))},
    )


def similarity(one: Features, other: Features) -> float:
    """0 to 1: .35 Jaccard of structures, .35 of patterns, .15 for the same shape of input, .15 for that of output."""
    return (
        0.35 * _jaccard(one.task_structures, other.task_structures)
        + 0.35 * _jaccard(one.cognitive_patterns, other.cognitive_patterns)
        + 0.15 * (one.input_shape == other.input_shape)
        + 0.15 * (one.output_shape == other.output_shape)
    )


def decode_features(facts: Facts) -> Features:
    """Of stored JSON, of OrKa 0.9's as well."""
    return Features(
        task_structures=texts_of(facts.get("task_structures")),
        cognitive_patterns=texts_of(facts.get("cognitive_patterns")),
        input_shape=text_of(facts.get("input_shape"), "unknown"),
        output_shape=text_of(facts.get("output_shape"), "text"),
        complexity=round(number_of(facts.get("complexity"), 1, least=1, most=10)),
        domain_hints=texts_of(facts.get("domain_hints")),
        abstract_goal=text_of(facts.get("abstract_goal")),
        metadata=facts_of(facts.get("metadata")),
    )


def domain_of(context: Facts) -> str:
    """`general` where the context names none."""
    return text_of(context.get("domain"), "general", most=80)


def _jaccard(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """0 for two empty sets: they have nothing in common."""
    union = {*one, *other}
    return len({*one} & {*other}) / len(union) if union else 0.0


def _input_shape(context: Facts) -> str:
    match context.get("input"):
        case list():
            return "list"
        case dict():
            return "structured"
        case str() as text if text.strip():
            return "long_text" if len(text) > _LONG else "single_text"
        case _:
            described = text_of(context.get("input_description")).lower()
            return next((shape for shape, finder in _INPUT_WORDS if finder.search(described)), "unknown")


def _output_shape(context: Facts) -> str:
    hint = text_of(context.get("output_format")) or text_of(context.get("expected_output"))
    return next((shape for shape, finder in _OUTPUT_WORDS if finder.search(hint.lower())), "text")


def _complexity(context: Facts, structures: int, patterns: int, input_shape: str) -> int:
    parts = [context.get("agents"), context.get("steps")]
    longest = max(len(part) if isinstance(part, list) else 0 for part in parts)
    extra = (longest > 3) + (longest > 8) + (input_shape in ("long_text", "structured"))
    return min(10, 1 + min(3, structures) + min(3, patterns) + extra)


def _goal(structures: list[str], patterns: list[str], input_shape: str, output_shape: str) -> str:
    what = " and ".join(patterns[:2]) or "work"
    how = f" by {' and '.join(structures[:2])}" if structures else ""
    source = "" if input_shape == "unknown" else f" of {input_shape.replace('_', ' ')} input"
    return f"{what}{how}{source}, giving {output_shape}"
