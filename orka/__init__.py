"""Orka: an asyncio-native orchestration runtime. Public names load on first use, so that `import orka` stays fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from orka.version import VERSION

if TYPE_CHECKING:
    from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
    from orka.agents.legacy import BaseAgent
    from orka.agents.registry import agent, register_agent_type, tool
    from orka.brain.brain import Brain
    from orka.entrypoint import run_cli_entrypoint
    from orka.errors import (
        AgentError,
        BackendMissing,
        BranchError,
        BudgetExceeded,
        ConfigError,
        FailoverExhausted,
        GraphError,
        JournalMismatch,
        JournalUnavailable,
        LeaseLost,
        LLMError,
        OrkaError,
        RouteNotFound,
        RunAlive,
        RunCancelled,
        RunError,
        RunExists,
        RunNotFound,
        RunTimeout,
        ServerError,
        SettingsError,
        StepsExceeded,
        StoreError,
        TemplateError,
    )
    from orka.orchestrator import Orchestrator, RunHandle, RunResult
    from orka.results import NodeResult, Usage
    from orka.runs import RunEvent, RunInfo, open_runs
    from orka.settings import Settings
    from orka.types import Json, RunStatus, Status

__version__ = VERSION

__all__ = [
    "Agent",
    "AgentError",
    "AgentInput",
    "AgentOutput",
    "AgentTools",
    "AgentType",
    "BackendMissing",
    "BaseAgent",
    "Brain",
    "BranchError",
    "BudgetExceeded",
    "ConfigError",
    "FailoverExhausted",
    "GraphError",
    "JournalMismatch",
    "JournalUnavailable",
    "Json",
    "LLMError",
    "LeaseLost",
    "NodeResult",
    "Orchestrator",
    "OrkaError",
    "RouteNotFound",
    "RunAlive",
    "RunCancelled",
    "RunError",
    "RunEvent",
    "RunExists",
    "RunHandle",
    "RunInfo",
    "RunNotFound",
    "RunResult",
    "RunStatus",
    "RunTimeout",
    "ServerError",
    "Settings",
    "SettingsError",
    "Status",
    "StepsExceeded",
    "StoreError",
    "TemplateError",
    "Usage",
    "agent",
    "open_runs",
    "register_agent_type",
    "run_cli_entrypoint",
    "tool",
]

_HOMES = {
    "orka.agents.base": ("Agent", "AgentInput", "AgentOutput", "AgentTools", "AgentType"),
    "orka.agents.legacy": ("BaseAgent",),
    "orka.agents.registry": ("agent", "register_agent_type", "tool"),
    "orka.brain.brain": ("Brain",),
    "orka.orchestrator": ("Orchestrator", "RunHandle", "RunResult"),
    "orka.entrypoint": ("run_cli_entrypoint",),
    "orka.results": ("NodeResult", "Usage"),
    "orka.runs": ("RunEvent", "RunInfo", "open_runs"),
    "orka.settings": ("Settings",),
    "orka.types": ("Json", "RunStatus", "Status"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
"""Every other name of `__all__` is an error."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF.get(name, "orka.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
