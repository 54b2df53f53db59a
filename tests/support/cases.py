"""Expectations of a workflow file, written beside it in YAML: what it is given, what its model says, what must come of it.

A file `x.case.yaml` holds `about`, and where they are not empty:

    warnings:  parts of the messages of `orka check`, all of them
    refused:   parts of the errors of a file that cannot run
    differs:   the codes of `orka import-check`
    refuses:   what the server does not take
    needs:     `search` (an engine that finds three pages) or `search-down` (one that does not answer)

and `runs`, one after another on one Redis:

    input:     of the run
    model:     rules, the first that fits answers: {when: text or {prompt, model, system, path}, say: answer or list of them};
               without `when` it fits everything
    answer:    value of run()
    order:     ids of the log
    log:       id -> keys of its entry or payload that must be so (a list: of each entry of that id)
    prompts:   parts of prompts that the model received; no_prompts: parts that none has; asked: how many; last_prompt
    bodies:    of the requests in order, keys that must be so (`path` is the request's)
    at_once:   the most requests at once; within: seconds

An answer is a text, or a mapping that is sent as JSON; one whose keys begin with `$` is a `Reply` (`$status`, `$delay`, ...).
Expected mappings may lack keys of the true ones. A text `re:...` is a regular expression, `about:0.5` a number to three digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .openai_server import Asked, Reply, Server

MISSING = object()


@dataclass(kw_only=True)
class Run:
    """One run of the file."""

    input: Any
    model: list[dict[str, Any]] = field(default_factory=list)
    answer: Any = MISSING
    order: list[str] | None = None
    log: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    no_prompts: list[str] = field(default_factory=list)
    last_prompt: str | None = None
    asked: int | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    at_once: int | None = None
    within: float = 60.0


@dataclass(kw_only=True)
class Case:
    """The whole of a `.case.yaml`."""

    about: str
    runs: list[Run]
    warnings: list[str] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)
    needs: str = ""
    refused: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)


def read_case(file: Path) -> Case:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Case(**{**data, "runs": [Run(**run) for run in data["runs"]]})


def script_server(server: Server, run: Run) -> list[str]:
    """Makes the server answer as the run says; gives the list in which prompts are put that no rule fits."""
    unexpected: list[str] = []

    def refuse(asked: Asked) -> Reply:
        unexpected.append(asked.prompt)
        return Reply(status=400, error="no rule fits this prompt")

    server.reset()
    server.default = refuse
    for rule in run.model:
        says = rule["say"] if isinstance(rule["say"], list) else [rule["say"]]
        server.when(_predicate(rule.get("when", "")), *(_script(one) for one in says))
    return unexpected


def _predicate(when: str | Mapping[str, str]) -> Any:
    parts = {"prompt": when} if isinstance(when, str) else when
    return lambda asked: all(_holds(key, text, asked) for key, text in parts.items())


def _holds(key: str, text: str, asked: Asked) -> bool:
    # Questions may stand in the system's text as well as in the user's.
    return text in (f"{asked.system}\n{asked.prompt}" if key == "prompt" else str(getattr(asked, key)))


def _script(say: Any) -> Any:
    if isinstance(say, dict) and say and all(str(key).startswith("$") for key in say):
        return Reply(**{str(key)[1:]: value for key, value in say.items()})
    return say


def differences(run: Run, answer: Any, log: list[dict[str, Any]], server: Server) -> Iterator[str]:
    """What is not as the run expects, one sentence each."""
    if run.answer is not MISSING:
        yield from compare(run.answer, answer, "answer")
    ids = [entry["agent_id"] for entry in log]
    if run.order is not None and ids != run.order:
        yield f"order is {ids}, not {run.order}"
    for name, wanted in run.log.items():
        entries = [entry for entry in log if entry["agent_id"] == name]
        wants = wanted if isinstance(wanted, list) else [wanted]
        found = entries if isinstance(wanted, list) else entries[-1:]
        if len(wants) != len(found):
            yield f"{len(found)} entries of {name!r} in the log, not {len(wants)}"
            continue
        for want, entry in zip(wants, found, strict=True):
            for key, value in want.items():
                true = entry.get(key, entry["payload"].get(key, MISSING))
                yield from compare(value, true, f"{key!r} of {name!r}")
    yield from _about_requests(run, server)


def _about_requests(run: Run, server: Server) -> Iterator[str]:
    received = [f"{asked.system}\n{asked.prompt}" for asked in server.asked]
    for text in run.prompts:
        if not any(text in prompt for prompt in received):
            yield f"no prompt holds {text!r}; they are {received}"
    for text in run.no_prompts:
        yield from (f"a prompt holds {text!r}: {prompt!r}" for prompt in received if text in prompt)
    if run.last_prompt is not None and run.last_prompt not in received[-1]:
        yield f"the last prompt lacks {run.last_prompt!r}: {received[-1]!r}"
    if run.asked is not None and len(received) != run.asked:
        yield f"{len(received)} requests, not {run.asked}"
    if run.bodies and len(server.asked) != len(run.bodies):
        yield f"{len(server.asked)} requests, not {len(run.bodies)}"
    for number, (want, asked) in enumerate(zip(run.bodies, server.asked, strict=False)):
        yield from compare(want, {**asked.body, "path": asked.path}, f"request {number}")
    if run.at_once is not None and server.most_at_once != run.at_once:
        yield f"{server.most_at_once} requests at once, not {run.at_once}"


def compare(wanted: Any, true: Any, where: str) -> Iterator[str]:
    """Differences of a value from what is wanted."""
    match wanted:
        case dict():
            if not isinstance(true, dict):
                yield f"{where} is {_shown(true)}, not a mapping"
                return
            for key, value in wanted.items():
                yield from compare(value, true.get(key, MISSING), f"{where}.{key}")
        case list():
            if not isinstance(true, list) or len(true) != len(wanted):
                yield f"{where} is {_shown(true)}, not a list like {wanted!r}"
                return
            for index, (one, other) in enumerate(zip(wanted, true, strict=True)):
                yield from compare(one, other, f"{where}[{index}]")
        case str() if wanted.startswith("re:"):
            if not isinstance(true, str) or re.search(wanted[3:], true, re.DOTALL) is None:
                yield f"{where} is {_shown(true)}, not like {wanted[3:]!r}"
        case str() if wanted.startswith("about:"):
            if not isinstance(true, int | float) or abs(float(wanted[6:]) - true) > 0.001:
                yield f"{where} is {_shown(true)}, not {wanted}"
        case _:
            if wanted != true or isinstance(wanted, bool) is not isinstance(true, bool):
                yield f"{where} is {_shown(true)}, not {wanted!r}"


def _shown(value: Any) -> str:
    return "missing" if value is MISSING else repr(value)
