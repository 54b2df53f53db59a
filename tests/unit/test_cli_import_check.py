"""`orka import-check`: a folder of old files, each with its verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orka.cli.main import perform

SAME = "orchestrator: {id: same, agents: [a]}\nagents: [{id: a, type: echo}]\n"
DIFFERS = """\
orchestrator: {id: f, agents: [f]}
agents: [{id: f, type: fork, targets: [a, b]}, {id: a, type: echo}, {id: b, type: echo}]
"""
WARNED = "orchestrator: {id: w, agents: [a]}\nagents: [{id: a, type: echo, colour: red}]\n"
CANNOT = "orchestrator: {id: c, agents: [a]}\nagents: [{id: a, type: mystery}]\n"
BROKEN = "orchestrator: {id: c\nagents: [a\n"


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(path.name.replace("_yaml", ".yaml").replace("_yml", ".yml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    code = perform(["import-check", str(folder), *options])
    return code, *capsys.readouterr()


def test_tells_of_every_file_what_becomes_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(
        tmp_path,
        a_yml=SAME,
        deep__inside__b_yaml=DIFFERS,
        c_yml=CANNOT,
        d_yml=BROKEN,
        compose_yml="services: {redis: {image: redis}}",
        hidden__x_yml="",
        e_yml=WARNED,
        notes_yml="[1, 2",
    )
    written(tmp_path / ".venv", a_yml=CANNOT)
    code, out, _ = run(tmp_path, capsys, "--json")
    found = json.loads(out)
    assert code == 2
    assert {file["file"]: file["verdict"] for file in found["files"]} == {
        "a.yml": "runs as is",
        "deep/inside/b.yaml": "runs with differences",
        "c.yml": "cannot run",
        "d.yml": "cannot run",
        "e.yml": "runs as is",
    }
    assert found["others"] == ["compose.yml", "notes.yml", "hidden/x.yml"]
    assert found["counts"] == {"runs as is": 2, "runs with differences": 1, "cannot run": 2, "no workflow": 3}
    by_name = {file["file"]: file for file in found["files"]}
    assert by_name["deep/inside/b.yaml"]["differences"][0]["code"] == "fork-order"
    assert by_name["c.yml"]["faults"][0]["line"] == 2


def test_prints_a_table_and_what_its_words_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, a_yml=SAME, b_yml=DIFFERS, c_yml=CANNOT, e_yml=WARNED, compose_yml="services: {}")
    code, out, err = run(tmp_path, capsys)
    lines = [line.strip() for line in out.splitlines()]
    assert (code, err) == (2, "")
    assert any(line.split() == ["a.yml", "runs", "as", "is"] for line in lines)
    assert any(line.startswith("b.yml") and line.endswith("fork-order") for line in lines)
    assert (
        any(line.startswith("c.yml") and "line 2: unknown type 'mystery'" in line for line in lines) or "mystery" in out
    )
    assert any(line.startswith("e.yml") and line.endswith("1 warning of orka check") for line in lines)
    assert any(line.startswith("fork-order: Branches of a fork run at the same time") for line in lines)
    assert lines[-1] == (
        "4 workflows: 2 run as is, 1 runs with differences, 1 cannot run. No workflows: 1 (compose.yml)."
    )


@pytest.mark.parametrize(
    ("files", "options", "code"),
    [
        ({"a_yml": SAME}, (), 0),
        ({"a_yml": SAME, "b_yml": DIFFERS}, (), 0),
        ({"a_yml": SAME}, ("--strict",), 0),
        ({"a_yml": SAME, "b_yml": DIFFERS}, ("--strict",), 1),
        ({"a_yml": SAME, "c_yml": CANNOT}, (), 2),
        ({"compose_yml": "services: {}"}, (), 2),
        ({}, ("--json",), 2),
    ],
)
def test_the_exit_code_tells_the_worst_verdict(
    files: dict[str, str], options: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(written(tmp_path, **files), capsys, *options)[0] == code


def test_what_is_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(written(tmp_path, a_yml=SAME) / "a.yml", capsys)
    assert (code, out) == (2, "")
    assert "is no folder; `orka check FILE` looks at one file" in err
    assert run(tmp_path / "nowhere", capsys)[0] == 2


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (written(tmp_path, a_yml=SAME) / "b.yml").symlink_to(tmp_path / "missing")
    code, out, _ = run(tmp_path, capsys, "--json")
    files = {file["file"]: file for file in json.loads(out)["files"]}
    assert (code, files["a.yml"]["verdict"], files["b.yml"]["verdict"]) == (2, "runs as is", "cannot run")
    assert files["b.yml"]["faults"][0]["message"] == "the file cannot be read: No such file or directory"
