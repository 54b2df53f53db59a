"""Judged answers, and choices that need no model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orka.errors import ConfigError, LLMTimeout
from orka.testing import ScriptedLLM, example_task, run_agent

OUTPUTS: dict[str, Any] = {
    "context-collector": {"response": "Llamas live in Peru."},
    "answer-builder": {"response": {"response": "In Peru."}},
    "other": "Nothing.",
}


def judged(**options: Any) -> Any:
    return example_task(input={"input": "Where do llamas live?"}, outputs=OUTPUTS, options=options)


async def test_an_answer_is_judged_with_its_question_and_context() -> None:
    said = {"valid": True, "reason": "Peru fits.", "memory_object": {"animal": "llama"}}
    models = ScriptedLLM([said])
    output = await run_agent(
        "validate_and_structure", judged(model="m", store_structure='{"animal": "name"}'), llm=models
    )
    assert output.response == said
    assert {key: output.fields[key] for key in said} == said
    assert json.loads(str(output.fields["raw_llm_output"])) == said
    prompt = models.asked[0].prompt
    for part in (
        "Question:\nWhere do llamas live?",
        "Context:\nLlamas live in Peru.",
        "Answer:\nIn Peru.",
        '{"animal": "name"}',
    ):
        assert part in prompt
    assert str(output.fields["prompt"]) in prompt
    assert output.usage is not None


async def test_the_judged_agents_may_have_other_names_and_the_task_other_words() -> None:
    models = ScriptedLLM([{"valid": False, "reason": "no", "memory_object": None}])
    options: dict[str, Any] = {"model": "m", "answer_from": "other", "context_from": "gone"}
    task = example_task("Be strict.", input="Q", outputs=OUTPUTS, options=options)
    output = await run_agent("validate_and_structure", task, llm=models)
    assert output.fields["valid"] is False
    for part in ("Be strict.", "Question:\nQ", "Context:\nNONE", "Answer:\nNothing."):
        assert part in models.asked[0].prompt


@pytest.mark.parametrize(
    ("said", "valid", "memory"),
    [
        ("I think it is fine.", False, None),
        ('{"valid": "true", "reason": 3, "memory_object": {"a": 1}}', True, {"a": 1}),
        ('{"valid": true, "memory_object": "text"}', True, None),
        (r'{"valid": true, "memory_object": "{\"a\": 1}"}', True, {"a": 1}),
        ('```json\n{"valid": false, "reason": "r"}\n```', False, None),
    ],
)
async def test_what_the_model_says_is_read_as_well_as_can_be(said: str, valid: bool, memory: Any) -> None:
    output = await run_agent("validate_and_structure", judged(model="m"), llm=ScriptedLLM([said]))
    assert (output.fields["valid"], output.fields["memory_object"]) == (valid, memory)
    assert isinstance(output.fields["reason"], str)
    assert output.fields.get("parse_error", False) is (said == "I think it is fine.")


async def test_a_model_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(LLMTimeout):
        await run_agent("validate_and_structure", judged(model="m"), llm=ScriptedLLM([LLMTimeout("late")]))


@pytest.mark.parametrize(
    ("text", "answer", "method"),
    [
        ("Yes, please.", True, "words"),
        ("That is correct", True, "words"),
        ("it is TRUE", True, "words"),
        ("No, never.", False, "words"),
        ("this is false", False, "words"),
        ("I agree, this works and is good", True, "meaning"),
        ("I disagree, this is bad and fails", False, "meaning"),
        ("", False, "meaning"),
    ],
)
async def test_binary_without_a_model_goes_by_words_then_by_meaning(text: str, answer: bool, method: str) -> None:
    output = await run_agent("binary", text)
    assert (output.response, output.fields["method"]) == (answer, method)
    assert (float(str(output.fields["score"])) > 0) is answer


async def test_binary_with_examples_goes_by_meaning_alone() -> None:
    options: dict[str, Any] = {
        "positive": ["the parcel is lost", "nothing has arrived"],
        "negative": ["thank you, all is well"],
    }
    for text, answer in (("no parcel: it is lost", True), ("yes thank you, well done", False)):
        output = await run_agent("binary", example_task(text, options=options))
        assert (output.response, output.fields["method"]) == (answer, "meaning")


async def test_with_a_model_the_model_decides() -> None:
    models = ScriptedLLM(["No."])
    output = await run_agent(
        "binary", example_task("yes", options={"model": "m", "model_url": "http://localhost:1"}), llm=models
    )
    assert (output.response, models.asked[0].endpoint.url) == (False, "http://localhost:1/v1")
    models = ScriptedLLM(["billing!"])
    options: dict[str, Any] = {"provider": "lm_studio", "options": ["billing", "other"]}
    output = await run_agent("classification", example_task("x", options=options), llm=models)
    assert output.response == "billing"


@pytest.mark.parametrize("key", ["options", "categories", "labels"])
async def test_classification_without_a_model_goes_by_meaning(key: str) -> None:
    options: dict[str, Any] = {key: ["lost parcel", "double charge"], "threshold": 0.2}
    output = await run_agent("classification", example_task("my parcel is lost", options=options))
    assert output.response == "lost parcel"
    assert set(output.fields) == {"score", "scores"}
    for text in ("", "quantum"):
        output = await run_agent("classification", example_task(text, options=options))
        assert output.response == "not-classified"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("binary", {"positive": ["x"]}),
        ("binary", {"positive": ["x"], "negative": [" "]}),
        ("classification", {"options": [" "]}),
        ("classification", {"options": ["a", "a"]}),
        ("rag", {"top_k": 0}),
        ("ingest", {}),
    ],
)
async def test_options_that_cannot_be_are_refused(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        await run_agent(kind, example_task("x", options=options))


@pytest.mark.parametrize("options", [{}, {"options": []}])
async def test_a_classification_with_nothing_to_choose_from_says_so(options: dict[str, Any]) -> None:
    output = await run_agent("classification", example_task("x", options=options))
    assert output.response == "not-classified"
