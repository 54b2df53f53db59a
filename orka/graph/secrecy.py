"""Secrets written into a graph file. A graph is stored in Redis with every run of it, and its digest tells one from another:
what is secret belongs into the environment, and a file that holds it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from orka.graph.diagnostics import Mark
from orka.graph.tree import ListTree, MapTree, Tree
from orka.secrets import is_secret_name, is_stand_in, remember


class Report(Protocol):
    """`Entry.error`, `Findings.error`."""

    def __call__(self, message: str, at: Mark, /, *, hint: str | None = None, key: str | None = None) -> None: ...


def refuse_secrets(table: MapTree, owner: str, report: Report) -> None:
    """Reports every value under a name like `api_key`, and every address with a password or a key in it. What was found is
    remembered, so that no message quotes it."""
    for key, value, at in _scalars(table):
        text = value.strip()
        if is_secret_name(key) and not _is_template(text) and not is_stand_in(text):
            remember(value, text)
            report(
                f"{key!r} of {owner} holds a secret, and a graph is stored with its runs",
                at,
                hint="keep it in an environment variable; agents that ask a model name that with 'api_key_env'",
                key=key,
            )
        elif (found := _secret_in(text)) is not None:
            remember(found, text)
            report(
                f"the address in {key!r} of {owner} holds a password or a key, and a graph is stored with its runs",
                at,
                hint="take it out of the address: 'api_key_env' names the variable of a model's key, REDIS_URL is one itself",
                key=key,
            )


def _scalars(table: MapTree) -> Iterator[tuple[str, str, Mark]]:
    """(key, text, place of the key) of every text below. Prompts are excepted, which are for the model to read, and what is
    under a name like `headers_env`: those are names of variables."""
    waiting: list[tuple[str, Tree, Mark]] = [
        (entry.key.text, entry.value, entry.key.at) for entry in table.entries if entry.key.text != "prompt"
    ]
    while waiting:
        key, tree, at = waiting.pop()
        if isinstance(tree, MapTree):
            waiting += (
                () if key.endswith("_env") else ((entry.key.text, entry.value, entry.key.at) for entry in tree.entries)
            )
        elif isinstance(tree, ListTree):
            waiting += ((key, item, item.at) for item in tree.items)
        elif isinstance(tree.value, str) or (tree.value is not None and is_secret_name(key)):
            yield key, tree.text, at


def _secret_in(text: str) -> str | None:
    """The password of an address that is the whole text, or the value of a key in its query."""
    if "://" not in text or any(mark.isspace() for mark in text):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    login, at, _ = parts.netloc.rpartition("@")
    if at:
        user, colon, password = login.partition(":")
        return (password if colon else user) or None
    for name, value in parse_qsl(parts.query):
        if (
            (is_secret_name(name) or name.lower() in {"key", "sig"})
            and not _is_template(value)
            and not is_stand_in(value)
        ):
            return value
    return None


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text
