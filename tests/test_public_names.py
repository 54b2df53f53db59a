"""What `orka` exports: exactly these names, every one of them importable, and none of them loaded by `import orka`."""

import json
import subprocess
import sys

import pytest

import orka

PUBLIC = [
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


def test_the_public_names_are_exactly_these() -> None:
    assert orka.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(orka, name) is not None
    assert name in dir(orka)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Orchestrater'"):
        orka.Orchestrater  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_a_public_constant() -> None:
    assert orka.__version__ == "0.1.0"


def test_importing_orka_loads_nothing_heavy() -> None:
    code = "import orka, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"redis", "pydantic", "numpy", "yaml", "rich", "cyclopts", "msgspec", "structlog", "asyncio"} & set(
        loaded
    )
