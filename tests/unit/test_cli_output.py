"""What is printed: control characters are shown and not obeyed, JSON stays JSON, inputs are read as they are."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from orka.cli.arguments import STANDARD_INPUT
from orka.cli.input import read_input
from orka.cli.output import print_table, print_value, render_json, safe_line, safe_text
from orka.errors import ConfigError


def test_an_escape_sequence_is_shown_in_text() -> None:
    assert safe_text("a\x1b[2Jb\x9b1m\u202ec\r\nd\te\rf") == "a\\x1b[2Jb\\x9b1m\\u202ec\r\nd\te\\x0df"


def test_a_line_stays_one_line_of_its_width() -> None:
    assert safe_line("one\ntwo\x07three", 0) == "one two\\x07three"
    assert safe_line("abcdefghij", 5) == "abcd…"


def test_json_with_control_characters_is_json_and_harmless() -> None:
    text = render_json({"a": "\x1b[2J\x9b\u202e", "b": "ä"})
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert "ä" in text
    assert json.loads(text) == {"a": "\x1b[2J\x9b\u202e", "b": "ä"}


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("plain", "plain\n"),
        ("two\nlines", "two\nlines\n"),
        ("\x1b[31mred", "\x1b[31mred\n"),
        (True, "true\n"),
        (None, "null\n"),
        (1.5, "1.5\n"),
        ({"a": [1, "b"]}, '{\n  "a": [\n    1,\n    "b"\n  ]\n}\n'),
    ],
)
def test_a_piped_answer_is_printed_as_it_is(value: object, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_value(value, sys.stdout)  # type: ignore[arg-type]
    assert capsys.readouterr().out == printed


def test_a_table_is_aligned_and_safe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("run", "input"), [("1234", "a\x1b[2Jb\nc"), ("5", "")])
    assert capsys.readouterr().out == "run   input\n1234  a\\x1b[2Jb c\n5\n"


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_text_input_is_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_input('{"a": 1}', as_json=False) == '{"a": 1}'
    assert read_input("", as_json=False) == ""


@pytest.mark.parametrize(("data", "text"), [(b"hi\n", "hi"), (b"hi\r\n", "hi"), (b"hi\n\n", "hi\n"), (b"", "")])
def test_standard_input_loses_one_newline(data: bytes, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, data)
    assert read_input(STANDARD_INPUT, as_json=False) == text


def test_json_input_is_inline_or_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"from": "file"}', encoding="utf-8")
    pipe(monkeypatch, b'{"from": "pipe"}')
    assert read_input('{"from": "here"}', as_json=True) == {"from": "here"}
    assert read_input("42", as_json=True) == 42
    assert read_input(str(file), as_json=True) == {"from": "file"}
    assert read_input(STANDARD_INPUT, as_json=True) == {"from": "pipe"}


@pytest.mark.parametrize("text", ["{", "nowhere.json", "NaN", "a\0b", "x" * 10_000])
def test_bad_json_input_is_an_error_that_says_so(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not JSON|cannot read"):
        read_input(text, as_json=True)


def test_input_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_input("a\udcff", as_json=False)
    pipe(monkeypatch, b"\xff")
    with pytest.raises(ConfigError, match="standard input is not UTF-8"):
        read_input(STANDARD_INPUT, as_json=False)
