"""Asking DuckDuckGo by the library `ddgs`, whose requests end at a proxy on 127.0.0.1 that plays every host."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from orka.errors import ConfigError, SearchError
from orka.search.base import Hit
from orka.search.duckduckgo import DuckDuckGoEngine, Turns, library_client

pytest.importorskip("ddgs")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")

PAGE = """<html><body><div class="result results_links"><div class="links_main result__body">
<h2><a href="https://llama.test/a">Llamas</a></h2><a class="result__snippet" href="https://llama.test/a">They live in Peru.</a>
</div></div></body></html>"""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=duckduckgo.com"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


Answer = Callable[[str], tuple[int, str]]


@asynccontextmanager
async def proxy(
    certificate: tuple[Path, Path], answer: Answer, delay: float = 0.0
) -> AsyncIterator[tuple[str, list[str]]]:
    """Its address, and the first line of every request with its body."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await writer.start_tls(context)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = [line.partition(":") for line in head.lower().splitlines()]
            length = next((int(value) for name, _, value in lines if name == "content-length"), 0)
            asked.append(f"{head.splitlines()[0]} {(await reader.readexactly(length)).decode()}")
            await asyncio.sleep(delay)
            status, body = answer(asked[-1])
            data = body.encode()
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {len(data)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + data
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            try:  # over TLS it waits for the other side, who may have gone without a word
                async with asyncio.timeout(0.5):
                    await writer.wait_closed()
            except (OSError, TimeoutError):
                writer.transport.abort()
                await asyncio.sleep(0)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await asyncio.sleep(0)  # for those that were accepted just now
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def engine(address: str) -> DuckDuckGoEngine:
    return DuckDuckGoEngine("de-de", Turns(), library_client(proxy=address, verify=False))


@needs_openssl
async def test_pages_are_found_in_the_region_asked_for(certificate: tuple[Path, Path]) -> None:
    async with proxy(certificate, lambda asked: (200, PAGE)) as (address, asked):
        hits = await engine(address).search("where do llamas live?", limit=3, timeout=10)
    assert hits == [Hit(title="Llamas", url="https://llama.test/a", text="They live in Peru.")]
    assert asked[0].startswith("POST /html/")
    assert "q=where" in asked[0]
    assert "l=de-de" in asked[0]


@needs_openssl
async def test_news_are_found_where_no_page_is_and_nothing_is_an_empty_list(certificate: tuple[Path, Path]) -> None:
    news = (
        '{"results": [{"title": "New llama", "excerpt": "Born today.", "url": "https://n.test", "date": 1767225600}]}'
    )

    def answer(asked: str) -> tuple[int, str]:
        if "news.js" in asked:
            return 200, news if "llama" in asked else '{"results": []}'
        return 200, '<html><script>vqd="4-123456"</script></html>'

    async with proxy(certificate, answer) as (address, _):
        (hit,) = await engine(address).search("llama", limit=3, timeout=10)
        assert (hit.title, hit.url, hit.text) == ("New llama", "https://n.test", "Born today.")
        assert await engine(address).search("q", limit=3, timeout=10) == []


@needs_openssl
async def test_being_refused_is_no_empty_list(certificate: tuple[Path, Path]) -> None:
    async with proxy(certificate, lambda asked: (202, "<html>are you human?</html>")) as (address, _):
        with pytest.raises(SearchError, match="DuckDuckGo cannot be asked"):
            await engine(address).search("q", limit=3, timeout=10)


@needs_openssl
async def test_a_slow_answer_is_left_when_time_is_over(certificate: tuple[Path, Path]) -> None:
    async with proxy(certificate, lambda asked: (200, PAGE), delay=1.5) as (address, _):
        started = time.perf_counter()
        with pytest.raises(SearchError, match=r"within 0\.2 s"):
            await engine(address).search("q", limit=3, timeout=0.2)
        assert time.perf_counter() - started < 1


async def test_no_network_is_a_search_error() -> None:
    with pytest.raises(SearchError, match="DuckDuckGo cannot be asked: "):
        await engine("http://127.0.0.1:9").search("q", limit=3, timeout=10)


async def test_a_turn_ends_with_its_thread_not_with_whoever_asked() -> None:
    turns, release = Turns(1), threading.Event()
    under_way: list[int] = []

    def wait() -> list[Hit]:
        under_way.append(1)
        assert release.wait(10)
        return []

    with anyio.move_on_after(0.1):
        await turns.run(wait)
    with anyio.move_on_after(0.1) as late:
        await turns.run(wait)
    assert late.cancelled_caught
    assert len(under_way) == 1
    release.set()
    with anyio.fail_after(5):
        for _ in range(3):
            assert await turns.run(list) == []


def test_without_the_library_the_error_names_what_to_install() -> None:
    code = (
        "import sys; sys.modules['ddgs'] = None\n"
        "from orka.search.duckduckgo import DuckDuckGoEngine, Turns\n"
        "try: DuckDuckGoEngine(None, Turns())\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(ConfigError.__name__)
    assert "pip install 'orka[search]'" in done.stdout
