"""The built-in agents: template, echo, failing, function, classify."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from orka.agents.base import AgentInput, AgentOutput, AgentTools
from orka.agents.function import is_permitted
from orka.agents.registry import Registry
from orka.embedding.local import LocalEmbedder
from orka.errors import AgentError, ConfigError
from orka.graph.nodes import AgentNode
from orka.testing import HashEmbedder, example_task, run_agent


@pytest.mark.parametrize(
    ("prompt", "given", "response"),
    [
        ("rendered", "x", "rendered"),
        ("", "x", ""),
        (None, "x", "x"),
        (None, {"input": "text", "a": 1}, "text"),
        (None, {"a": [True, None]}, '{"a":[true,null]}'),
    ],
)
async def test_template_gives_its_prompt_else_the_text_of_the_input(
    prompt: str | None, given: object, response: str
) -> None:
    task = example_task(prompt, input=given)  # type: ignore[arg-type]
    assert await run_agent("template", task) == AgentOutput(response=response)


@pytest.mark.parametrize(
    ("task", "output"),
    [
        (example_task("p", input="i"), AgentOutput(response="p")),
        (example_task(input={"response": [1], "b": None}), AgentOutput(response={"response": [1], "b": None})),
        (example_task("p", options={"value": [1]}), AgentOutput(response=[1])),
        (example_task("p", options={"value": 0}), AgentOutput(response=0)),
        (example_task("p", options={"value": None}), AgentOutput(response="p")),
        (
            example_task("p", options={"value": {"response": "r", "score": 0.5}}),
            AgentOutput(response="r", fields={"score": 0.5}),
        ),
    ],
)
async def test_echo_gives_value_then_prompt_then_input(task: AgentInput, output: AgentOutput) -> None:
    assert await run_agent("echo", task) == output


async def test_echo_waits_as_long_as_it_is_told() -> None:
    started = anyio.current_time()
    await run_agent("echo", example_task("p", options={"delay": 0.05}))
    assert anyio.current_time() - started >= 0.05


async def test_failing_raises_with_its_message_and_kind() -> None:
    with pytest.raises(AgentError, match=r"^this node always fails$") as plain:
        await run_agent("failing", "x")
    assert plain.value.kind == "AgentError"
    with pytest.raises(AgentError, match=r"^no answer$") as told:
        await run_agent("failing", example_task(options={"message": "no answer", "kind": "Timeout"}, attempt=99))
    assert told.value.kind == "Timeout"


async def test_failing_succeeds_after_the_given_attempts() -> None:
    for attempt in (1, 2):
        with pytest.raises(AgentError):
            await run_agent("failing", example_task("p", options={"times": 2}, attempt=attempt))
    output = await run_agent("failing", example_task("p", options={"times": 2}, attempt=3))
    assert output == AgentOutput(response="p", fields={"attempt": 3})


@pytest.mark.parametrize(
    ("type_name", "options"),
    [
        ("echo", {"delay": -1}),
        ("echo", {"delay": float("inf")}),
        ("failing", {"times": -1}),
        ("failing", {"kind": ""}),
        ("function", {}),
        ("function", {"function": "os"}),
        ("function", {"function": "os:__import__"}),
        ("function", {"function": "os:path..join"}),
        ("function", {"function": "os:a b"}),
        ("function", {"function": "._os:x"}),
        ("classify", {}),
        ("classify", {"labels": []}),
        ("classify", {"labels": {}}),
        ("classify", {"labels": ["a", " "]}),
        ("classify", {"labels": ["a", "a"]}),
        ("classify", {"labels": {"a": ""}}),
        ("classify", {"labels": {"a": []}}),
        ("classify", {"labels": {"a": ["x", ""]}}),
        ("classify", {"labels": ["a"], "threshold": 1.5}),
    ],
)
async def test_bad_options_are_refused(type_name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        await run_agent(type_name, example_task(options=options))  # type: ignore[arg-type]


FUNCTIONS = """
import os, threading
from functools import partial
from posixpath import basename
from orka_test_other import borrowed

IMPORTED_IN = threading.get_ident()
NUMBER = 3

def upper(task):
    return {"response": task.text.upper(), "thread": threading.get_ident(), "imported_in": IMPORTED_IN}

