"""Vectors from an endpoint over real HTTP: batches, order, retries, and what is refused. The server is in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import anyio
import numpy as np
import pytest
from support import endpoint as served
from support.endpoint import Reply, answer

from orka.embedding.endpoint import Endpoint
from orka.embedding.remote import RemoteEmbedder
from orka.errors import ConfigError, EmbeddingError


@pytest.fixture
async def server() -> AsyncIterator[served.Endpoint]:
    async with served.started() as endpoint:
        yield endpoint


def embedder(server: served.Endpoint, **options: Any) -> RemoteEmbedder:
    return RemoteEmbedder(Endpoint(**{"url": server.url, "model": "test-model", "pause": 0.01, **options}))


def expected(text: str, dimension: int = served.DIMENSION) -> list[float]:
    return [number / 5 for number in served.vector_of(text, dimension)]


async def failure(server: served.Endpoint, given: list[str] | None = None, **options: Any) -> EmbeddingError:
    async with embedder(server, **options) as remote:
        with pytest.raises(EmbeddingError) as caught:
            await remote.embed(["a"] if given is None else given)
    return caught.value


async def test_rows_have_length_one_and_the_order_of_the_texts(server: served.Endpoint) -> None:
    server.rule = lambda asked: Reply(body={"data": answer(asked["input"])["data"][::-1]})
    async with embedder(server) as remote:
        rows = await remote.embed(["apple", "pear", "half \ud800 pair"])
        assert (remote.name, remote.dimension) == ("test-model", 16)
    assert rows.dtype == np.float32
    assert rows == pytest.approx(np.array([expected("apple"), expected("pear"), expected("half ? pair")]))
    assert server.asked == [{"model": "test-model", "input": ["apple", "pear", "half ? pair"]}]
    assert server.paths == ["/v1/embeddings"]


async def test_empty_texts_are_zeros_and_are_not_sent(server: served.Endpoint) -> None:
    async with embedder(server) as remote:
        rows = await remote.embed(["", "apple", " \n"])
        assert rows == pytest.approx(np.array([[0.0] * 16, expected("apple"), [0.0] * 16]))
        assert (await remote.embed(["", ""])).tolist() == [[0.0] * 16] * 2
        assert (await remote.embed([])).shape == (0, 16)
    assert [asked["input"] for asked in server.asked] == [["apple"]]


async def test_dimension_is_unknown_until_the_first_answer(server: served.Endpoint) -> None:
    async with embedder(server) as remote:
        with pytest.raises(EmbeddingError, match=r"await `probe\(\)` first, or set ORKA_EMBEDDING_DIMENSION"):
            _ = remote.dimension
        assert await remote.probe() == 16
        assert await remote.probe() == remote.dimension == 16
    assert len(server.asked) == 1


async def test_given_dimension_is_known_and_asked_for(server: served.Endpoint) -> None:
    async with embedder(server, dimension=8) as remote:
        assert await remote.probe() == 8
        assert server.asked == []
        assert await remote.embed(["apple"]) == pytest.approx(np.array([expected("apple", 8)]))
    assert server.asked[0]["dimensions"] == 8


async def test_batches_are_bounded_in_texts_and_characters(server: served.Endpoint) -> None:
    texts = ["a" * 10] * 5 + ["b" * 35] + ["c" * 200] + ["d"]
    async with embedder(server, texts=3, characters=40, at_once=1) as remote:
        rows = await remote.embed(texts)
    assert [len(asked["input"]) for asked in server.asked] == [3, 2, 1, 1, 1]
    assert rows == pytest.approx(np.array([expected(text) for text in texts]))


async def test_only_a_few_requests_are_under_way_at_once(server: served.Endpoint) -> None:
    server.rule = lambda asked: Reply(body=answer(asked["input"]), delay=0.02)
    texts = [f"text {number}" for number in range(60)]
    async with embedder(server, texts=2, at_once=3) as remote:
        results: list[Any] = []

        async def call() -> None:
            results.append(await remote.embed(texts))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(call)
        assert remote.statistics()._asdict() == {"requests": 60, "repeated": 0, "under_way": 0}
    assert server.most_at_once == 3
    for rows in results:
        assert rows == pytest.approx(np.array([expected(text) for text in texts]))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_what_may_pass_is_tried_again(server: served.Endpoint, status: int) -> None:
    server.replies += [Reply(status=status, body=b"busy"), Reply(cut=True, body=b"x" * 100)]
    async with embedder(server) as remote:
        assert await remote.embed(["apple"]) == pytest.approx(np.array([expected("apple")]))
        assert remote.statistics().repeated == 2


async def test_slow_answers_are_tried_again(server: served.Endpoint) -> None:
    server.replies.append(Reply(delay=20))
    async with embedder(server, timeout=0.2) as remote:
        assert (await remote.embed(["apple"])).shape == (1, 16)
    server.rule = lambda asked: Reply(delay=20)
    error = await failure(server, timeout=0.05, attempts=2)
    assert str(error) == (
        f"{server.url}/embeddings gives no vectors after 2 attempts (the last time, no answer within 0.05 s): look whether "
        "it is up and whether ORKA_EMBEDDING_URL names it"
    )


async def test_retry_after_is_waited_for(server: served.Endpoint) -> None:
    server.replies.append(Reply(status=429, headers={"Retry-After": "0.3"}))
    async with embedder(server) as remote:
        began = anyio.current_time()
        await remote.embed(["apple"])
        assert anyio.current_time() - began >= 0.3


async def test_retry_after_may_be_a_date_and_too_far_away(server: served.Endpoint) -> None:
    server.rule = lambda asked: Reply(status=503, headers={"Retry-After": formatdate(time.time() + 3600)})
    message = str(await failure(server))
    assert "wants to be left alone for 3," in message
    assert message.endswith("(it answers 503: (nothing)): try again later")
    assert len(server.asked) == 1


@pytest.mark.parametrize("header", ["nan", "soon", "-1", "99999999999999999999", "Fri, 99 Nov 2026"])
async def test_odd_retry_after_counts_as_none(server: served.Endpoint, header: str) -> None:
    server.replies.append(Reply(status=429, headers={"Retry-After": header}))
    async with embedder(server) as remote:
        assert (await remote.embed(["apple"])).shape == (1, 16)


async def test_nobody_there_is_said_after_all_attempts() -> None:
    async with served.started() as gone:
        url = gone.url
    async with RemoteEmbedder(Endpoint(url=url, model="m", pause=0.01, attempts=3)) as remote:
        with pytest.raises(EmbeddingError, match=r"gives no vectors after 3 attempts \(the last time, ConnectError: "):
            await remote.embed(["a"])


async def test_account_without_quota_is_not_asked_again(server: served.Endpoint) -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    server.rule = lambda asked: Reply(status=429, body=body)
    assert "(429: You exceeded your quota): the account behind the key has no quota left" in str(await failure(server))
    assert len(server.asked) == 1


async def test_fewer_texts_are_sent_to_an_endpoint_that_takes_fewer(server: served.Endpoint) -> None:
    server.rule = lambda asked: Reply(status=413, body=b"too many") if len(asked["input"]) > 5 else None
    texts = [f"text {number}" for number in range(40)]
    async with embedder(server, texts=16) as remote:
        assert await remote.embed(texts) == pytest.approx(np.array([expected(text) for text in texts]))
        before = len(server.asked)
        await remote.embed(texts)
    sizes = [len(asked["input"]) for asked in server.asked[before:]]
    assert max(sizes) == 4
    assert sum(sizes) == 40


async def test_text_that_is_refused_alone_is_named(server: served.Endpoint) -> None:
    server.rule = lambda asked: (
        Reply(status=400, body={"error": {"message": "context length is 8192 tokens"}})
        if any(len(text) > 100 for text in asked["input"])
        else None
    )
    error = await failure(server, ["a", "", "b", "c" * 2000, "d"])
    assert error.index == 3
    assert str(error) == (
        f"{server.url}/embeddings refuses a text of 2,000 characters alone (400: context length is 8192 tokens)"
    )


async def test_refused_dimension_names_the_setting(server: served.Endpoint) -> None:
    server.rule = lambda asked: Reply(status=400, body={"detail": "no matryoshka"}) if "dimensions" in asked else None
    message = str(await failure(server, dimension=8))
    assert message.endswith("Not every model can be asked for a dimension: leave ORKA_EMBEDDING_DIMENSION unset then")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(status=401, body={"error": "no"}),
            "refuses the API key (401: no): it wants one: set ORKA_EMBEDDING_KEY",
        ),
        (
            Reply(status=404, body=b"<h1>Not\nfound</h1>"),
            "has no such address or no model 'test-model' (404: <h1>Not found</h1>): look at ORKA_EMBEDDING_URL, the base "
            "address that usually ends in /v1, and at ORKA_EMBEDDING_MODEL",
        ),
        (
            Reply(status=307, headers={"Location": "http://elsewhere.example/"}),
            "sends its callers elsewhere (307), where neither texts nor key are sent: put the final address into "
            "ORKA_EMBEDDING_URL",
        ),
        (Reply(status=418, body=b"a \x1b[31mteapot"), "refuses (418: a ?[31mteapot)"),
        (
            Reply(body=b"<html>"),
            "does not answer as an OpenAI-compatible endpoint does (JSON is malformed: invalid character (byte 0)): is "
            "ORKA_EMBEDDING_URL its base address, such as http://localhost:11434/v1? It says: <html>",
        ),
        (
            Reply(body={"error": {"message": "model not loaded"}}),
            "does not answer as an OpenAI-compatible endpoint does (Object missing required field `data`): is "
            "ORKA_EMBEDDING_URL its base address, such as http://localhost:11434/v1? It says: model not loaded",
        ),
        (Reply(body={"data": []}), "gives 0 vectors for 2 texts: it cannot be used"),
        (
            Reply(body={"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}),
            "numbers its 2 vectors wrongly (index 0): whose they are is unknown",
        ),
        (
            Reply(body={"data": [{"index": 1, "embedding": [1]}, {"index": 7, "embedding": [1]}]}),
            "numbers its 2 vectors wrongly (index 7): whose they are is unknown",
        ),
        (
            Reply(body={"data": [{"embedding": []}, {"embedding": []}]}),
            "(model 'test-model') gives vectors of shape (2, 0) for 2 texts: one row for each is needed",
        ),
        (
            Reply(body={"data": [{"embedding": [1, 2]}, {"embedding": [1]}]}),
            "(model 'test-model') gives vectors that are not 2 equally long rows of numbers",
        ),
        (
            Reply(body=b'{"data": [{"embedding": [1, 2]}, {"embedding": [1, NaN]}]}'),
            "does not answer as an OpenAI-compatible endpoint does (JSON is malformed",
        ),
        (
            Reply(body=b"[" * 100_000),
            "does not answer as an OpenAI-compatible endpoint does (",
        ),
    ],
)
async def test_useless_answers_say_what_to_do(server: served.Endpoint, reply: Reply, message: str) -> None:
    server.rule = lambda asked: reply
    said = str(await failure(server, ["a", "b"]))
    assert said.startswith(f"{server.url}/embeddings {message}")
    assert len(server.asked) == 1


async def test_vectors_without_index_are_in_the_order_of_the_texts(server: served.Endpoint) -> None:
    server.rule = lambda asked: Reply(body={"data": [{"embedding": [1, 0]}, {"embedding": [0, 1e300]}]})
    async with embedder(server) as remote:
        assert (await remote.embed(["a", "b"])).tolist() == [[1, 0], [0, 1]]


async def test_another_dimension_than_before_is_refused(server: served.Endpoint) -> None:
    async with embedder(server) as remote:
        await remote.embed(["a"])
        server.rule = lambda asked: Reply(body=answer(asked["input"], 4))
        with pytest.raises(EmbeddingError, match="gives vectors of 4 numbers where 16 are expected"):
            await remote.embed(["a"])


async def test_key_is_sent_and_never_said(server: served.Endpoint) -> None:
    server.rule = lambda asked: Reply(status=401, body={"error": {"message": "Incorrect API key: sk-secret"}})
    error = await failure(server, key="sk-secret")
    assert server.headers[0]["authorization"] == "Bearer sk-secret"
    assert "(401: Incorrect API key: ***): set ORKA_EMBEDDING_KEY to a valid one" in str(error)
    assert "sk-secret" not in repr(Endpoint(url=server.url, model="m", key="sk-secret"))


async def test_without_a_key_none_is_sent(server: served.Endpoint) -> None:
    async with embedder(server) as remote:
        await remote.embed(["a"])
    assert "authorization" not in server.headers[0]


async def test_redirects_are_not_followed(server: served.Endpoint) -> None:
    async with served.started() as other:
        server.rule = lambda asked: Reply(status=308, headers={"Location": f"{other.url}/embeddings"})
        await failure(server, key="sk-secret")
        assert other.asked == []


async def test_big_answers_are_read_off_the_loop_and_endless_ones_refused(
    server: served.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {number}" for number in range(1000)]
    async with embedder(server, dimension=300, texts=1000) as remote:
        rows = await remote.embed(texts)
        assert rows[999] == pytest.approx(np.array(expected("text 999", 300)))
        monkeypatch.setattr("orka.embedding.remote.MOST_ANSWER", 1000)
        with pytest.raises(EmbeddingError, match="gives an answer beyond 1,000 bytes: it cannot be used"):
            await remote.embed(texts)


async def test_cancelled_requests_leave_the_embedder_usable(server: served.Endpoint) -> None:
    async with embedder(server, at_once=1) as remote:
        server.replies.append(Reply(delay=20))
        with anyio.move_on_after(0.2) as scope:
            await remote.embed(["a"])
        assert scope.cancelled_caught
        assert (await remote.embed(["a"])).shape == (1, 16)
        assert remote.statistics().under_way == 0


async def test_one_failed_batch_ends_the_others_with_its_own_error(server: served.Endpoint) -> None:
    server.rule = lambda asked: (
        Reply(status=403) if "bad" in asked["input"] else Reply(body=answer(asked["input"]), delay=0.1)
    )
    error = await failure(server, ["a", "b", "bad", *"cdefghijkl"], texts=1, at_once=3)
    assert "refuses the API key (403: (nothing))" in str(error)
    assert len(server.asked) < 8


async def test_closed_embedder_says_so(server: served.Endpoint) -> None:
    remote = embedder(server)
    await remote.embed(["a"])
    await remote.aclose()
    await remote.aclose()
    with pytest.raises(EmbeddingError, match="the embedder of 'test-model' is closed"):
        await remote.embed(["a"])


@pytest.mark.parametrize(
    ("url", "target", "label"),
    [
        ("http://h:1/v1", "http://h:1/v1/embeddings", "http://h:1/v1/embeddings"),
        ("http://h/v1/", "http://h/v1/embeddings", "http://h/v1/embeddings"),
        ("http://h/v1/embeddings", "http://h/v1/embeddings", "http://h/v1/embeddings"),
        ("https://h/o?api-version=2&k=s", "https://h/o/embeddings?api-version=2&k=s", "https://h/o/embeddings"),
    ],
)
def test_address_of_requests(url: str, target: str, label: str) -> None:
    endpoint = Endpoint(url=url, model="m")
    assert (endpoint.target, endpoint.label) == (target, label)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "h:1"}, "url='h:1' of an embedding endpoint must begin with http:// or https:// and name a host"),
        (
            {"url": "http://a:b@h"},
            "url of an embedding endpoint must not hold a user name or password: give the key apart from it",
        ),
        ({"model": ""}, "an embedding endpoint needs the name of its model: set ORKA_EMBEDDING_MODEL"),
        ({"at_once": 0}, "at_once=0 of an embedding endpoint must be at least 1"),
        ({"dimension": 0}, "dimension=0 of an embedding endpoint must be at least 1"),
        ({"key": "a b"}, "the key of an embedding endpoint is empty or has a character that no HTTP header can carry"),
    ],
)
def test_useless_endpoints_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(**{"url": "http://h/v1", "model": "m", **options})
    assert str(caught.value) == message


def test_proxies_stay_away_from_this_machine() -> None:
    hosts = {"http://localhost:1/v1": True, "http://[::1]:1/v1": True, "https://api.openai.com/v1": False}
    assert {url: Endpoint(url=url, model="m").local for url in hosts} == hosts
