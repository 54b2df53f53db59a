"""The `orka` command in real processes, on the session's private server."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.asked import Asked
from support.journals import OwnServer, own_server
from support.processes import start_maker

from orka.cli.main import perform
from orka.settings import Settings

Completed = subprocess.CompletedProcess[str]


class Orka:
    """Runs `orka ARGUMENTS` in `folder`; what is still running at the end of the test is killed."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ORKA_", "REDIS_")) and k != "PYTHONPATH"}
        self.environment = {**inherited, "ORKA_HOME": str(settings.home), "ORKA_SERVER_LINGER": "0"}
        self.command = [sys.executable, "-m", "orka.cli.main"]
        self._started: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Completed:
        return subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env={**self.environment, **environment},
            check=False,
        )

    def start(self, *arguments: str, **streams: int) -> "subprocess.Popen[str]":
        """A process under way; its own session, so that signals of the test reach it alone."""
        process = subprocess.Popen(
            [*self.command, *arguments],
            stdin=streams.get("stdin", subprocess.DEVNULL),
            stdout=streams.get("stdout", subprocess.PIPE),
            stderr=streams.get("stderr", subprocess.PIPE),
            text=True,
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def orka(tmp_path: Path, redis_settings: Settings) -> Iterator[Orka]:
    command = Orka(tmp_path, redis_settings)
    yield command
    command.close()


@pytest.fixture
def here(
    tmp_path: Path, redis_settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Completed]]:
    """Like `orka`, in this process: many times as fast, for what does not depend on being a process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORKA_HOME", str(redis_settings.home))
    monkeypatch.setenv("ORKA_SERVER_LINGER", "0")
    monkeypatch.delenv("REDIS_URL", raising=False)
    logger = logging.getLogger("orka")
    before = (list(logger.handlers), logger.level, logger.propagate)

    def run(*arguments: str) -> Completed:
        capfd.readouterr()
        code = perform(arguments)
        return Completed(arguments, code, *capfd.readouterr())

    yield run
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a file into the test's folder and gives its name."""

    def write_file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write_file


@pytest.fixture
def fleet_server() -> Iterator[OwnServer]:
    """A server that can be restarted, in a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="orka-") as folder, own_server(Path(folder) / "redis") as started:
        yield started


@pytest.fixture
def fleet_settings(fleet_server: OwnServer) -> Settings:
    """For workers and orchestrators on that server, with a short lease."""
    return replace(fleet_server.settings, lease=1.5)


@pytest.fixture(scope="session")
def maker() -> Iterator[Asked]:
    """Forks workers and orchestrators."""
    started = start_maker()
    yield started
    started.close()
