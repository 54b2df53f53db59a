"""`Skill`: something that was done and can be done again; and its JSON as OrKa 0.9 wrote it and people read it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from orka.brain import growth
from orka.brain.features import Features, decode_features
from orka.brain.reading import Facts, facts_of, flag_of, ms_of, number_of, text_of, texts_of
from orka.clock import iso
from orka.types import Json

SKILL_TYPES: Final = (
    "procedural",
    "execution_recipe",
    "prompt_template",
    "parameter_config",
    "graph_path",
    "anti_pattern",
    "domain_heuristic",
)
RELATIONS: Final = ("DERIVES_FROM", "COMPOSED_OF", "SPECIALIZES", "TRANSFERRED_TO", "CONFLICTS_WITH", "COMPLEMENTS")
MOST_ACTION: Final = 60
"""Characters of a step's action."""
MOST_TRANSFERS: Final = 50
"""Transfers of which a skill keeps the details; all of them are counted."""
MOST_RELATIONS: Final = 50


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a procedure."""

    action: str
    description: str = ""
    order: int = 0
    parameters: dict[str, Any] = {}
    is_optional: bool = False


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What has to hold before, or holds after."""

    predicate: str
    description: str = ""
    required: bool = True


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a skill in a context that it was recalled for."""

    target_context: Features
    success: bool
    confidence: float
    """Of the skill, before."""
    adaptations: dict[str, Any] = {}
    at_ms: int = 0


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """From this skill to another."""

    relation: str
    """One of `RELATIONS`."""
    target: str
    """Id of the other skill."""


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """One learned skill. Never changed: `used` and `transferred` give the next one."""

    id: str
    name: str
    skill_type: str = "procedural"
    description: str = ""
    procedure: tuple[Step, ...] = ()
    preconditions: tuple[Condition, ...] = ()
    postconditions: tuple[Condition, ...] = ()
    source_context: Features = Features()
    transfer_history: tuple[Transfer, ...] = ()
    """The latest `MOST_TRANSFERS`, oldest first."""
    transfers: int = 0
    transfers_succeeded: int = 0
    confidence: float = 0.5
    usage_count: int = 1
    success_rate: float = 1.0
    tags: tuple[str, ...] = ()
    created_ms: int = 0
    updated_ms: int = 0
    expires_ms: int = 0
    """0: never."""
    task_description: str = ""
    domain_keywords: tuple[str, ...] = ()
    output_description: str = ""
    search_tokens: tuple[str, ...] = ()
    recipe: dict[str, Any] = {}
    anti_signals: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()

    @property
    def domain(self) -> str:
        return self.domain_keywords[0] if self.domain_keywords else "general"

    @property
    def steps(self) -> list[str]:
        """The actions in order."""
        return [step.action for step in sorted(self.procedure, key=lambda step: step.order)]

    @property
    def agents(self) -> tuple[str, ...]:
        """Ids of the agents that a recipe or a path runs."""
        return texts_of(self.recipe.get("agents"))

    @property
    def transfer_success(self) -> float:
        """The fraction of transfers that succeeded; .5 when there were none."""
        return self.transfers_succeeded / self.transfers if self.transfers else 0.5

    @property
    def text(self) -> str:
        """What its vector is made of."""
        parts = [f"{self.domain}: {self.task_description}", " ".join(self.steps[:12])]
        if self.agents:
            parts.append(f"{self.recipe.get('pattern', '')} {' '.join(self.agents)}")
        parts += [self.output_description, *self.anti_signals]
        if not self.task_description:
            parts += [self.name, self.description]
        return ". ".join(part for part in parts if part)[:2000]

    def used(self, *, success: bool, at_ms: int, now_ms: int) -> Skill:
        """After one more use. Only a success lets it live longer."""
        confidence = growth.used_confidence(self.confidence, success)
        uses = self.usage_count + 1
        expires = now_ms + growth.life_ms(uses, confidence) if success else self.expires_ms
        return msgspec.structs.replace(
            self,
            confidence=confidence,
            usage_count=uses,
            success_rate=growth.used_rate(self.success_rate, self.usage_count, success),
            updated_ms=at_ms,
            expires_ms=max(expires, self.expires_ms),
        )

    def transferred(self, transfer: Transfer, *, now_ms: int) -> Skill:
        """After a use in a context that it was recalled for."""
        used = self.used(success=transfer.success, at_ms=transfer.at_ms, now_ms=now_ms)
        return msgspec.structs.replace(
            used,
            transfer_history=(*self.transfer_history, transfer)[-MOST_TRANSFERS:],
            transfers=self.transfers + 1,
            transfers_succeeded=self.transfers_succeeded + transfer.success,
        )

    def renewed(self, expires_ms: int) -> Skill:
        """Living at least until then."""
        return msgspec.structs.replace(self, expires_ms=max(expires_ms, self.expires_ms))

    def related(self, relation: str, target: str) -> Skill:
        """With one relation more, once."""
        added = Relation(relation=relation, target=target)
        if added in self.relations:
            return self
        return msgspec.structs.replace(self, relations=(*self.relations, added)[-MOST_RELATIONS:])


_TIMES: Final = (("created_ms", "created_at"), ("updated_ms", "updated_at"), ("expires_ms", "expires_at"))


def skill_facts(skill: Skill) -> dict[str, Json]:
    """As JSON for people and programs, with the keys of OrKa 0.9 and times as ISO 8601."""
    facts: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(skill))
    for ours, name in _TIMES:
        at_ms = facts.pop(ours)
        facts[name] = iso(at_ms) if at_ms else ""
    for transfer in facts["transfer_history"]:
        transfer["timestamp"] = iso(transfer.pop("at_ms"))
    return facts


def decode_skill(facts: Facts) -> Skill | None:
    """Of what OrKa 0.9 stored, or `skill_facts` gave; None for what is no skill."""
    identity, name = text_of(facts.get("id")), text_of(facts.get("name"))
    if not identity or not name:
        return None
    history = tuple(_transfer(facts_of(one)) for one in _list(facts, "transfer_history")[-MOST_TRANSFERS:])
    created = ms_of(facts.get("created_at"), 0)
    return Skill(
        id=identity,
        name=name,
        skill_type=text_of(facts.get("skill_type"), "procedural"),
        description=text_of(facts.get("description")),
        procedure=tuple(_step(facts_of(one), place) for place, one in enumerate(_list(facts, "procedure"))),
        preconditions=_conditions(facts, "preconditions"),
        postconditions=_conditions(facts, "postconditions"),
        source_context=decode_features(facts_of(facts.get("source_context"))),
        transfer_history=history,
        transfers=round(number_of(facts.get("transfers"), len(history), most=1e15)),
        transfers_succeeded=round(
            number_of(facts.get("transfers_succeeded"), sum(one.success for one in history), most=1e15)
        ),
        confidence=number_of(facts.get("confidence"), 0.5),
        usage_count=round(number_of(facts.get("usage_count"), 0, most=1e15)),
        success_rate=number_of(facts.get("success_rate"), 0.0),
        tags=texts_of(facts.get("tags")),
        created_ms=created,
        updated_ms=ms_of(facts.get("updated_at"), created),
        expires_ms=ms_of(facts.get("expires_at"), 0),
        task_description=text_of(facts.get("task_description")),
        domain_keywords=texts_of(facts.get("domain_keywords")),
        output_description=text_of(facts.get("output_description")),
        search_tokens=texts_of(facts.get("search_tokens")),
        recipe=facts_of(facts.get("recipe")),
        anti_signals=texts_of(facts.get("anti_signals")),
        relations=tuple(
            Relation(relation=text_of(one.get("relation")), target=text_of(one.get("target")))
            for one in map(facts_of, _list(facts, "relations"))
        ),
    )


def _list(facts: Facts, key: str) -> list[Json]:
    value = facts.get(key)
    return value[:200] if isinstance(value, list) else []


def _step(facts: Facts, place: int) -> Step:
    return Step(
        action=text_of(facts.get("action"), f"step {place + 1}"),
        description=text_of(facts.get("description")),
        order=round(number_of(facts.get("order"), place, most=10_000)),
        parameters=facts_of(facts.get("parameters")),
        is_optional=flag_of(facts.get("is_optional"), False),
    )


def _conditions(facts: Facts, key: str) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            predicate=text_of(one.get("predicate")),
            description=text_of(one.get("description")),
            required=flag_of(one.get("required"), True),
        )
        for one in map(facts_of, _list(facts, key))
    )


def _transfer(facts: Facts) -> Transfer:
    return Transfer(
        target_context=decode_features(facts_of(facts.get("target_context"))),
        success=flag_of(facts.get("success"), False),
        confidence=number_of(facts.get("confidence"), 0.0),
        adaptations=facts_of(facts.get("adaptations")),
        at_ms=ms_of(facts.get("timestamp"), 0),
    )