async def later(task):
    return [task.idempotency_key, threading.get_ident()]

def bound(prefix, task):
    return prefix + task.text

tagged = partial(bound, "tag:")
async_tagged = partial(later)

class Desk:
    @staticmethod
    def answer(task):
        return "desk"

def breaks(task):
    raise LookupError("nothing there")

def makes_coroutine(task):
    return later(task)
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "orka_test_functions.py").write_text(FUNCTIONS)
    (tmp_path / "orka_test_other.py").write_text("def borrowed(task):\n    return 'borrowed'\n")
    (tmp_path / "orka_test_broken.py").write_text("import no_such_module_anywhere\n")
    yield "orka_test_functions"
    for name in ("orka_test_functions", "orka_test_other", "orka_test_broken"):
        sys.modules.pop(name, None)


async def call(reference: str, allowed: bool | frozenset[str] = True) -> AgentOutput:
    tools = AgentTools(embedder=HashEmbedder(), allow_functions=allowed)
    return await run_agent("function", example_task("hi", options={"function": reference}), tools=tools)


async def test_function_is_imported_and_called_off_the_loop(functions: str) -> None:
    output = await call(f"{functions}:upper")
    here = threading.get_ident()
    assert output.response == "HI"
    assert output.fields["thread"] != here
    assert output.fields["imported_in"] != here


async def test_function_of_any_shape_is_called(functions: str) -> None:
    here = threading.get_ident()
    assert (await call(f"{functions}:later")).response == ["test:example", here]
    assert (await call(f"{functions}:async_tagged")).response == ["test:example", here]
    assert (await call(f"{functions}:makes_coroutine")).response == ["test:example", here]
    assert (await call(f"{functions}:tagged")).response == "tag:hi"
    assert (await call(f"{functions}:Desk.answer")).response == "desk"


async def test_error_of_a_function_comes_through(functions: str) -> None:
    with pytest.raises(LookupError, match="nothing there"):
        await call(f"{functions}:breaks")


async def test_function_without_permission_is_not_even_imported(functions: str) -> None:
    for allowed in (False, frozenset[str](), frozenset({"orka_test", "orka_test_functions.inner"})):
        with pytest.raises(AgentError) as caught:
            await call(f"{functions}:upper", allowed)
        assert caught.value.kind == "FunctionNotAllowed"
        assert "`--allow-functions=orka_test_functions`" in str(caught.value)
        assert "`allow_functions={'orka_test_functions'}`" in str(caught.value)
    assert functions not in sys.modules


async def test_permission_covers_a_module_and_what_it_defines(functions: str) -> None:
    allowed = frozenset({functions})
    assert (await call(f"{functions}:upper", allowed)).response == "HI"
    assert (await call(f"{functions}:tagged", allowed)).response == "tag:hi"
    for borrowed in ("borrowed", "basename"):
        with pytest.raises(AgentError, match="is defined in") as caught:
            await call(f"{functions}:{borrowed}", allowed)
        assert caught.value.kind == "FunctionNotAllowed"
    for through in ("os.system", "threading.Thread"):
        with pytest.raises(AgentError, match="is a module") as caught:
            await call(f"{functions}:{through}", allowed)
        assert caught.value.kind == "FunctionNotFound"
    assert is_permitted("pkg.sub.mod:f", frozenset({"pkg.sub"}))
    assert not is_permitted("pkg.subway:f", frozenset({"pkg.sub"}))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("orka_test_functions:missing", "module 'orka_test_functions' has no 'missing'"),
        ("orka_test_functions:Desk.missing", "'Desk' has no 'missing'"),
        ("orka_test_functions:NUMBER", "is a int, which cannot be called"),
        ("orka_test_nowhere:f", "importing 'orka_test_nowhere' failed: ModuleNotFoundError"),
        ("orka_test_broken:f", "No module named 'no_such_module_anywhere'"),
    ],
)
async def test_function_that_is_not_there_says_what_is_missing(functions: str, reference: str, message: str) -> None:
    with pytest.raises(AgentError, match=message) as caught:
        await call(reference)
    assert caught.value.kind == "FunctionNotFound"


