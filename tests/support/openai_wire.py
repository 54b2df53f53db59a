"""How an answer looks in each dialect: whole, and in the pieces of a stream. No transport lives here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .openai_script import Asked, Call, Reply

CREATED = 1_700_000_000


def dialect_of(method: str, path: str) -> str | None:
    path = path.partition("?")[0].rstrip("/")
    if method == "GET":
        return "models" if path.endswith("/models") else "tags" if path.endswith("/api/tags") else None
    ends = {"/chat/completions": "openai", "/messages": "anthropic", "/api/chat": "ollama", "/api/generate": "generate"}
    return next((dialect for end, dialect in ends.items() if path.endswith(end)), None) if method == "POST" else None


def text_of(content: Any) -> str:
    """Of a message's content, which is a text or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", part.get("content", ""))) for part in content)
    return str(content or "")


def read_prompt(asked: Asked) -> None:
    """Fills in the texts of the request."""
    asked.system = text_of(asked.body.get("system"))
    asked.prompt = text_of(asked.body.get("prompt"))
    for message in asked.messages:
        if message.get("role") in ("system", "developer"):
            asked.system = text_of(message.get("content"))
        elif message.get("role") == "user":
            asked.prompt = text_of(message.get("content"))


def settled(reply: Reply, asked: Asked) -> tuple[str, list[Call]]:
    """The text and the calls that are sent."""
    calls, text = list(reply.calls), reply.text
    if asked.forced_tool and not calls:
        calls, text = [Call(name=asked.forced_tool, arguments=text)], ""
    return text, [Call(name=c.name, arguments=c.text, id=c.id or f"call_{n}") for n, c in enumerate(calls, 1)]


def usage_of(reply: Reply, asked: Asked) -> tuple[int, int] | None:
    if reply.tokens is not None:
        return None if reply.tokens[0] < 0 else reply.tokens
    texts = [asked.system or "", asked.body.get("prompt") or ""]
    texts += [text_of(message.get("content")) for message in asked.messages if message.get("role") != "system"]
    text, calls = settled(reply, asked)
    return sum(len(t.split()) for t in texts), len(text.split()) + sum(len(call.text.split()) for call in calls)


def pieces_of(text: str) -> list[str]:
    """Words with the space after them: joined they are the text."""
    return re.findall(r"\s*\S+\s*", text) or ([text] if text else [])


def arguments_of(call: Call) -> Any:
    """For the dialects that send arguments as an object."""
    try:
        return json.loads(call.text)
    except ValueError:
        return {"text": call.text}


def error_body(reply: Reply, asked: Asked | None) -> dict[str, Any]:
    kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
    name = kind.get(reply.status, "api_error")
    if asked is not None and asked.dialect == "anthropic":
        return {"type": "error", "error": {"type": name, "message": reply.error}}
    if asked is not None and asked.dialect in ("ollama", "generate"):
        return {"error": reply.error}
    return {"error": {"message": reply.error, "type": name, "param": None, "code": None}}


def whole(reply: Reply, asked: Asked) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    text, calls = settled(reply, asked)
    usage = usage_of(reply, asked)
    match asked.dialect:
        case "models":
            return {"object": "list", "data": [{"id": "test-model", "object": "model", "owned_by": "tests"}]}
        case "tags":
            return {"models": [{"name": "test-model:latest", "size": 1}]}
        case "openai":
            message: dict[str, Any] = {"role": "assistant", "content": text or None}
            if calls:
                message["tool_calls"] = [_function(call) for call in calls]
            choice = {"index": 0, "message": message, "finish_reason": _finish(reply, calls), "logprobs": None}
            return _completion("chat.completion", asked, [choice], usage)
        case "anthropic":
            content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
            content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": arguments_of(c)} for c in calls]
            return _message(asked, content, _stop(reply, calls), usage or (0, 0))
        case _:
            return _ollama(asked, text, calls, reply.finish or "stop", usage)


