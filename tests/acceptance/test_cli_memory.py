"""`orka memory ...`: what the commands print, their exit codes, and files of memories that are cut off and gone on with."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from servers import Servers
from support.journals import client_of

from orka.clock import now_ms
from orka.memory.opening import open_memories
from orka.memory.record import PREFIX, MemoryRecord, key_for, new_record
from orka.settings import Settings

Run = Callable[..., "subprocess.CompletedProcess[str]"]
OLD = 1_700_000_000_000


@pytest.fixture(params=["redis", "redisstack"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ORKA_MEMORY_BACKEND", request.param)
    return request.param


@pytest.fixture
def store(backend: str, redis_settings: Settings) -> Iterator[Callable[..., None]]:
    """Stores records in the session's server, which is empty."""
    settings = replace(redis_settings, backend=backend)

    async def empty() -> None:
        async with client_of(settings) as client:
            await client.flushall()

    async def work(records: list[MemoryRecord]) -> None:
        async with open_memories(settings) as (_, memory):
            assert await memory.write_many(records) == [None] * len(records)

    asyncio.run(empty())
    yield lambda *records: asyncio.run(work(list(records)))
    asyncio.run(empty())


def record(text: str, **more: Any) -> MemoryRecord:
    return new_record(text, **{"timestamp_ms": OLD, **more})


def contents(printed: str) -> list[str]:
    return [one["content"] for one in json.loads(printed)]


THREE = (
    record("the parcel has not arrived", key=key_for("a"), namespace="post", metadata={"n": 1}),
    record("green tea is served warm", key=key_for("b"), memory_type="long_term", timestamp_ms=OLD + 1),
    record("\x1b[31mred\x1b[0m printer\nwithout paper", key=key_for("c"), category="note", timestamp_ms=OLD + 2),
)


def test_search_finds_by_meaning_and_words(store: Callable[..., None], here: Run) -> None:
    store(*THREE)
    done = here("memory", "search", "a package that is late", "--limit", "1")
    assert done.returncode == 0
    title, row = done.stdout.splitlines()
    assert title.split() == ["KEY", "WRITTEN", "NAMESPACE", "TYPE", "SCORE", "SIMILARITY", "CONTENT"]
    assert row.split()[0] == key_for("a").removeprefix(PREFIX)
    assert row.endswith("the parcel has not arrived")
    assert contents(here("memory", "search", "tea", "--mode", "text", "--json").stdout) == ["green tea is served warm"]
    assert contents(here("memory", "search", "printer", "--category", "note", "--json").stdout) == [THREE[2].content]
    only = here("memory", "search", "printer", "--namespace", "post", "--namespace", "none", "--json").stdout
    assert contents(only) == ["the parcel has not arrived"]
    assert contents(here("memory", "search", "tea", "--type", "long_term", "--json").stdout) == [THREE[1].content]
    nothing = here("memory", "search", "zebra", "--mode", "text")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "nothing was found\n")
    assert here("memory", "search", "zebra", "--mode", "text", "--json").stdout == "[]\n"
    assert "\x1b" not in here("memory", "search", "printer").stdout


def test_a_dash_is_a_name_and_a_text_is_read_from_standard_input(
    store: Callable[..., None], backend: str, here: Run, orka: Any
) -> None:
    orka.environment["ORKA_MEMORY_BACKEND"] = backend
    store(record("in the namespace of a dash", namespace="-", category="-", memory_type="-"), THREE[0])
    for option in ("--namespace", "--category", "--type"):
        assert contents(here("memory", "list", option, "-", "--json").stdout) == ["in the namespace of a dash"]
    for command in ("show", "delete"):
        assert "has the key '-'" in here("memory", command, "-").stderr
    process = orka.start("memory", "search", "-", "--mode", "text", "--json", stdin=subprocess.PIPE)
    assert contents(process.communicate("parcel\n")[0]) == [THREE[0].content]


def test_columns_stand_below_each_other_whatever_the_script(store: Callable[..., None], here: Run) -> None:
    store(record("one", namespace="東京"), record("two", namespace="plain"))
    first, second = here("memory", "list").stdout.splitlines()[1:]
    assert {cell_len(line[: line.index("short_term")]) for line in (first, second)} == {66}


