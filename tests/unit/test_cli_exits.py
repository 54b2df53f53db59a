"""Exit codes: one table in the code, the same one in docs/cli.md, and a code for every error class."""

import re
from pathlib import Path

import pytest

from orka import errors
from orka.cli.commands import COMMANDS
from orka.cli.exits import MEANINGS, Exit, exit_for

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def test_the_documented_table_is_the_one_in_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == {int(code): text for code, text in MEANINGS.items()}


def test_every_command_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [command.name for command in COMMANDS if f"orka {command.name}" not in text] == []


def test_every_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.GraphError("x"), 2),
        (errors.TemplateError("x"), 2),
        (errors.SettingsError("x"), 2),
        (errors.AgentError("x"), 1),
        (errors.RunTimeout("x"), 1),
        (errors.JournalMismatch("x"), 1),
        (errors.RunCancelled("x"), 6),
        (errors.RunNotFound("x"), 5),
        (errors.RunAlive("x", run_id="r", holder="h", left_ms=1), 4),
        (errors.LeaseLost("x"), 4),
        (errors.BackendMissing("x"), 3),
        (errors.JournalUnavailable("x"), 3),
        (errors.ServerError("x"), 3),
        (errors.OrkaError("x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_its_code(error: errors.OrkaError, code: int) -> None:
    assert exit_for(error) == code