async def test_cancelling_a_sync_function_returns_at_once() -> None:
    release = threading.Event()
    registry = Registry()
    registry.agent("stuck")(lambda task: release.wait(30))
    try:
        with anyio.move_on_after(0.05) as scope:
            await run_agent("stuck", "", registry=registry)
        assert scope.cancelled_caught
    finally:
        release.set()


def test_only_a_function_node_that_says_so_is_pure() -> None:
    def pure(type_name: str, **options: bool) -> bool:
        entry = Registry().specs()[type_name]
        return entry.is_pure(AgentNode(id="n", type=type_name, options=options))  # type: ignore[arg-type]

    assert not pure("function")
    assert pure("function", pure=True)
    assert not pure("function", pure=False)
    for type_name in ("template", "echo", "failing", "classify"):
        assert pure(type_name)
    registry = Registry(())
    registry.agent("loose")(lambda task: None)
    assert not registry.specs()["loose"].is_pure(AgentNode(id="n", type="loose", options={"pure": True}))  # type: ignore[arg-type]


TOPICS = {
    "billing": ["invoice, payment, refund, charged twice"],
    "technical": "error, crash, the app does not work",
    "shipping": "delivery, parcel, tracking, has not arrived",
}


async def classify(text: str, **options: object) -> AgentOutput:
    tools = AgentTools(embedder=LocalEmbedder())
    return await run_agent("classify", example_task(text, options=options), tools=tools)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("You charged my card two times, I want my money back", "billing"),
        ("The application crashes with an error when I log in", "technical"),
        ("Where is my package? It should have been delivered on Monday", "shipping"),
    ],
)
async def test_classify_picks_the_nearest_label(text: str, label: str) -> None:
    output = await classify(text, labels=TOPICS)
    assert output.response == label
    assert list(output.fields) == ["score", "scores"]
    scores = output.fields["scores"]
    assert isinstance(scores, dict)
    assert list(scores) == ["billing", "technical", "shipping"]
    assert output.fields["score"] == scores[label] == max(scores.values())  # type: ignore[type-var]


async def test_classify_scores_are_these_numbers() -> None:
    output = await classify("Apples are my favourite fruit", labels=["I love apples", "the_server-crashed"])
    assert output == AgentOutput(
        response="I love apples",
        fields={"score": 0.5388, "scores": {"I love apples": 0.5388, "the_server-crashed": -0.0091}},
    )


async def test_classify_gives_the_default_below_the_threshold() -> None:
    weather = "It will rain over the mountains tomorrow"
    assert (await classify(weather, labels=TOPICS, threshold=0.4, default="other")).response == "other"
    kept = await classify(weather, labels=TOPICS, threshold=0.4)
    assert kept.response in TOPICS
    near = await classify("refund my payment", labels=TOPICS, threshold=0.4, default="other")
    assert near.response == "billing"


async def test_classify_of_an_empty_text_is_the_default_else_the_first_label() -> None:
    zeros = {"score": 0.0, "scores": {"billing": 0.0, "technical": 0.0, "shipping": 0.0}}
    assert await classify("", labels=TOPICS, default="other") == AgentOutput(response="other", fields=zeros)
    assert await classify("  \n", labels=TOPICS) == AgentOutput(response="billing", fields=zeros)


async def test_classify_takes_the_nearest_of_several_examples() -> None:
    labels = {"fruit": ["the weather is bad", "I love apples"], "tools": "hammer and nails"}
    output = await classify("Apples are my favourite fruit", labels=labels)
    assert (output.response, output.fields["score"]) == ("fruit", 0.5388)


async def test_classify_embeds_its_labels_once() -> None:
    class Counting(HashEmbedder):
        texts = 0

        async def embed(self, texts, /):  # type: ignore[no-untyped-def]
            self.texts += len(texts)
            return await super().embed(texts)

    embedder = Counting()
    node = AgentNode(id="n", type="classify", options={"labels": ["red", "green", "blue"]})  # type: ignore[arg-type]
    built = Registry().specs()["classify"].build(node, AgentTools(embedder=embedder))
    for text in ("red", "the green one", "blue"):
        await built.run(example_task(text))
    assert embedder.texts == 3 + 3
