"""Names, growth, scores, merging, steps: the rules by which a brain learns and recalls. Expected values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as changed

from orka.brain import growth
from orka.brain.drafting import (
    Outcome,
    draft_anti_pattern,
    draft_path,
    draft_procedure,
    draft_recipe,
    outcome_of,
    shortened,
    steps_in,
)
from orka.brain.episode import Episode
from orka.brain.features import Features
from orka.brain.merging import known_as, nearest_elsewhere
from orka.brain.names import anti_name, label, path_name, procedural_name, recipe_name, search_tokens, slug
from orka.brain.ranking import adaptations, combined, rank, semantic_scores
from orka.brain.recollection import NOTHING, Remembered, outcome_value, rank_episodes, recency, score_episode, told
from orka.brain.skill import Relation, Skill, Transfer, decode_skill, skill_facts

HOUR = 3_600_000
AT = 1_767_225_600_000
GOOD = Outcome(success=True, quality=0.9)


def test_names() -> None:
    features = Features(task_structures=("sequential", "validation"), cognitive_patterns=("analysis",))
    assert procedural_name("law", features, "x") == "procedural:law:analysis-sequential"
    assert procedural_name("law", Features(cognitive_patterns=("planning",)), "x") == "procedural:law:planning"
    assert procedural_name("law", Features(), "Bake Bread!") == "procedural:law:bake-bread"
    assert recipe_name("law", "fork-join", ["a", "b", "c", "d"]) == "recipe:law:fork-join-a+b+c"
    assert anti_name("law", "Used GPT-4 without a limit!") == "anti:law:used-gpt-4-without-a-limit"
    assert path_name("law", ["a", "b", "c", "d", "e"]) == "path:law:a→b→c→d"
    assert len(slug("word " * 30)) <= 40
    assert search_tokens("recipe:code-review:parallel-a+b") == (
        *("a", "b", "code", "code-review", "parallel", "recipe", "review"),
    )
    assert label("  Code   Review ") == "code review"
    assert label("x" * 200) != label("x" * 201)
    assert len(label("x" * 200)) == 64


def test_confidence_of_what_is_new() -> None:
    assert growth.learned_confidence(0.5) == pytest.approx(0.6)
    assert growth.learned_confidence(1.0) == pytest.approx(0.7)
    assert (growth.path_confidence(0.5), growth.path_confidence(0.95)) == (0.5, 0.8)


def test_confidence_and_rate_follow_uses() -> None:
    assert growth.used_confidence(0.6, True) == pytest.approx(0.62)
    assert growth.used_confidence(0.6, False) == pytest.approx(0.54)
    assert growth.used_rate(1.0, 3, False) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("uses", "confidence", "hours"), [(0, 0.5, 168), (1, 0.5, 168), (2, 0.5, 336), (4, 1.0, 756), (1, 0.7, 201.6)]
)
def test_life_grows_with_uses_and_confidence(uses: int, confidence: float, hours: float) -> None:
    assert growth.life_ms(uses, confidence) == round(hours * HOUR)


def skill(**more: object) -> Skill:
    facts: dict[str, object] = {
        "id": "one",
        "name": "procedural:law:analysis",
        "domain_keywords": ("law",),
        "source_context": Features(task_structures=("sequential",), cognitive_patterns=("analysis",)),
        "confidence": 0.6,
        "created_ms": AT,
        "updated_ms": AT,
        "expires_ms": AT + HOUR,
        **more,
    }
    return Skill(**facts)  # type: ignore[arg-type]


def test_only_a_success_lets_a_skill_live_longer() -> None:
    used = skill().used(success=True, at_ms=AT + 5, now_ms=AT + 10)
    assert (used.usage_count, used.success_rate, used.updated_ms) == (2, 1.0, AT + 5)
    assert used.confidence == pytest.approx(0.62)
    assert used.expires_ms == AT + 10 + round(168 * 2 * 1.12 * HOUR)
    failed = skill().used(success=False, at_ms=AT + 5, now_ms=AT + 10)
    assert (failed.usage_count, failed.success_rate, failed.expires_ms) == (2, 0.5, AT + HOUR)


def test_transfers_are_counted_beyond_those_that_are_kept() -> None:
    one = skill()
    for number in range(60):
        transfer = Transfer(
            target_context=Features(), success=number % 3 > 0, confidence=one.confidence, at_ms=AT + number
        )
        one = one.transferred(transfer, now_ms=AT)
    assert (one.transfers, one.transfers_succeeded, len(one.transfer_history)) == (60, 40, 50)
    assert one.transfer_history[0].at_ms == AT + 10
    assert one.transfer_success == pytest.approx(2 / 3)
    assert skill().transfer_success == 0.5


def test_a_skill_survives_its_json() -> None:
    one = skill(recipe={"agents": [{"id": "a"}]}, relations=(Relation(relation="COMPLEMENTS", target="two"),))
    one = one.transferred(
        Transfer(target_context=Features(), success=True, confidence=0.6, adaptations={"a": [1]}, at_ms=AT), now_ms=AT
    )
    assert decode_skill(skill_facts(one)) == one
    assert decode_skill({"id": "", "name": "x"}) is None


def test_steps_become_a_procedure() -> None:
    long = "Read the whole of the very long contract, clause by clause, and mark whatever looks unusual"
    trace = {"steps": [{"action": long, "result": "done"}, "sum up", {"agent_id": "critic", "optional": True}, {}, 3]}
    draft = draft_procedure(trace, {"domain": "law", "task": "Analyse it step by step"}, GOOD, "", at_ms=AT)  # type: ignore[arg-type]
    assert draft is not None
    assert draft.steps == ["Read the whole of the very long contract, clause by clause…", "sum up", "critic", "3"]
    assert all(len(action) <= 60 for action in draft.steps)
    assert [step.is_optional for step in draft.procedure] == [False, False, True, False]
    assert draft.procedure[0].description == "done"
    assert (draft.name, draft.domain, draft.confidence) == ("procedural:law:analysis-sequential", "law", 0.68)
    assert draft.tags == ("law", "sequential", "analysis")
    assert draft_procedure({"agents": ["a", {"id": "b"}]}, {}, GOOD, "", at_ms=AT).steps == ["run a", "run b"]  # type: ignore[union-attr]
    assert draft_procedure({}, {"task": "x"}, GOOD, "", at_ms=AT) is None


def test_steps_are_found_in_a_text() -> None:
    assert steps_in("Do this:\n1. read\n2) mark\n- sum up") == ["read", "mark", "sum up"]
    assert steps_in("Read it. Then sum up.") == ["Read it."]
    assert steps_in("  ") == []
    assert shortened("word " * 30).endswith("…")


def test_what_is_the_same_gets_the_same_id() -> None:
    context = {"domain": "law", "task": "Analyse it step by step"}
    one = draft_procedure({"steps": ["a"]}, context, GOOD, "", at_ms=AT)
    other = draft_procedure({"steps": ["b"]}, {**context, "domain": "LAW"}, GOOD, "", at_ms=AT + 1)
    elsewhere = draft_procedure({"steps": ["a"]}, {**context, "domain": "art"}, GOOD, "", at_ms=AT)
    named = draft_procedure({"steps": ["a"]}, context, GOOD, "My way", at_ms=AT)
    ids = [draft and draft.id for draft in (one, other, elsewhere, named)]
    assert ids[0] == ids[1] is not None
    assert len({*ids}) == 3


def test_recipes_paths_and_anti_patterns() -> None:
    context = {"domain": "law", "task": "Review the contract"}
    recipe = draft_recipe(
        ["a", {"id": "b", "role": "critic"}], "fork-join", context, replace(GOOD, duration_ms=12.0), "", at_ms=AT
    )
    assert recipe is not None
    assert (recipe.skill_type, recipe.name, recipe.confidence) == ("execution_recipe", "recipe:law:fork-join-a+b", 0.68)
    assert recipe.recipe == {
        "pattern": "fork-join",
        "agents": [{"id": "a"}, {"id": "b", "role": "critic"}],
        "total_agents": 2,
        "success_rate": 0.9,
        "avg_latency_ms": 12.0,
    }
    anti = draft_anti_pattern("Too many agents", "it was slow", context, "critical", at_ms=AT)
    assert anti is not None
    assert (anti.skill_type, anti.name, anti.confidence) == ("anti_pattern", "anti:law:too-many-agents", 0.9)
    assert (anti.anti_signals, anti.tags[:3]) == (("it was slow",), ("law", "anti-pattern", "critical"))
    path = draft_path(["a", "b"], 0.95, context, {"tokens": 5}, "", at_ms=AT)
    assert path is not None
    assert (path.skill_type, path.name, path.confidence) == ("graph_path", "path:law:a→b", 0.8)
    assert path.recipe["budget_used"] == {"tokens": 5}
    assert draft_recipe([], "x", context, GOOD, "", at_ms=AT) is None
    assert draft_path([], 1, context, None, "", at_ms=AT) is None
    assert draft_anti_pattern(" ", "x", context, "warning", at_ms=AT) is None


def test_outcomes_are_read_as_templates_print_them() -> None:
    assert outcome_of({"success": "False", "confidence": "0.8"}) == Outcome(success=False, quality=0.8)
    assert outcome_of({"quality": 7}) == Outcome(success=True, quality=1.0)
    assert outcome_of({"quality": "high"}) == Outcome(success=True, quality=0.5)


def test_procedures_of_one_domain_are_one_skill_when_they_are_alike() -> None:
    known = skill()
    draft = skill(id="new", source_context=changed(known.source_context, output_shape="list"))  # similarity .85
    assert known_as(draft, [known], named=False) is known
    far = skill(id="new", source_context=Features(task_structures=("routing",), cognitive_patterns=("analysis",)))
    assert known_as(far, [known], named=False) is None
    assert known_as(changed(draft, domain_keywords=("art",)), [known], named=False) is None
    assert known_as(changed(draft, skill_type="domain_heuristic"), [known], named=False) is None
    assert known_as(changed(draft, name="my way"), [known], named=True) is None
    assert known_as(changed(far, name=known.name.upper()), [known], named=True) is known


def test_the_most_similar_one_is_meant() -> None:
    near, nearer = skill(source_context=changed(skill().source_context, input_shape="list")), skill(id="two")
    assert known_as(skill(id="new"), [near, nearer], named=False) is nearer


def test_recipes_are_one_skill_when_they_run_the_same_agents() -> None:
    agents = [{"id": name} for name in "abcd"]
    known = skill(skill_type="execution_recipe", name="recipe:law:x-a+b+c", recipe={"agents": agents})
    same, other = changed(known, id="new"), changed(known, id="new", recipe={"agents": agents[:3]})
    assert known_as(same, [known], named=False) is known
    assert known_as(other, [known], named=False) is None


def test_a_skill_can_be_derived_from_one_of_another_domain() -> None:
    there = skill(id="there", domain_keywords=("art",))
    assert nearest_elsewhere(skill(), [skill(id="here"), there]) is there
    assert nearest_elsewhere(skill(), [changed(there, source_context=Features())]) is None


def test_recall_scores_are_worked_out_by_hand() -> None:
    assert combined(0.8, 0.6, 0.5, 0.7) == pytest.approx(0.66)  # .28 + .15 + .125 + .105
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [0, 0]], dtype=np.float32)
    assert semantic_scores(vectors, np.array([1, 0], dtype=np.float32)).tolist() == [1.0, 0.5, 0.0, 0.5]


def test_skills_are_ranked_and_far_ones_dropped() -> None:
    context = skill().source_context
    near, far = skill(), skill(id="far", source_context=Features(), confidence=1.0)
    found = rank([far, near], [0.09, 0.5], context, "law", top=5, least=0.0)
    assert [one.skill.id for one in found] == ["one"], "neither its meaning nor its structure is near"
    # .35 * 1 + .25 * .5 + .25 * .5 + .15 * .6
    assert found[0].combined_score == pytest.approx(0.69)
    assert (found[0].structural_score, found[0].semantic_score) == (pytest.approx(1.0), 0.5)
    assert rank([near], [0.05], context, "law", top=5, least=0.0) != [], "structure .6 or more is enough"
    assert rank([near], [0.5], context, "law", top=5, least=0.7) == []
    assert len(rank([near, far], [0.5, 0.5], context, "law", top=1, least=0.0)) == 1
    assert "analysis" in found[0].reasoning


def test_adaptations_say_what_differs() -> None:
    source = skill(source_context=Features(task_structures=("sequential",), input_shape="list"))
    context = Features(task_structures=("parallel",), input_shape="structured", output_shape="boolean")
    assert adaptations(source, context, "art") == {
        "domain": {"from": "law", "to": "art"},
        "input_shape": {"from": "list", "to": "structured"},
        "output_shape": {"from": "text", "to": "boolean"},
        "add_structures": ["parallel"],
        "drop_structures": ["sequential"],
    }
    assert adaptations(source, source.source_context, "law") == {}
    assert adaptations(source, source.source_context, "") == {}


def episode(**more: object) -> Episode:
    return Episode(**{"id": "e", "at_ms": AT, "task_domain": "law", **more})  # type: ignore[arg-type]


def test_episode_scores_are_worked_out_by_hand() -> None:
    assert (recency(0), recency(168 * HOUR), recency(336 * HOUR)) == (1.0, 0.5, 0.25)
    failed = episode(success=False, failure_analysis="why", lessons=("a", "b", "c"))
    assert outcome_value(failed) == pytest.approx(1.0)
    assert outcome_value(episode()) == pytest.approx(0.3)
    # .5 * .8 + .2 * .5 + .2 * 1 + .1 * .3
    assert score_episode(episode(), 0.8, "LAW", at_ms=AT + 168 * HOUR) == pytest.approx(0.73)
    assert score_episode(episode(), 0.8, "art", at_ms=AT) == pytest.approx(0.63)
    assert score_episode(episode(), 0.8, "", at_ms=AT) == pytest.approx(0.73)


def test_episodes_are_ranked_and_told_within_bounds() -> None:
    good, bad = episode(id="good", task_input="load a file"), episode(id="bad", success=False, lessons=("check it",))
    found = rank_episodes([good, bad], [0.5, 0.5], "law", at_ms=AT, top=5, least=0.2)
    assert [one.episode.id for one in found] == ["bad", "good"]
    assert rank_episodes([good, bad], [0.5, 0.5], "law", at_ms=AT, top=5, least=0.75) == []
    text = told(found, 1500)
    assert "Lessons: check it" in text
    assert "load a file [law; succeeded" in text
    many = [Remembered(episode(task_input="x" * 300), 0.9, 0.9)] * 100
    assert 500 < len(told(many, 200)) <= 800
    few = told(many, 30)  # room for a part of the first one is used
    assert len(few) == 120
    assert "1. xxx" in few
    assert told([], 100) == NOTHING
