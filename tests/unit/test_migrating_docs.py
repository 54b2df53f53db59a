"""docs/migrating-from-orka-0.9.md lists every difference that the code knows, and every variable of 0.9."""

from __future__ import annotations

import re
from pathlib import Path

from orka.graph.differences import RULES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migrating-from-orka-0.9.md").read_text(encoding="utf-8")
VARIABLES = """
OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE BASE_OPENAI_MODEL REDIS_URL ORKA_MEMORY_BACKEND ORKA_FORCE_BASIC_REDIS
ORKA_MEMORY_DECAY_ENABLED ORKA_MEMORY_DECAY_SHORT_TERM_HOURS ORKA_MEMORY_DECAY_LONG_TERM_HOURS
ORKA_MEMORY_DECAY_CHECK_INTERVAL_MINUTES ORKA_DEBUG_KEEP_PREVIOUS_OUTPUTS ORKA_LOG_DIR ORKA_LOG_LEVEL
ORKA_MAX_CONCURRENT_REQUESTS ORKA_TIMEOUT_SECONDS ORKA_PORT ORKA_SERVER_HOST ORKA_API_KEY ORKA_MAX_REQUEST_BYTES
ORKA_CORS_ORIGINS ORKA_API_URL ORKA_DISABLE_UI ORKA_UI_SKIP_PULL ORKA_LLM_URL ORKA_LOCAL_COST_POLICY ORKA_REGION
ORKA_ELECTRICITY_RATE_USD_KWH ORKA_HARDWARE_COST_USD ORKA_GPU_TDP_WATTS ORKA_CPU_TDP_WATTS ORKA_ENABLE_STREAMING
ORKA_STREAMING_HTTP_ENABLE ORKA_TUI_MODE NO_COLOR DOCKER_CONTAINER DOCKER_IMAGE PYTEST_RUNNING
"""


def rows(title: str) -> list[list[str]]:
    table = re.search(rf"^{re.escape(title)}.*\n\|[-|]+\|\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[1].splitlines()]


def test_the_table_of_differences_is_that_of_the_code() -> None:
    assert rows("| code |") == [[f"`{rule.code}`", rule.message.replace("|", "\\|")] for rule in RULES]


def test_every_variable_of_the_old_version_is_spoken_of_and_those_that_work_are_read() -> None:
    told = {name: meaning for names, meaning in rows("| variable |") for name in re.findall(r"`([A-Z][A-Z_]+)`", names)}
    assert set(told) == set(VARIABLES.split())
    settings = (ROOT / "orka" / "settings.py").read_text(encoding="utf-8")
    working = {name for name, meaning in told.items() if not meaning.startswith("no effect")}
    read = {name for name in told if f"`{name}`" in settings or f'"{name}"' in settings}
    # Of the terminal: the library that draws on it reads this one.
    assert working - {"NO_COLOR"} == read
