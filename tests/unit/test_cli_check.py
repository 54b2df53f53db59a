"""Commands that need no server: exit codes that a script can use, faults that a program can read."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orka.cli.main import perform

Check = Callable[..., tuple[int, str, str]]

CLEAN = "orchestrator: {id: ok, strategy: sequential, agents: [a]}\nagents: [{id: a, type: echo}]\n"
WARNED = "orchestrator: {id: ok, strategy: sequential, agents: [a]}\nagents: [{id: a, type: echo, colour: red}]\n"
BROKEN = "orchestrator: {id: ok, strategy: sequential, agents: [b]}\nagents: [{id: a, type: echo}]\n"


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Check]:
    """Runs a command in this process, in a folder with three graphs: (exit code, standard output, standard error)."""
    for name, text in (("clean.yml", CLEAN), ("warned.yml", WARNED), ("broken.yml", BROKEN)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("orka")
    before = (list(logger.handlers), logger.level, logger.propagate)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = perform(arguments)
        return code, *capsys.readouterr()

    yield run
    logger.handlers, logger.level, logger.propagate = before


@pytest.mark.parametrize("command", ["check", "validate"])
@pytest.mark.parametrize(
    ("files", "code"),
    [
        ("clean.yml", 0),
        ("clean.yml --strict", 0),
        ("warned.yml", 0),
        ("warned.yml --strict", 1),
        ("broken.yml", 2),
        ("clean.yml warned.yml broken.yml --strict", 2),
        ("nowhere.yml clean.yml", 2),
        ("", 2),
    ],
)
def test_the_exit_code_tells_the_worst_fault(command: str, files: str, code: int, check: Check) -> None:
    assert check(command, *files.split())[0] == code


def test_an_input_of_several_words_is_told_to_be_quoted(check: Check) -> None:
    code, out, err = check("run", "clean.yml", "two", "words")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: Unused Tokens: ['words'].",
        'An input of several words is quoted: orka run FILE "two words"',
        "Try: orka run --help",
    ]


def test_every_file_is_reported(check: Check) -> None:
    _, out, err = check("check", "clean.yml", "broken.yml", "nowhere.yml")
    assert "clean.yml: ok" in out
    assert "broken.yml:1:" in out
    assert "broken.yml: 1 error, 0 warnings" in out
    assert "nowhere.yml: error: the file does not exist" in out
    assert err == ""


def test_json_is_a_list_with_one_object_per_file(check: Check) -> None:
    reports = json.loads(check("check", "clean.yml", "broken.yml", "--json")[1])
    assert reports[0] == {"file": "clean.yml", "ok": True, "faults": []}
    assert (reports[1]["file"], reports[1]["ok"]) == ("broken.yml", False)
    assert reports[1]["faults"][0]["severity"] == "error"
    assert reports[1]["faults"][0]["line"] == 1


def test_the_schema_is_json_and_can_be_written_to_a_file(check: Check, tmp_path: Path) -> None:
    _, printed, _ = check("schema")
    assert json.loads(printed)["$schema"].startswith("https://json-schema.org/")
    assert check("schema", "--output", "schema.json")[0] == 0
    assert (tmp_path / "schema.json").read_text() == printed
    assert check("schema", "--output", "no/such/folder.json")[0] == 2


@pytest.mark.parametrize("command", ["run", "resume", "check", "schema", "runs list", "system status"])
def test_every_command_has_help(command: str, check: Check) -> None:
    code, out, _ = check(*command.split(), "--help")
    assert code == 0
    assert f"orka {command}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu", "greet.yml", "x"), 'Did you mean "run"'),
        (("check", "--jsno"), "Did you mean --json"),
        (("run", "clean.yml"), "orka run --help"),
        (("runs", "list", "--status", "sleeping"), "sleeping"),
        (("runs", "list", "--limit", "many"), "many"),
        (("run", "clean.yml", "x", "--watch", "--quiet"), "exclude each other"),
        (("run", "clean.yml", "{", "--json-input"), "is not JSON"),
        (("run", "nowhere.yml", "x"), "nowhere.yml: error: the file does not exist"),
        (("run", "broken.yml", "x"), "broken.yml:1:"),
        (("run", "clean.yml", "12345678901234567890123456789", "--json-input"), "an integer beyond 64 bits"),
        (("run", "clean.yml", "[" * 300_000, "--json-input"), "is nested too deeply: at most 200 levels"),
        (("run", "clean.yml", "[" * 300 + "]" * 300, "--json-input"), "at most 200 levels"),
        (("run", "-", "-"), "only one argument can be '-'"),
        (("check", "-", "clean.yml", "-"), "only one argument can be '-'"),
        (("runs", "list", "--limit", "0"), "--limit must be at least 1, not 0"),
        (("runs", "list", "--limit", "-1"), "--limit must be at least 1, not -1"),
        (("runs", "events", "x", "--from", "garbage"), "--from takes the id of an event"),
        (("runs", "events", "x", "--from", "$"), "--from takes the id of an event"),
        (("runs", "events", "x", "--from", "-1"), "--from takes the id of an event"),
        (("runs", "events", "x", "--from", "18446744073709551616"), "--from takes the id of an event"),
    ],
)
def test_a_mistake_of_the_user_is_explained(arguments: tuple[str, ...], message: str, check: Check) -> None:
    code, out, err = check(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("graph", [CLEAN, WARNED, BROKEN])
def test_a_lone_dash_reads_standard_input(graph: str, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(graph.encode())))
        return check(*arguments)

    code, out, err = given("check", "-")
    assert (code, err) == (2 if graph == BROKEN else 0, "")
    assert [line.split(":")[0] for line in out.splitlines() if line[0] == "<"] == ["<stdin>"] * (2 - (graph == CLEAN))
    [report] = json.loads(given("check", "-", "--json")[1])
    assert (report["file"], report["ok"]) == ("<stdin>", graph != BROKEN)
    assert [fault["file"] for fault in report["faults"]] == ["<stdin>"] * (graph != CLEAN)


def test_a_deleted_working_folder_is_told(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, out, _ = check("check", "nofile.yml")
    assert code == 2
    assert "nofile.yml: error: the file does not exist, nor does the working folder" in out
    code, _, err = check("run", str(tmp_path / "clean.yml"), "x", "--allow-functions")
    assert code == 2
    assert "the working folder does not exist any more" in err


def test_a_bad_setting_is_named(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORKA_LEASE", "soon")
    code, _, err = check("run", "clean.yml", "x")
    assert code == 2
    assert "ORKA_LEASE='soon'" in err


def test_a_defect_is_one_line_and_all_of_it_with_verbose(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("orka.cli.check.load_source", broken)
    code, _, err = check("check", "clean.yml")
    assert (code, "Traceback" in err) == (70, False)
    assert "internal error: ZeroDivisionError: a defect" in err
    assert "Traceback" in check("-v", "check", "clean.yml")[2]
