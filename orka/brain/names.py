"""What skills are called, and the words by which they are looked up. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from orka.brain.features import Features

MOST_SLUG: Final = 40
MOST_TAGS: Final = 24
_NOT_SLUG = re.compile(r"[^\w]+|_+")
_BETWEEN = re.compile(r"[\s:+→/_-]+")
_LABEL: Final = 64
"""Characters of a word that is part of a key."""


def slug(text: str, most: int = MOST_SLUG) -> str:
    """Lower-case words with hyphens in between, at most `most` characters."""
    return _NOT_SLUG.sub("-", text.lower()).strip("-")[:most].strip("-")


def procedural_name(domain: str, features: Features, task: str) -> str:
    """`procedural:<domain>:<pattern>[-<structure>]`; the words of the task where no feature is known."""
    parts = [*features.cognitive_patterns[:1], *features.task_structures[:1]]
    return f"procedural:{domain}:{'-'.join(parts) or slug(task) or 'task'}"


def recipe_name(domain: str, pattern: str, agents: Sequence[str]) -> str:
    """`recipe:<domain>:<pattern>-a+b+c`."""
    return f"recipe:{domain}:{pattern}-{'+'.join(agents[:3])}"


def anti_name(domain: str, what_failed: str) -> str:
    """`anti:<domain>:<slug>`."""
    return f"anti:{domain}:{slug(what_failed) or 'failure'}"


def path_name(domain: str, nodes: Sequence[str]) -> str:
    """`path:<domain>:a→b→c→d`."""
    return f"path:{domain}:{'→'.join(nodes[:4])}"


def search_tokens(name: str) -> tuple[str, ...]:
    """The words of a name, and its parts between colons, sorted."""
    words = {word for word in _BETWEEN.split(name.lower()) if word}
    return tuple(sorted(words | {part.strip() for part in name.lower().split(":")[:2] if ":" in name and part.strip()}))


def tags_of(*groups: Sequence[str]) -> tuple[str, ...]:
    """Without repetitions, in order, at most `MOST_TAGS`."""
    return tuple(dict.fromkeys(word for group in groups for word in group if word))[:MOST_TAGS]


def label(word: str) -> str:
    """`word` as part of a key: case does not count, and a long one is shortened to what still tells it apart."""
    plain = " ".join(word.lower().split())
    if len(plain) <= _LABEL:
        return plain
    return f"{plain[: _LABEL - 17]}~{blake2b(plain.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"
