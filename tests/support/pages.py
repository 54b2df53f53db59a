"""Markdown pages whose snippets run. A page is played in one folder, its blocks in order, as a reader would paste them.

* `sh`      runs in bash. `RUN` stands for the id of the newest run, `localhost:6380` for a Redis of the test. Lines
            that install, or run this test suite, are left out: `LEFT_OUT`.
* `python`  runs as in `python -m asyncio`: with `await`, and with the names of the page's earlier blocks.
* `yaml`    is a graph that `orka check` has nothing to say about.
* `output`  is what the block before it prints on standard output. Ids, digests and times may differ, as may the width of
            columns; `...` stands for anything.
* A block that begins with a comment `# name.yml` or `# name.py` is written to that file; the Python is not run then.

Other kinds (`text`, `toml`) are for reading. A page with a kind that is not named here fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orka import Settings, open_runs
from orka.services import check_file

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = re.compile(r"\s*(git clone|pip install|python3 -m venv|docker|make (?!run\b))")
KINDS = {"sh", "python", "yaml", "output", "text", "toml"}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\w+\.(?:yml|py))\n")
_VARIES = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a run
    r"|\b\d{13}-\d+\b|\b[0-9a-f]{64}\b"  # an entry, a digest
    r"|\b\d{4}-\d\d-\d\dT[\d:.+]+|\b\d\d:\d\d:\d\d\.\d{3}\b|\b\d+\.\d{3} s"  # times
)
_WAIT = """
import asyncio
from orka import open_runs

async def wait():
    async with asyncio.timeout(30), open_runs() as runs:
        while not [run for run in await runs.list(limit=1) if run.status == "running" and run.entries > 1]:
            await asyncio.sleep(0.02)

asyncio.run(wait())
"""
"""What `sleep` is in a page: a reader gives the run of the line above time to get under way; so does this, for as long as
that takes."""


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    line: int
    """Of the page, from 1: the first line of the text."""

    @property
    def file(self) -> str | None:
        named = _FILE.match(self.text) if self.kind in {"yaml", "python"} else None
        return named[1] if named else None


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _BLOCK.finditer(text)]


def matches(expected: str, printed: str) -> bool:
    """Both without what differs from run to run."""
    wanted, found = (_VARIES.sub("~", text).strip() for text in (expected, printed))
    wanted, found = (re.sub(" +", " ", text) for text in (wanted, found))
    pattern = ".*?".join(re.escape(part) for part in wanted.split("..."))
    return re.fullmatch(pattern, found, re.DOTALL) is not None


class Reader:
    """Reads pages in `folder`, which looks like a clone with its environment; `environment` is that of its commands."""

    def __init__(self, folder: Path, environment: dict[str, str], redis: str) -> None:
        self.folder = folder
        self._redis = redis
        self._names: dict[str, object] = {"__name__": "page"}
        tools = folder / ".venv" / "bin"
        tools.mkdir(parents=True)
        shutil.copytree(ROOT / "configs", folder / "configs")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        (folder / ".venv" / ".with-local").touch()  # what `make` looks at: everything is installed
        _write_tool(tools / "orka", f'exec "{sys.executable}" -m orka.cli.main "$@"')
        _write_tool(tools / "python", f'exec "{sys.executable}" "$@"')
        _write_tool(tools / "sleep", f"exec '{sys.executable}' - <<'END'{_WAIT}END")
        self.environment = {
            **environment,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        }

    def play(self, page: Path) -> None:
        printed = ""
        for block in read_blocks(page):
            place = f"{page.name}:{block.line}"
            assert block.kind in KINDS, f"{place}: a block of an unknown kind, {block.kind!r}"
            if block.file is not None:
                (self.folder / block.file).write_text(block.text, encoding="utf-8")
            match block.kind:
                case "sh":
                    printed = self._shell(block, place)
                case "python" if block.file is None:
                    printed = self._python(block, place)
                case "yaml":
                    report = check_file(block.text, place)
                    assert [fault.render() for fault in report.faults] == []
                case "output":
                    assert matches(block.text, printed), f"{place}: it prints\n{printed}"
                case _:
                    pass

    def _shell(self, block: Block, place: str) -> str:
        lines = [line for line in block.text.splitlines() if not LEFT_OUT.match(line)]
        script = "\n".join(lines).replace("localhost:6380", self._redis)
        if re.search(r"\bRUN\b", script):
            script = re.sub(r"\bRUN\b", self._newest_run(), script)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{place}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return "".join(
            line for line in done.stdout.splitlines(True) if not line.startswith(".venv/bin/")
        )  # make's echo

    def _newest_run(self) -> str:
        async def ask() -> str:
            async with open_runs(Settings.from_environment(self.environment)) as runs:
                return (await runs.list(limit=1))[0].run_id

        return asyncio.run(ask())

    def _python(self, block: Block, place: str) -> str:
        code = compile(block.text, place, "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), _inside(self.folder, self.environment):
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(eval(code, self._names))
            else:
                exec(code, self._names)
        return printed.getvalue()


def _write_tool(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)


@contextlib.contextmanager
def _inside(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """This process, for a while, in another folder, with other variables and with that folder's modules."""
    before, variables = Path.cwd(), dict(os.environ)
    loaded = set(sys.modules)
    os.chdir(folder)
    os.environ.update(environment)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(before)
        for name in set(sys.modules) - loaded:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
