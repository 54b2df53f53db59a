"""Functions about the rounds of a loop and about memories: what earlier rounds left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from orka.template.outputs import anywhere, table
from orka.template.text import text_of
from orka.template.view import View

_SCORES = ("agreement_score", "final_score", "score")


def get_past_loops(view: View) -> list[object]:
    """The enclosing loop's past rounds, oldest first; outside loops those of the first output that has some."""
    if view.past_loops is not None:
        return cast("list[object]", view.past_loops)
    for found in anywhere(view, "past_loops"):
        if isinstance(found, list):
            return cast("list[object]", found)
    return []


def has_past_loops(view: View) -> bool:
    return bool(get_past_loops(view))


def get_past_loops_metadata(view: View) -> object:
    return dict(view.past_loops_metadata)


def _last(view: View) -> Mapping[str, object]:
    rounds = get_past_loops(view)
    return (table(rounds[-1]) or {}) if rounds else {}


def get_past_insights(view: View) -> str:
    """The last round's `synthesis_insights`."""
    return text_of(_last(view).get("synthesis_insights"))


def get_past_loop_data(view: View, key: object = None) -> object:
    """The last round as text, or one of its values; empty when there is none."""
    last = _last(view)
    if key is None:
        return text_of(last) if last else ""
    found = last.get(text_of(key))
    return "" if found is None else found


def get_round_info(view: View) -> str:
    """The last round's `round`, else the number of this one."""
    found = _last(view).get("round")
    return str(view.loop_number) if found is None else text_of(found)


def get_loop_rounds(view: View) -> object:
    """Number of past rounds, else how many an earlier loop completed, else `Unknown`."""
    return len(get_past_loops(view)) or next(anywhere(view, "loops_completed"), "Unknown")


def get_final_score(view: View) -> object:
    """The last round's score, else the first number under a key with `score` in an earlier output, else `Unknown`."""
    last = _last(view)
    for key in _SCORES:
        if last.get(key) is not None:
            return last[key]
    for output in view.outputs.values():
        entries = table(output) or {}
        for place in (entries, table(entries.get("result")) or {}):
            for key, value in place.items():
                if "score" in key and isinstance(value, (int, float)) and not isinstance(value, bool):
                    return value
    return "Unknown"


def get_debate_evolution(view: View) -> str:
    """One line: the agreement score of every past round."""
    scores: list[str] = []
    for number, item in enumerate(get_past_loops(view), 1):
        entries = table(item) or {}
        score = next((entries[key] for key in _SCORES if entries.get(key) is not None), "unknown")
        scores.append(f"round {text_of(entries.get('round') or number)}: {text_of(score)}")
    return f"Agreement by round: {', '.join(scores)}" if scores else "No earlier rounds"


def get_my_past_memory(view: View, agent_type: object) -> str:
    """The last three memories that earlier outputs hold whose `metadata.agent_type` is this one, a line each."""
    wanted = text_of(agent_type)
    lines: list[str] = []
    for found in anywhere(view, "memories"):
        for item in cast("list[object]", found) if isinstance(found, list) else ():
            memory = table(item) or {}
            if (table(memory.get("metadata")) or {}).get("agent_type") == wanted:
                lines.append(f"- {text_of(memory.get('content'))}")
    return "\n".join(lines[-3:])


def get_my_past_decisions(view: View, agent: object) -> str:
    """What the last two rounds that mention this agent hold for it, a line each."""
    name = text_of(agent)
    lines: list[str] = []
    for number, item in enumerate(get_past_loops(view), 1):
        entries = table(item) or {}
        if name in entries:
            lines.append(f"- round {text_of(entries.get('round') or number)}: {text_of(entries[name])}")
    return "\n".join(lines[-2:])


def get_agent_memory_context(view: View, agent_type: object, agent: object) -> str:
    """Both of the above, labelled; what is empty is left out."""
    parts = (
        ("Past memories", get_my_past_memory(view, agent_type)),
        ("Past decisions", get_my_past_decisions(view, agent)),
    )
    return "\n\n".join(f"{label}:\n{text}" for label, text in parts if text)


def format_loop_metadata(past_loops: object = None, max_loops: int = 5) -> str:
    """The last `max_loops` rounds as lines: number, score, then their other values."""
    rounds = cast("list[object]", past_loops) if isinstance(past_loops, list) else []
    lines: list[str] = []
    for number, item in list(enumerate(rounds, 1))[-max(max_loops, 1) :]:
        entries = table(item) or {}
        label = text_of(entries.get("loop_number") or number)
        others = (f"{key}: {text_of(value)}" for key, value in entries.items() if key not in _LABELS and value)
        lines.append("; ".join((f"Loop {label} (score {text_of(entries.get('score', 'unknown'))})", *others)))
    return "\n".join(lines) or "No past loops"


def _format_loop_metadata(_view: View, past_loops: object = None, max_loops: int = 5) -> str:
    return format_loop_metadata(past_loops, max_loops)


_LABELS = frozenset({"loop_number", "score", "timestamp"})

FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "format_loop_metadata": _format_loop_metadata,
    "get_agent_memory_context": get_agent_memory_context,
    "get_debate_evolution": get_debate_evolution,
    "get_final_score": get_final_score,
    "get_loop_rounds": get_loop_rounds,
    "get_my_past_decisions": get_my_past_decisions,
    "get_my_past_memory": get_my_past_memory,
    "get_past_insights": get_past_insights,
    "get_past_loop_data": get_past_loop_data,
    "get_past_loops": get_past_loops,
    "get_past_loops_metadata": get_past_loops_metadata,
    "get_round_info": get_round_info,
    "has_past_loops": has_past_loops,
}
