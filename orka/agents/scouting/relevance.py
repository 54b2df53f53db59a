"""How well agents and paths fit a question, told without a model. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from orka.agents.scouting.profile import Profile
from orka.types import NodeId

_WORD: Final = re.compile(r"[a-z0-9]{2,}")
_STOP: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can do does for from get give has have how i in is it its me my of on or please that the"
        " their this to was we what when where which who why will with you your agent node llm",
    )
)
_IMAGE: Final = re.compile(r"\b(?:images?|pictures?|photos?|screenshots?|diagrams?|drawings?)\b", re.IGNORECASE)
_VISION: Final = frozenset({"vision", "image_analysis", "multimodal", "image_understanding"})
_SIGNS: Final[tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]] = tuple(
    (re.compile(rf"\b(?:{question})\b", re.IGNORECASE), re.compile(agent))
    for question, agent in (
        (
            r"news|latest|today|current|recent(?:ly)?|price|weather|search|find|look up|who is|202\d",
            r"search|web|duckduckgo|news|retriev",
        ),
        (
            r"remember|earlier|previous(?:ly)?|last time|history|told you|again",
            r"memory|recall|histor|episod",
        ),
        (
            r"analy[sz]e|analysis|compare|evaluate|assess|explain|reason|cause|trade-?offs?|pros and cons",
            r"analy|reason|critic|compar|evaluat|assess|debate",
        ),
        (r"summar(?:y|i[sz]e)|shorten|tl;?dr|key points", r"summar|synthes|condens"),
        (r"write|story|poem|draft|compose|creative|brainstorm", r"writ|creativ|draft|story|brainstorm"),
        (r"code|python|function|bug|compile|program|script", r"code|program|develop|debug"),
        (r"translate|translation|in (?:german|french|italian|spanish)", r"translat|language"),
        (r"store|save|note that|keep in mind|memori[sz]e", r"memory|writ|stor"),
    )
)
"""(words of a question, words of an agent that such a question needs)."""
_DEFAULT_READY: Final = 0.9
_FIT: Final = 0.7
_FIT_VISION: Final = 0.9
_FIT_BLIND: Final = 0.3


def words_of(text: str) -> frozenset[str]:
    """Words that say something, without their plural `s`."""
    return frozenset(
        word.removesuffix("s") if len(word) > 3 else word
        for word in _WORD.findall(text.lower().replace("_", " "))
        if word not in _STOP
    )


def describe(agent: Profile) -> str:
    """What an agent is, in words: for comparing it with a question."""
    tags = " ".join(sorted(agent.capabilities))
    return f"{agent.id} {tags} {agent.type}".replace("_", " ").replace("-", " ")


def overlap(question: str, agent: Profile, similarity: float = 0.0) -> float:
    """0 to 1: the share of the agent's own words that the question has, or their `similarity` by meaning if greater."""
    own = words_of(f"{agent.id} {' '.join(agent.capabilities)}")
    shared = len(own & words_of(question)) / len(own) if own else 0.0
    return min(1.0, max(shared, similarity, 0.0))


def relevance(question: str, path: Sequence[Profile], similarities: Mapping[NodeId, float]) -> float:
    """0 to 1, the deterministic evaluator: .3 for being an agent at all, .3 by overlap, .4 where the question's words ask
    for such an agent. Of a path the mean of those that do not merely write the answer, or remember."""
    working = [agent for agent in path if agent.role == "other"] or list(path)
    total = 0.0
    for agent in working:
        fits = any(asks.search(question) and has.search(describe(agent).lower()) for asks, has in _SIGNS)
        total += 0.3 + 0.3 * overlap(question, agent, similarities.get(agent.id, 0.0)) + (0.4 if fits else 0.0)
    return total / len(working)


def readiness(path: Sequence[Profile], known: Collection[str]) -> float:
    """Whether what the prompts read will be there: .9 for an agent that reads nothing, else the share of its reads that
    has run or runs earlier in the path."""
    there, total = set(known), 0.0
    for agent in path:
        reads = agent.reads
        total += len(reads & there) / len(reads) if reads else _DEFAULT_READY
        there.add(agent.id)
    return total / len(path)


def flows(path: Sequence[Profile], known: Collection[str]) -> bool:
    """Every output that a prompt reads is there by then."""
    there = set(known)
    for agent in path:
        if not agent.reads <= there:
            return False
        there.add(agent.id)
    return True


def modality(question: str, path: Sequence[Profile]) -> float:
    """.7; a question about pictures fits an agent that sees (.9) and no other (.3)."""
    if _IMAGE.search(question) is None:
        return _FIT
    sees = any(not agent.capabilities.isdisjoint(_VISION) or "vision" in agent.id.lower() for agent in path)
    return _FIT_VISION if sees else _FIT_BLIND
