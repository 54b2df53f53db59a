"""Graphs whose agents ask a model over real HTTP: what is asked, what comes of the answer, and what of a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import pytest_asyncio
import yaml
from support.openai_server import Asked, Call, Reply, Server, started

from orka.orchestrator import Orchestrator
from orka.results import NodeResult
from orka.settings import Settings
from orka.testing import ScriptedLLM
from orka.types import Json, Status


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with started() as one:
        yield one


async def visits(
    tmp_path: Path, settings: Settings, agents: list[dict[str, object]], input: Json = "the sea", **orchestrator: object
) -> dict[str, NodeResult]:
    names = [agent["id"] for agent in agents]
    file = tmp_path / "graph.yml"
    file.write_text(yaml.safe_dump({"orchestrator": {"id": "g", "agents": names, **orchestrator}, "agents": agents}))
    result = await Orchestrator(file, settings=settings).execute(input)
    return {visit.node_id: visit for visit in result.results}


def local(server: Server, **keys: object) -> dict[str, object]:
    model = {"model": "m", "provider": "lm_studio", "model_url": server.url}
    return {"id": "a", "type": "local_llm", "prompt": "Say: {{ input }}", **model, **keys}


async def test_local_llm_gives_every_field_of_the_answer(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    server.default = {"response": "salt", "confidence": 0.9, "mood": ["calm"]}
    found = await visits(tmp_path, redis_settings, [local(server)])
    output = found["a"].output
    assert isinstance(output, dict)
    metrics = output.pop("_metrics")
    assert output == {"response": "salt", "confidence": "0.9", "mood": ["calm"], "internal_reasoning": ""}
    assert isinstance(metrics, dict)
    assert (metrics["model"], metrics["provider"]) == ("m", "lm_studio")
    assert metrics["tokens"] == metrics["prompt_tokens"] + metrics["completion_tokens"]  # type: ignore[operator]
    assert found["a"].usage is not None
    assert found["a"].usage.prompt_tokens == metrics["prompt_tokens"]
    assert server.last.path == "/v1/chat/completions"
    assert server.last.prompt.startswith("Say: the sea\n\nAnswer with one JSON object")
    assert server.last.body["temperature"] == 0.7


async def test_keys_of_params_count_and_the_own_key_wins(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    params = {"model": "other", "provider": "lm_studio", "model_url": server.url, "temperature": 0.1}
    agent: dict[str, object] = {"id": "a", "type": "local_llm", "prompt": "x", "model": "own", "params": params}
    await visits(tmp_path, redis_settings, [agent])
    assert (server.last.model, server.last.body["temperature"]) == ("own", 0.1)


@pytest.mark.parametrize(
    ("text", "response", "confidence"),
    [
        ("no JSON at all", "no JSON at all", "0.0"),
        ('{"summary": "s"}', '{"summary": "s"}', "0.0"),
        ('<think>{"response": "no"}</think>{"response": "yes", "confidence": "0.4"}', "yes", "0.4"),
    ],
)
async def test_local_llm_keeps_the_raw_text(
    tmp_path: Path, redis_settings: Settings, server: Server, text: str, response: str, confidence: str
) -> None:
    server.default = text
    output = (await visits(tmp_path, redis_settings, [local(server)]))["a"].output
    assert isinstance(output, dict)
    assert (output["response"], output["confidence"]) == (response, confidence)
    assert output.get("summary") in (None, "s")


async def test_a_failure_is_an_error_that_prompts_can_quote(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    server.default = Reply(status=400, error="context too long")
    quote: dict[str, object] = {"id": "b", "type": "template", "prompt": "{{ get_agent_response('a') }}"}
    found = await visits(tmp_path, redis_settings, [local(server), quote])
    assert found["a"].status is Status.ERROR
    assert found["a"].error is not None
    assert (found["a"].error.kind, "context too long" in found["a"].error.message) == ("LLMError", True)
    said = found["b"].output["response"]  # type: ignore[index,call-overload]
    assert said.startswith("[LocalLLMAgent error: ")
    assert "context too long" in said


async def test_a_retry_names_kinds_of_errors(tmp_path: Path, redis_settings: Settings, server: Server) -> None:
    server.replies.extend([Reply(status=400), Reply(status=400)])
    found = await visits(
        tmp_path, redis_settings, [local(server, retry={"attempts": 3, "delay": 0, "on": ["LLMError"]})]
    )
    assert (found["a"].status, found["a"].attempts) == (Status.SUCCESS, 3)


async def test_a_timeout_bounds_the_question(tmp_path: Path, redis_settings: Settings, server: Server) -> None:
    server.default = Reply(text="late", delay=30)
    found = await visits(tmp_path, redis_settings, [local(server, timeout=0.3)])
    assert found["a"].error is not None
    assert found["a"].error.kind in ("LLMTimeout", "RunTimeout")
    await server.until(lambda: server.last.gone)


async def test_structured_output_asks_in_the_best_way_that_the_server_takes(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    server.refuses = {"json_schema", "json_object"}
    server.default = "The result:\n```json\n{'score': '0.8', 'risky': 'no', 'reasons': 'one'}\n```"
    agent = {
        "id": "a",
        "type": "llm",
        "model": "m",
        "model_url": server.url,
        "prompt": "Judge.",
        "schema": {"score": "number", "risky": "boolean", "reasons": "array"},
    }
    output = (await visits(tmp_path, redis_settings, [agent]))["a"].output
    assert isinstance(output, dict)
    fields = {"score": 0.8, "risky": False, "reasons": ["one"]}
    assert {name: output[name] for name in fields} == fields
    assert output["response"] == fields
    assert [asked.form for asked in server.asked] == ["json_schema", "json_object", ""]
    assert "- score: number" in server.last.prompt


@pytest.mark.parametrize(
    ("mode", "form", "tool"),
    [
        ("prompt", "", ""),
        ("model_json", "json_object", ""),
        ("json_schema", "json_schema", ""),
        ("tool_call", "", "emit"),
    ],
)
async def test_structured_output_in_the_way_that_the_file_names(
    tmp_path: Path, redis_settings: Settings, server: Server, mode: str, form: str, tool: str
) -> None:
    server.default = {"response": "yes", "risky": "true"}
    schema = {"required": ["response", "risky"], "types": {"risky": "boolean"}}
    agent = local(server, structured_output={"enabled": True, "mode": mode, "schema": schema})
    output = (await visits(tmp_path, redis_settings, [agent]))["a"].output
    assert isinstance(output, dict)
    assert (output["response"], output["risky"], output.get("parse_error")) == ("yes", True, None)
    assert (server.last.form, server.last.forced_tool) == (form, tool)
    assert len(server.asked) == 1


async def test_defaults_of_the_graph_make_answers_structured(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    server.replies.extend(["not JSON", {"confidence": 1}])
    settings = {"enabled": True, "mode": "prompt"}
    found = await visits(
        tmp_path,
        redis_settings,
        [local(server), local(server, id="b"), local(server, id="c", structured_output={"enabled": False})],
        structured_output_defaults=settings,
    )
    first, second, third = (found[name].output for name in "abc")
    assert isinstance(first, dict)
    assert (first["response"], first["parse_error"], found["a"].status) == ("not JSON", True, Status.SUCCESS)
    assert isinstance(second, dict)
    assert (second["parse_error"], second["message"]) == (True, "the answer lacks response")
    assert isinstance(third, dict)
    assert "parse_error" not in third
    assert ["- response: string" in asked.prompt for asked in server.asked] == [True, True, False]


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ("Billing", "billing"),
        ("I would say: DELIVERY.", "delivery"),
        ('{"category": "Delivery late", "confidence": 1}', "delivery late"),
        ("billing or delivery", "not-classified"),
        ("weather", "not-classified"),
        ("Category: delivery-late", "delivery late"),
    ],
)
async def test_a_classification_is_one_of_the_options(
    tmp_path: Path, redis_settings: Settings, server: Server, said: str, chosen: str
) -> None:
    server.default = said
    settings = {"model": "m", "provider": "openai_compatible", "model_url": server.url}
    options = ["billing", "delivery", "delivery late"]
    agent = {"id": "a", "type": "openai-classification", "prompt": "x", "params": {"categories": options, **settings}}
    output = (await visits(tmp_path, redis_settings, [agent]))["a"].output
    assert isinstance(output, dict)
    assert output["response"] == chosen
    assert "billing, delivery, delivery late" in server.last.prompt


@pytest.mark.parametrize("said", ["2", '{"category": 2, "confidence": 0.3}', "It is 2."])
async def test_options_may_be_numbers(tmp_path: Path, redis_settings: Settings, server: Server, said: str) -> None:
    server.default = said
    options = [1, 2, 3]
    agent = {"id": "a", "type": "openai-classification", "prompt": "x", "model_url": server.url, "options": options}
    output = (await visits(tmp_path, redis_settings, [agent]))["a"].output
    assert isinstance(output, dict)
    assert output["response"] == "2"


async def test_numbers_too_large_to_store_and_nulls_end_no_visit(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    said = '{"response": null, "confidence": null, "big": 123456789012345678901234567890}'
    server.default = said
    output = (await visits(tmp_path, redis_settings, [local(server)]))["a"].output
    assert isinstance(output, dict)
    assert (output["response"], output["confidence"], output["internal_reasoning"]) == (said, "0.0", "")
    assert output["big"] == "123456789012345678901234567890"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Yes, it is.", True),
        ("That is incorrect.", False),
        ('{"result": true}', True),
        ("No. Not right.", False),
        ("That isn't quite right.", False),
        ("Not sure, but yes.", True),
        ("Not.", False),
        ("hm", False),
    ],
)
async def test_a_binary_answer_is_a_boolean(
    tmp_path: Path, redis_settings: Settings, server: Server, said: str, verdict: bool
) -> None:
    server.default = said
    agent = {
        "id": "a",
        "type": "openai-binary",
        "prompt": "x",
        "model": "m",
        "provider": "vllm",
        "model_url": server.url,
    }
    output = (await visits(tmp_path, redis_settings, [agent]))["a"].output
    assert isinstance(output, dict)
    assert output["response"] is verdict


async def test_openai_answers_send_the_prompt_alone(tmp_path: Path, redis_settings: Settings, server: Server) -> None:
    server.default = "plain words"
    settings = Settings(
        redis_url=redis_settings.redis_url,
        home=redis_settings.home,
        server_linger=0,
        openai_url=f"{server.url}/v1",
        openai_key="sk-own",
        openai_model="base",
    )
    agents: list[dict[str, object]] = [
        {"id": "a", "type": "openai-answer", "prompt": "Only this.", "system": "You are {{ input }}."},
        {"id": "b", "type": "openai-gpt-4", "prompt": "x", "params": {"temperature": 0, "max_tokens": 5}},
    ]
    found = await visits(tmp_path, settings, agents)
    first, second = server.asked
    assert (first.prompt, first.system, first.model) == ("Only this.", "You are the sea.", "base")
    assert first.headers["authorization"] == "Bearer sk-own"
    assert (second.model, second.body["temperature"], second.body["max_tokens"]) == ("gpt-4", 0, 5)
    output = found["a"].output
    assert isinstance(output, dict)
    assert (output["response"], output["confidence"]) == ("plain words", "0.5")


async def test_the_answer_of_a_run_is_the_last_model_s(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    server.when("first", {"response": "one"})
    server.when("second", {"response": "two"})
    graph = {
        "orchestrator": {"id": "g", "agents": ["a", "b", "r"]},
        "agents": [
            local(server, prompt="first"),
            local(server, id="b", prompt="second"),
            {"id": "r", "type": "router", "params": {"decision_key": "b", "routing_map": {"two": []}}},
        ],
    }
    file = tmp_path / "graph.yml"
    file.write_text(yaml.safe_dump(graph))
    assert await Orchestrator(file, settings=redis_settings).run("x") == "two"


async def test_branches_ask_at_the_same_time(tmp_path: Path, redis_settings: Settings, server: Server) -> None:
    def wait_for_all(asked: Asked) -> Reply:
        return Reply(text="ok", delay=0.2)

    server.default = wait_for_all
    names = [f"b{number}" for number in range(10)]
    agents: list[dict[str, object]] = [
        {"id": "f", "type": "fork", "targets": [[name] for name in names]},
        {"id": "j", "type": "join", "group": "f"},
        *(local(server, id=name) for name in names),
    ]
    file = tmp_path / "graph.yml"
    file.write_text(yaml.safe_dump({"orchestrator": {"id": "g", "agents": ["f", "j"]}, "agents": agents}))
    result = await Orchestrator(file, settings=redis_settings).execute("x")
    assert result.status == "completed"
    assert server.most_at_once == 10
    assert result.usage.completion_tokens == 10


async def test_a_resumed_run_asks_no_finished_question_again(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    server.replies.extend(["one", Reply(status=400)])
    file = tmp_path / "graph.yml"
    agents = [local(server, prompt="first"), local(server, id="b", prompt="second", on_error="stop")]
    file.write_text(yaml.safe_dump({"orchestrator": {"id": "g", "agents": ["a", "b"]}, "agents": agents}))
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        failed = await orchestrator.execute("x")
        assert failed.status == "failed"
        done = await orchestrator.finish(failed.run_id)
    assert done.status == "completed"
    assert [asked.prompt.split("\n")[0] for asked in server.asked] == ["first", "second", "second"]


async def test_a_scripted_model_stands_for_all(tmp_path: Path, redis_settings: Settings) -> None:
    llm = ScriptedLLM([{"response": "one"}], default="two").when("third", ValueError("no"))
    file = tmp_path / "graph.yml"
    agents = [{"id": name, "type": "llm", "prompt": text} for name, text in (("a", "1"), ("b", "2"), ("c", "third"))]
    file.write_text(yaml.safe_dump({"orchestrator": {"id": "g", "agents": ["a", "b", "c"]}, "agents": agents}))
    result = await Orchestrator(file, settings=redis_settings, llm=llm).execute("x")
    assert [visit.status for visit in result.results] == ["success", "success", "error"]
    assert result.output == "two"
    assert [asked.prompt for asked in llm.asked] == ["1", "2", "third"]


@pytest.mark.parametrize("said", ["", "Here it is:"])
async def test_a_call_in_place_of_an_answer_is_kept(
    tmp_path: Path, redis_settings: Settings, server: Server, said: str
) -> None:
    server.default = Reply(text=said, calls=(Call(name="emit", arguments='{"response": "from a call"}'),))
    agent = local(server, structured_output={"mode": "tool_call"})
    output = (await visits(tmp_path, redis_settings, [agent]))["a"].output
    assert isinstance(output, dict)
    assert output["response"] == "from a call"


async def test_a_streamed_answer_is_heard_as_it_comes(tmp_path: Path, redis_settings: Settings, server: Server) -> None:
    server.default = Reply(text="salt and wind and gulls", pause=0.02)
    file = tmp_path / "graph.yml"
    agent = local(server, id="b", type="llm", prompt="What is the sea?")
    budget = {"tokens": 1, "on_exceed": "stop"}
    head = {"id": "g", "agents": ["b", "c"], "budget": budget}
    file.write_text(yaml.safe_dump({"orchestrator": head, "agents": [agent, local(server, id="c")]}))
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        events = [event async for event in orchestrator.stream("x")]
    pieces = [str(event.data["text"]) for event in events if event.kind == "node.token"]
    assert "".join(pieces) == "salt and wind and gulls"
    assert len(pieces) > 1
    assert len(server.asked) == 1  # the budget has stopped the second
    assert [event.data["status"] for event in events if event.path == "c"] == ["skipped"]


async def test_a_classification_without_options_is_not_classified(tmp_path: Path, redis_settings: Settings) -> None:
    found = await visits(tmp_path, redis_settings, [{"id": "a", "type": "classification", "prompt": "x"}])
    assert found["a"].output["response"] == "not-classified"  # type: ignore[index,call-overload]


async def test_questions_at_the_same_time_agree_on_the_way(
    tmp_path: Path, redis_settings: Settings, server: Server
) -> None:
    server.refuses, server.default = {"json_schema", "json_object"}, {"score": "0.8"}
    file = tmp_path / "graph.yml"
    agent = {"id": "a", "type": "llm", "model_url": server.url, "model": "m", "schema": {"score": "number"}}
    file.write_text(yaml.safe_dump({"orchestrator": {"id": "g", "agents": ["a"]}, "agents": [agent]}))
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(orchestrator.run, "x")
        server.asked.clear()
        assert await orchestrator.run("x") == {"score": 0.8}
        assert [asked.form for asked in server.asked] == [""]