def streamed(reply: Reply, asked: Asked) -> Iterator[bytes]:
    """The pieces of a stream, each one write."""
    match asked.dialect:
        case "openai":
            yield from (b"data: %s\n\n" % _json(chunk) for chunk in _openai_chunks(reply, asked))
            yield b"data: [DONE]\n\n"
        case "anthropic":
            for event in _anthropic_events(reply, asked):
                yield b"event: %s\ndata: %s\n\n" % (event["type"].encode(), _json(event))
        case _:
            yield from (_json(line) + b"\n" for line in _ollama_lines(reply, asked))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _finish(reply: Reply, calls: list[Call]) -> str:
    return reply.finish or ("tool_calls" if calls else "stop")


def _stop(reply: Reply, calls: list[Call]) -> str:
    """In Anthropic's words."""
    names = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    return names.get(_finish(reply, calls), reply.finish)


def _function(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}


def _completion(
    kind: str, asked: Asked, choices: list[dict[str, Any]], usage: tuple[int, int] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"id": "chatcmpl-1", "object": kind, "created": CREATED, "model": asked.model}
    body["choices"] = choices
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body


def _openai_chunks(reply: Reply, asked: Asked) -> Iterator[dict[str, Any]]:
    text, calls = settled(reply, asked)

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _completion("chat.completion.chunk", asked, [choice], None)

    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces_of(text):
        yield chunk({"content": piece})
    for index, call in enumerate(calls):
        head = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield chunk({"tool_calls": [head]})
        for piece in pieces_of(call.text):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _finish(reply, calls))
    usage = usage_of(reply, asked)
    if usage is not None and (asked.body.get("stream_options") or {}).get("include_usage"):
        yield _completion("chat.completion.chunk", asked, [], usage)


def _message(asked: Asked, content: list[dict[str, Any]], stop: str | None, usage: tuple[int, int]) -> dict[str, Any]:
    body: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked.model}
    body |= {"content": content, "stop_reason": stop, "stop_sequence": None}
    body["usage"] = {"input_tokens": usage[0], "output_tokens": usage[1]}
    return body


def _anthropic_events(reply: Reply, asked: Asked) -> Iterator[dict[str, Any]]:
    text, calls = settled(reply, asked)
    tokens = usage_of(reply, asked) or (0, 0)
    yield {"type": "message_start", "message": _message(asked, [], None, (tokens[0], 1))}
    blocks: list[tuple[dict[str, Any], str, str, list[str]]] = []
    if text:
        blocks.append(({"type": "text", "text": ""}, "text_delta", "text", pieces_of(text)))
    for call in calls:
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        blocks.append((start, "input_json_delta", "partial_json", pieces_of(call.text)))
    for index, (start, kind, key, pieces) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for piece in pieces:
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: piece}}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": _stop(reply, calls), "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": tokens[1]}}
    yield {"type": "message_stop"}


def _ollama(
    asked: Asked, text: str, calls: list[Call], done: str | None, usage: tuple[int, int] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"model": asked.model, "created_at": "2023-11-14T22:13:20Z"}
    if asked.dialect == "generate":
        body["response"] = text
    else:
        body["message"] = {"role": "assistant", "content": text}
        if calls:
            named = [{"function": {"name": c.name, "arguments": arguments_of(c)}} for c in calls]
            body["message"]["tool_calls"] = named
    body["done"] = done is not None
    if done is not None:
        body |= {"done_reason": done, "total_duration": 1_000_000}
        if usage is not None:
            body |= {"prompt_eval_count": usage[0], "eval_count": usage[1]}
    return body


def _ollama_lines(reply: Reply, asked: Asked) -> Iterator[dict[str, Any]]:
    text, calls = settled(reply, asked)
    for piece in pieces_of(text):
        yield _ollama(asked, piece, [], None, None)
    yield _ollama(asked, "", calls, reply.finish or "stop", usage_of(reply, asked))
