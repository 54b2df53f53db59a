"""Secrets planted wherever Orka is given one: none comes out, whatever fails and whoever repeats it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from servers import Servers
from support import openai_server
from support.openai_server import Asked, Reply

PASSWORD = "of-the-redis-server"
KEY = "a key of no known shape".replace(" ", "-")
OTHER = "sk-proj-0123456789abcdefABCDEF"
PLANTED = (PASSWORD, KEY, OTHER)
GRAPH = """
orchestrator: {id: planted, agents: [good, refused, again, spread, gather, log]}
agents:
  - {id: good, type: local_llm, provider: openai_compatible, model_url: "URL", model: m, prompt: "fine", api_key_env: MY_CREDS}
  - {id: refused, type: local_llm, provider: openai_compatible, model_url: "URL", model: m, prompt: "refuse", api_key_env: MY_CREDS}
  - {id: again, type: llm, provider: openai, model_url: "URL", model: m, prompt: "fail", api_key_env: MY_CREDS,
     retry: {attempts: 2, delay: 0}}
  - {id: spread, type: fork, targets: [branch]}
  - {id: branch, type: openai-answer, model_url: "URL", model: m, prompt: "refuse", api_key_env: OTHER_API_KEY}
  - {id: gather, type: join, group: spread}
  - {id: log, type: template, prompt: "{{ previous_outputs.refused }} {{ previous_outputs.gather }}"}
"""  # noqa: E501


def repeating(asked: Asked) -> Reply:
    """Says in its errors what it was sent, in several ways."""
    sent = asked.headers.get("authorization", "")
    assert sent.removeprefix("Bearer ") in PLANTED
    key = sent.removeprefix("Bearer ")
    told = f"Incorrect API key provided: {key}. Headers: {json.dumps({'Authorization': sent})}, {re.sub('-', '_', key)}"
    match asked.prompt.split()[0]:
        case "refuse":
            return Reply(status=401, error=told)
        case "fail":
            return Reply(status=500, body=f"<html>{told}</html>".encode())
        case _:
            return Reply(text="answered")


async def everything(url: str) -> bytes:
    """All keys of a server with their values."""
    found: list[bytes] = []
    async with Redis.from_url(url) as client:
        for key in await client.keys("*"):
            kind = (await client.type(key)).decode()
            read: Callable[..., Any] = {
                "string": client.get,
                "hash": client.hgetall,
                "stream": client.xrange,
                "set": client.smembers,
                "zset": lambda name: client.zrange(name, 0, -1),
                "list": lambda name: client.lrange(name, 0, -1),
            }[kind]
            found += [key, repr(await read(key)).encode()]
    return b"\n".join(found)


async def test_planted_secrets_come_out_nowhere(
    orka: Callable[..., Any], write: Callable[[str, str], str], servers: Servers, tmp_path: Path
) -> None:
    redis = servers.start(password=PASSWORD)
    url = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}"
    given = {
        "REDIS_URL": url,
        "MY_CREDS": KEY,
        "OTHER_API_KEY": OTHER,
        "ORKA_LOG_LEVEL": "debug",
        "ORKA_LOG_DIR": "traces",
        "ORKA_ALLOW_EVICTION": "1",
    }
    told: list[str] = []

    async def run(*arguments: str, **environment: str) -> Any:
        done = await anyio.to_thread.run_sync(lambda: orka(*arguments, **{**given, **environment}))
        told.extend((done.stdout, done.stderr))
        return done

    async with openai_server.started() as server:
        server.default = repeating
        write("g.yml", GRAPH.replace("URL", server.url))
        done = await run("-v", "run", "g.yml", "words", "--json", "--watch")
        assert done.returncode == 0, done.stderr
        by_id = {entry["agent_id"]: entry["payload"] for entry in json.loads(done.stdout)}
        assert by_id["good"]["response"] == "answered"
        assert {name: by_id[name]["status"] for name in ("refused", "again", "branch")} == {
            "refused": "error",
            "again": "error",
            "branch": "error",
        }
        assert "***" in by_id["refused"]["error"]
        run_id = json.loads(done.stdout)[0]["run_id"]
    await run("runs", "events", run_id, "--json")
    await run("runs", "show", run_id)
    await run("runs", "trace", run_id, "--whole")
    await run("doctor", run_id, "--json")
    await run("system", "status", "--json")
    await run("-v", "run", "g.yml", "words", REDIS_URL=url.replace(str(redis.port), "1"))
    await run("-v", "run", "g.yml", "words", REDIS_URL=url.replace(PASSWORD, f"{PASSWORD}-wrong"))
    files = [file.read_text() for file in (tmp_path / "traces").iterdir()]
    assert len(files) == 1
    stored = await everything(url)
    assert run_id.encode() in stored
    for secret in PLANTED:
        assert [text for text in (*told, *files) if secret in text] == []
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    "line",
    [
        f"api_key: {OTHER}",
        f'model_url: "http://me:{OTHER}@127.0.0.1/v1"',
        f'headers: {{Authorization: "Bearer {OTHER}"}}',
    ],
)
def test_a_file_with_a_secret_is_refused_and_leaves_nothing(
    orka: Callable[..., Any], write: Callable[[str, str], str], line: str
) -> None:
    text = f"orchestrator: {{id: t, agents: [a]}}\nagents:\n  - id: a\n    type: local_llm\n    model: m\n    {line}\n"
    write("g.yml", text)
    for command in (("run", "g.yml", "x"), ("check", "g.yml", "--json"), ("submit", "g.yml", "x")):
        done = orka(*command)
        assert done.returncode == 2
        assert "is stored with its runs" in done.stdout + done.stderr
        assert OTHER not in done.stdout + done.stderr
