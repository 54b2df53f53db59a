"""Opening graph files: what is read, and what cannot be read is said with the way out."""

from pathlib import Path

import pytest

from orka.agents.registry import Registry
from orka.errors import GraphError
from orka.graph.load import Loaded, load_graph
from orka.template.environment import Environment

SPECS = Registry().specs()
COMPILE = Environment().compile
GOOD = "orchestrator: {id: g, agents: [a]}\nagents:\n  - {id: a, type: echo}\n  - {id: b, type: echo}\n"


def load(path: Path | str, strict: bool = False) -> Loaded:
    return load_graph(path, specs=SPECS, compile_template=COMPILE, strict=strict)


def refusal(path: Path | str) -> str:
    with pytest.raises(GraphError) as caught:
        load(path)
    assert caught.value.path == str(path)
    assert [fault.render() for fault in caught.value.diagnostics] == str(caught.value).split("\n")
    return str(caught.value)


def test_a_file_becomes_a_graph_with_its_warnings(tmp_path: Path) -> None:
    file = tmp_path / "flow.yml"
    file.write_text(GOOD, encoding="utf-8")
    loaded = load(file)
    assert (loaded.graph.id, loaded.graph.source, loaded.graph.scope.sequence) == ("g", str(file), ("a",))
    assert [(fault.line, fault.agent_id, fault.message) for fault in loaded.warnings] == [
        (4, "b", "agent 'b' is never reached")
    ]


def test_an_error_carries_every_fault_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "flow.yml"
    file.write_text(GOOD.replace("[a]", "[a, bb]").replace("type: echo}", "type: ecko}", 1), encoding="utf-8")
    with pytest.raises(GraphError) as caught:
        load(file)
    assert str(caught.value) == (
        f"{file}:1:35: error: agent 'bb' is not defined\n"
        "    orchestrator: {id: g, agents: [a, bb]}\n"
        "                                      ^\n"
        f"{file}:3:19: error: type 'ecko' of agent 'a' is not known (did you mean 'echo'?)\n"
        "    - {id: a, type: ecko}\n"
        "                    ^"
    )
    assert [fault.message for fault in caught.value.diagnostics] == [
        "agent 'bb' is not defined",
        "type 'ecko' of agent 'a' is not known",
    ]


def test_a_missing_file_says_where_it_was_looked_for_or_names_its_twin(tmp_path: Path) -> None:
    (tmp_path / "flow.yml").write_text(GOOD, encoding="utf-8")
    missing, twin = tmp_path / "none.yml", tmp_path / "flow.yaml"
    assert refusal(missing) == f"{missing}: error: the file does not exist (looked in {str(tmp_path)!r})"
    assert refusal(twin) == f"{twin}: error: the file does not exist; did you mean {str(tmp_path / 'flow.yml')!r}?"


def test_what_is_no_readable_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: error: the file is a folder; name the graph file in it"
    long = tmp_path / ("x" * 300)
    assert refusal(long) == f"{long}: error: the file cannot be read: File name too long"
    assert refusal("a\x00b") == "a\x00b: error: the file cannot be read: embedded null byte"


def test_of_a_giant_file_only_the_allowed_part_is_read(tmp_path: Path) -> None:
    file = tmp_path / "flow.yml"
    with file.open("wb") as out:
        out.truncate(3_000_000_000)
    assert refusal(file) == f"{file}: error: the file is larger than 4 MiB"


def test_strict_loading_refuses_what_would_be_skipped(tmp_path: Path) -> None:
    file = tmp_path / "flow.yml"
    file.write_text(
        "orchestrator: {agents: [l]}\nagents:\n"
        "  - {id: l, type: loop, internal_workflow: {orchestrator: {agents: [w, x]}, agents: [{id: w, type: echo}]}}\n",
        encoding="utf-8",
    )
    assert len(load(file).warnings) == 1
    with pytest.raises(GraphError, match="agent 'x' in the list of loop 'l' is not defined"):
        load(file, strict=True)