def test_list_shows_the_newest_first(store: Callable[..., None], here: Run) -> None:
    empty = here("memory", "list")
    assert (empty.stdout, empty.stderr) == ("", "there are no such memories\n")
    store(*THREE, record("gone", expire_ms=1))
    assert [line.split()[0] for line in here("memory", "list").stdout.splitlines()[1:]] == [
        key_for(name).removeprefix(PREFIX) for name in "cba"
    ]
    assert contents(here("memory", "list", "--limit", "1", "--offset", "1", "--json").stdout) == [THREE[1].content]
    assert contents(here("memory", "list", "--namespace", "post", "--json").stdout) == [THREE[0].content]


def test_show_and_delete_take_keys_with_and_without_their_beginning(store: Callable[..., None], here: Run) -> None:
    store(*THREE)
    short, whole = key_for("a").removeprefix(PREFIX), key_for("c")
    done = here("memory", "show", short, whole)
    assert done.returncode == 0
    assert f"key               {key_for('a')}" in done.stdout
    assert "metadata          " in done.stdout
    assert "\\x1b[31mred\\x1b[0m printer\nwithout paper\n" in done.stdout
    [first] = json.loads(here("memory", "show", short, "--json").stdout)
    assert (first["content"], first["metadata"]["n"]) == ("the parcel has not arrived", 1)
    done = here("memory", "delete", short, "none", whole)
    assert (done.returncode, done.stdout) == (5, f"deleted {short}\ndeleted {whole}\n")
    assert "no memory has the key 'none'" in done.stderr
    assert here("memory", "show", short).returncode == 5
    assert contents(here("memory", "list", "--json").stdout) == [THREE[1].content]
    done = here("memory", "delete", key_for("b"), "none", key_for("b"), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (5, {"deleted": [key_for("b")]})


@pytest.mark.parametrize(
    "odd", ["", " ", "*", "a b", "ü", "'\"\\", "\n", "\udcff", "x" * 5000, "-:{}@*|", "orka_memory:"]
)
def test_odd_keys_and_texts_are_no_error(odd: str, store: Callable[..., None], here: Run) -> None:
    store(THREE[0])
    assert here("memory", "show", "--", odd).returncode == 5
    assert here("memory", "delete", "--", odd).returncode == 5
    assert here("memory", "search", "--", odd).returncode == 0
    done = here("memory", "list", f"--namespace={odd}", f"--category={odd}", f"--type={odd}", "--json")
    assert (done.returncode, done.stdout) == (0, "[]\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["search"], "TEXT"),
        (["search", "x", "--limit", "0"], "limit=0"),
        (["search", "x", "--limit", "many"], "many"),
        (["search", "x", "--offset", "-1"], "offset=-1"),
        (["search", "x", "--mode", "psychic"], "psychic"),
        (["search", "x", "--least", "1.5"], "--least 1.5"),
        (["search", "x", "--least", "nan"], "--least nan"),
        (["list", "--limit", "100000"], "10,000"),
        (["show"], "KEY"),
        (["delete"], "KEY"),
        (["stats", "--backend", "kafka"], "kafka"),
        (["cleanup", "--dry"], "--dry"),
        (["watch", "--interval", "0"], "--interval 0"),
        (["export"], "FILE"),
        (["export", "nowhere/x.jsonl"], "nowhere/x.jsonl cannot be written"),
        (["export", "."], "exists"),
        (["import", "none.jsonl"], "none.jsonl cannot be read"),
        (["import", "."], "cannot be read"),
        (["import", "none.jsonl", "--skip", "-2"], "--skip -2"),
        (["reindex", "--m", "1"], "--m 1"),
        (["reindex", "--ef-runtime", "5000"], "--ef-runtime 5000"),
        (["reindex", "--precision", "FLOAT8"], "FLOAT8"),
        (["forget"], "forget"),
    ],
)
def test_a_bad_argument_is_one_sentence_and_exit_code_2(
    arguments: list[str], why: str, here: Run, redis_settings: Settings
) -> None:
    done = here("memory", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert why in done.stderr


def test_stats_and_cleanup(store: Callable[..., None], backend: str, here: Run, redis_settings: Settings) -> None:
    store(*THREE)

    async def old() -> None:
        async with client_of(redis_settings) as client:
            await client.hset(PREFIX + "old", mapping={"content": "old", "orka_expire_time": "1000", "metadata": "{}"})

    asyncio.run(old())
    stats = json.loads(here("memory", "stats", "--json").stdout)["stats"]
    assert (stats["total_entries"], stats["active_entries"], stats["expired_entries"]) == (4, 3, 1)
    assert (stats["stored_memories"], stats["orchestration_logs"], stats["backend"]) == (2, 0, backend)
    assert stats["entries_by_memory_type"] == {"long_term": 1, "short_term": 2}
    assert now_ms() - stats["timestamp"] < 60_000
    printed = here("memory", "stats").stdout
    for line in (
        f"backend     {backend}",
        "memories    3",
        "  namespace post: 1",
        "  type long_term: 1",
        "events      0",
    ):
        assert line in printed
    assert here("memory", "cleanup", "--dry-run").stdout == "4 looked at, 1 expired, 0 deleted\n"
    cleaned = json.loads(here("memory", "cleanup", "--json").stdout)["cleanup_result"]
    assert (cleaned["cleaned"], cleaned["total_checked"], cleaned["dry_run"], cleaned["errors"]) == (1, 4, False, [])
    assert here("memory", "cleanup").stdout == "3 looked at, 0 expired, 0 deleted\n"


def test_the_option_wins_over_the_environment_and_a_missing_module_names_both_ways_out(
    here: Run, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers.start()
    run_here = here
    monkeypatch.setenv("REDIS_URL", server.url)
    for command in (["stats"], ["reindex"]):
        done = run_here("memory", *command)
        assert done.returncode == 3
        assert "ORKA_MEMORY_BACKEND=redis" in done.stderr
    assert run_here("memory", "stats", "--backend", "redis").returncode == 0
    monkeypatch.setenv("ORKA_FORCE_BASIC_REDIS", "true")
    assert "backend     redis\n" in run_here("memory", "stats").stdout
    server.kill()
    done = run_here("memory", "list")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_reindex_tells_what_it_did_and_another_model_is_served_after_it(
    store: Callable[..., None], backend: str, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed = backend == "redisstack"
    store(*THREE)
    done = here("memory", "reindex")
    assert done.returncode == 0
    index = "orka_enhanced_memory:1: " if indexed else ""
    assert done.stderr.startswith(f"3 memories, 0 embedded, 0 of OrKa 0.9; {index}wordllama-256, 256 FLOAT16")
    monkeypatch.setenv("ORKA_EMBEDDING_MODEL", "wordllama-64")
    refused = here("memory", "list")
    assert refused.returncode == 3
    assert "orka memory reindex" in refused.stderr
    form = ["--m", "8", "--ef-construction", "100"]
    if not indexed:
        assert "the backend 'redis' has none" in here("memory", "reindex", *form).stderr
        form = []
    done = here("memory", "reindex", "--precision", "FLOAT32", *form, "--json")
    assert json.loads(done.stdout) == {
        "memories": 3,
        "embedded": 3,
        "converted": 0,
        "refused": 0,
        "layout": {
            "embedder": "wordllama-64",
            "dimension": 64,
            "precision": "FLOAT32",
            "m": 8 if indexed else 16,
            "ef_construction": 100 if indexed else 64,
            "ef_runtime": 256,
            "version": 2,
        },
    }
    assert contents(here("memory", "search", "a late package", "--limit", "1", "--json").stdout) == [THREE[0].content]


def test_export_and_import_keep_everything_and_twice_changes_nothing(
    store: Callable[..., None], here: Run, tmp_path: Path
) -> None:
    later = now_ms() + 3_600_000
    store(*THREE, record("soon gone", key=key_for("d"), expire_ms=later, session="s", node_id="n", trace_id="t"))
    before = json.loads(here("memory", "show", *(key_for(name) for name in "abcd"), "--json").stdout)
    assert here("memory", "export", "all.jsonl").stderr == "4 memories written to all.jsonl\n"
    assert here("memory", "export", "all.jsonl").returncode == 2
    assert here("memory", "export", "post.jsonl", "--namespace", "post", "--json").stdout.split() == [
        *("{", '"written":', "1,", '"known":', "0", "}")
    ]
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["format"] == "orka-memories"
    assert {json.loads(line)["key"] for line in lines[1:]} == {key_for(name) for name in "abcd"}
    here("memory", "delete", key_for("a"), key_for("d"))
    for _ in range(2):
        done = here("memory", "import", "all.jsonl", "--json")
        assert (done.returncode, json.loads(done.stdout)) == (0, {"stored": 4, "refused": 0, "lines": 5})
        after = json.loads(here("memory", "show", *(key_for(name) for name in "abcd"), "--json").stdout)
        for one in (*before, *after):
            one.pop("ttl_seconds", None), one.pop("ttl_formatted", None)
        assert after == before
    assert json.loads(here("memory", "stats", "--json").stdout)["stats"]["total_entries"] == 4


def test_an_export_that_was_cut_off_is_gone_on_with(store: Callable[..., None], here: Run, tmp_path: Path) -> None:
    store(*(record(f"memory {number}", key=key_for(f"{number}")) for number in range(50)))
    file = tmp_path / "x.jsonl"
    here("memory", "export", "x.jsonl")
    whole = file.read_bytes()
    for left in (0, 5, len(whole) // 2, len(whole) - 1, len(whole)):
        file.write_bytes(whole[:left])
        done = here("memory", "export", "x.jsonl", "--resume")
        assert done.returncode == 0, done.stderr
        lines = file.read_text().splitlines()
        assert sorted(json.loads(line)["key"] for line in lines[1:]) == sorted(key_for(f"{n}") for n in range(50))
    file.write_bytes(whole.replace(b"\n", b"\nbroken\n", 1))
    done = here("memory", "export", "x.jsonl", "--resume")
    assert (done.returncode, done.stdout) == (2, "")
    assert "x.jsonl:2: not JSON" in done.stderr
    (tmp_path / "other.txt").write_text("a file of somebody else\n")
    assert here("memory", "export", "other.txt", "--resume").returncode == 2
    assert (tmp_path / "other.txt").read_text() == "a file of somebody else\n"
    for content in (b"one line that does not end", b"\0" * 1000, b'{"format":"other"'):
        (tmp_path / "other.txt").write_bytes(content)
        done = here("memory", "export", "other.txt", "--resume")
        assert (done.returncode, (tmp_path / "other.txt").read_bytes()) == (2, content), done.stderr
    assert here("memory", "export", "/dev/zero", "--resume").returncode == 2


def test_memories_go_through_pipes(
    store: Callable[..., None], backend: str, here: Run, orka: Any, tmp_path: Path
) -> None:
    orka.environment["ORKA_MEMORY_BACKEND"] = backend
    store(*THREE)
    done = here("memory", "export", "-")
    assert done.stderr == "3 memories written to standard output\n"
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert here("memory", "export", "-", "--resume").returncode == 2
    assert here("memory", "delete", key_for("a"), key_for("b")).returncode == 0
    for source in ("-", "/dev/stdin"):
        process = orka.start("memory", "import", source, "--json", stdin=subprocess.PIPE)
        answer, _ = process.communicate("\n".join([*lines, "not JSON", ""]))
        assert json.loads(answer) == {"stored": 3, "refused": 1, "lines": 5}
    os.mkfifo(tmp_path / "pipe")
    process = orka.start("memory", "export", "pipe")
    assert (tmp_path / "pipe").read_text().splitlines()[0] == lines[0]
    assert process.wait(20) == 0


def test_bad_lines_are_named_and_the_others_are_stored(store: Callable[..., None], here: Run, tmp_path: Path) -> None:
    store()
    lines = [
        '{"format": "orka-memories", "version": 1}',
        '{"content": "good", "namespace": "n"}',
        "not JSON",
        "[]",
        '{"content": 5}',
        '{"content": "x", "key": "else:where"}',
        '{"content": "x", "colour": "red"}',
        '{"content": "x", "importance": "high"}',
        '{"content": "x", "expire_ms": "soon"}',
        '{"content": "x", "metadata": [1]}',
        '{"content": "x", "timestamp_ms": 1e999}',
        '{"namespace": "n"}',
        "",
        '{"content": "good too", "namespace": "n"}',
        '{"content": "cut o',
    ]
    (tmp_path / "x.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"content": "\xff"}')
    done = here("memory", "import", "x.jsonl")
    assert done.returncode == 1
    assert [int(number) for number in re.findall(r"^x\.jsonl:(\d+): error: .", done.stderr, re.MULTILINE)] == [
        *(3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16)
    ]
    assert ": error: not a memory: it has no content\n" in done.stderr
    assert done.stderr.endswith("2 memories stored, 12 refused\n")
    assert sorted(contents(here("memory", "list", "--json").stdout)) == ["good", "good too"]
    for first in ("", "x", '{"format": "other"}', '{"format": "orka-memories", "version": 2}', "[1]"):
        (tmp_path / "y.jsonl").write_text(f"{first}\n")
        assert here("memory", "import", "y.jsonl").returncode == 2, first
    (tmp_path / "empty.jsonl").write_text("")
    assert here("memory", "import", "empty.jsonl").stderr == "0 memories stored, 0 refused\n"


def lines_of(count: int) -> str:
    header = json.dumps({"format": "orka-memories", "version": 1})
    rows = (json.dumps({"content": f"memory number {n}", "key": key_for(f"{n}")}) for n in range(count))
    return "\n".join([header, *rows, ""])


def test_ten_thousand_memories_go_in_and_out(store: Callable[..., None], here: Run, tmp_path: Path) -> None:
    store()
    (tmp_path / "in.jsonl").write_text(lines_of(10_000))
    began = time.monotonic()
    assert here("memory", "import", "in.jsonl").stderr == "10,000 memories stored, 0 refused\n"
    assert here("memory", "export", "out.jsonl").stderr == "10,000 memories written to out.jsonl\n"
    assert time.monotonic() - began < 30
    keys = {json.loads(line)["key"] for line in (tmp_path / "out.jsonl").read_text().splitlines()[1:]}
    assert len(keys) == 10_000


@pytest.mark.parametrize("backend", ["redisstack"], indirect=True)
def test_an_import_that_is_stopped_says_how_to_go_on(
    store: Callable[..., None], backend: str, orka: Any, tmp_path: Path
) -> None:
    store()
    (tmp_path / "my file.jsonl").write_text(lines_of(100_000))
    orka.environment["ORKA_MEMORY_BACKEND"] = backend
    master, terminal = pty.openpty()
    process = orka.start("memory", "import", "my file.jsonl", stderr=terminal)
    os.close(terminal)
    shown = ""

    def read_on() -> bool:
        nonlocal shown
        if not select.select([master], [], [], 30)[0]:
            return False
        try:
            shown += os.read(master, 65536).decode("utf-8", "replace")
        except OSError:  # EIO: the other end is closed
            return False
        return True

    while "importing" not in shown:  # the progress bar, after a second
        assert read_on(), shown
    process.send_signal(signal.SIGINT)
    while read_on():
        pass
    os.close(master)
    assert process.wait(20) == 130
    found = re.search(
        r"stopped behind line (\d+): go on with `(orka memory import --skip (\d+) 'my file.jsonl')`", shown
    )
    assert found is not None, shown
    line = int(found[1])
    assert 500 <= line < 100_000
    (tmp_path / "my file.jsonl").write_text("\n".join(lines_of(100_000).splitlines()[: line + 20]) + "\n")
    done = orka("memory", "import", "--skip", found[3], "my file.jsonl", "--json")
    assert json.loads(done.stdout) == {"stored": 20, "refused": 0, "lines": line + 20}
    stats = json.loads(orka("memory", "stats", "--json").stdout)["stats"]
    assert line + 19 <= stats["total_entries"] <= line + 19 + 1000


def test_watch_prints_what_is_written_until_it_is_stopped(store: Callable[..., None], backend: str, orka: Any) -> None:
    store()
    orka.environment["ORKA_MEMORY_BACKEND"] = backend
    process = orka.start("memory", "watch", "--interval", "0.1", "--json", "--run-id", "r1")
    for number in range(100):
        store(new_record(f"{number} first", trace_id="r1"), new_record("of another", trace_id="r2"))
        if select.select([process.stdout], [], [], 0.1)[0]:
            break
    seen = json.loads(process.stdout.readline())
    assert seen["content"].endswith("first")
    assert seen["trace_id"] == "r1"
    key = key_for("again")
    for text in ("once", "twice"):  # a memory that is written again is printed again, and only then
        store(new_record(text, key=key, trace_id="r1"))
        while (seen := json.loads(process.stdout.readline()))["content"].endswith("first"):
            pass
        assert (seen["key"], seen["content"]) == (key, text)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "Traceback" not in messages


def test_watch_says_when_there_are_more_than_it_shows(store: Callable[..., None], backend: str, orka: Any) -> None:
    store(*(new_record(f"{number} of many", timestamp_ms=now_ms() + 60_000) for number in range(1001)))
    orka.environment["ORKA_MEMORY_BACKEND"] = backend
    process = orka.start("memory", "watch", "--interval", "60", stdout=subprocess.DEVNULL)
    assert process.stderr.readline().startswith("more than 1,000 memories since the last look")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
