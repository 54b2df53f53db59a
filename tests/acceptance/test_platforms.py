"""A platform without flock(2), such as Windows: everything but the private server works there."""

import subprocess
import sys
from pathlib import Path

from servers import Servers

WITHOUT = """
import os, signal, sys
sys.modules["fcntl"] = None
del os.geteuid, os.getuid, signal.SIGKILL, signal.alarm
"""
GRAPH = """
orchestrator: {id: greet, agents: [hello]}
agents:
  - {id: hello, type: template, prompt: "Hello, {{ input }}!"}
"""
COMMAND = WITHOUT + "from orka.cli.main import main\nsys.exit(main())\n"


def started(folder: Path, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "greet.yml").write_text(GRAPH)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PATH": "", "HOME": str(folder), "ORKA_HOME": str(folder / ".orka"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_orka_is_imported_and_a_graph_run_on_a_redis_elsewhere(servers: Servers, tmp_path: Path) -> None:
    code = WITHOUT + (
        "import asyncio\nfrom orka import Orchestrator\nprint(asyncio.run(Orchestrator('greet.yml').run('Ada')))\n"
    )
    done = started(tmp_path, code, REDIS_URL=servers.start().url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, Ada!\n", "")


def test_commands_work_on_a_redis_elsewhere(servers: Servers, tmp_path: Path) -> None:
    url = servers.start().url
    done = started(tmp_path, COMMAND, "run", "greet.yml", "Ada", REDIS_URL=url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, Ada!\n", "")
    assert started(tmp_path, COMMAND, "system", "status", REDIS_URL=url).returncode == 0


def test_without_one_the_error_names_the_remedy(tmp_path: Path) -> None:
    for arguments in (("run", "greet.yml", "Ada"), ("system", "status"), ("system", "stop")):
        done = started(tmp_path, COMMAND, *arguments)
        assert (done.returncode, done.stdout) == (3, "")
        assert "unsupported platform: the private server runs on Linux and macOS" in done.stderr
        assert "set REDIS_URL to a running Redis" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / ".orka").exists()
