"""YAML text to a tree with places: what YAML means here, and the bounds against hostile files."""

import time

import pytest

from orka.graph.diagnostics import Findings, Mark
from orka.graph.tree import ListTree, MapTree, Scalar, Tree, decode_text, plain, read_tree


def read(text: str | bytes) -> tuple[Tree | None, list[str]]:
    decoded, findings = decode_text(text, "f.yml")
    tree = None if findings.failed else read_tree(decoded, findings)
    return tree, [fault.render().splitlines()[0] for fault in findings.faults()]


def test_every_value_knows_its_line_and_column() -> None:
    tree, faults = read("a: 1\nb:\n  - x\n  - {c: yes}\n")
    assert faults == []
    assert isinstance(tree, MapTree)
    listed = tree.value("b")
    assert isinstance(listed, ListTree)
    inner = listed.items[1]
    assert isinstance(inner, MapTree)
    assert tree.entries[0].value == Scalar(1, "1", Mark(1, 4))
    assert listed.items[0].at == Mark(3, 5)
    assert inner.entries[0].key.at == Mark(4, 6)
    assert inner.value("c") == Scalar(True, "yes", Mark(4, 9))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1:30", 90),
        ("1e3", "1e3"),
        ("1.5e+3", 1500.0),
        ("2024-05-01", "2024-05-01"),
        ("'yes'", "yes"),
        ("! 12", "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("=", "="),
        ("{yes: a, 1: b, null: c}", {"yes": "a", "1": "b", "null": "c"}),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
        ("[&m {a: 1, b: 2}, {<<: *m, b: 3}]", [{"a": 1, "b": 2}, {"b": 3, "a": 1}]),
        ("{<<: [{a: 1}, {a: 2, c: 3}]}", {"a": 1, "c": 3}),
        ("\ufeffa: b", {"a": "b"}),
    ],
)
def test_values_are_those_of_yaml_1_1_without_dates(text: str, value: object) -> None:
    tree, faults = read(text)
    assert faults == []
    assert tree is not None
    assert plain(tree) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yml: error: the file is empty (a graph needs 'orchestrator:' and 'agents:')"),
        ("# only a remark\n", "f.yml: error: the file is empty (a graph needs 'orchestrator:' and 'agents:')"),
        ("a: 1\nb: 2\na: 3\n", "f.yml:3:1: error: key 'a' appears twice in this mapping (first on line 1)"),
        ("a: 1\n---\nb: 2\n", "f.yml:2:1: error: a second document begins here (one graph per file; remove the '---')"),
        ("a: *x", "f.yml:1:4: error: alias '*x' has no anchor '&x' before it"),
        ("a: &x [*x]", "f.yml:1:8: error: alias '*x' stands inside its own anchor"),
        (
            "a: !!python/name:os.system",
            "f.yml:1:4: error: tag '!!python/name:os.system' is not allowed in a graph file",
        ),
        ("a: !mine {b: 1}", "f.yml:1:4: error: tag '!mine' is not allowed in a graph file"),
        ("a: !!set {b}", "f.yml:1:4: error: tag '!!set' is not allowed in a graph file"),
        ("a: .nan", "f.yml:1:4: error: '.nan' is not a finite number"),
        (
            "a: 99999999999999999999",
            "f.yml:1:4: error: '99999999999999999999' does not fit into 64 bits (quote it to make it text)",
        ),
        ("a: !!int x", "f.yml:1:4: error: 'x' is not of type !!int"),
        ("a: {{ b }}", 'f.yml:1:5: error: a key must be text, not a mapping (a template needs quotes: "{{ ... }}")'),
        (
            "a: b\x00c",
            "f.yml:1:5: error: character U+0000 is not allowed in YAML (write it as an escape in double quotes)",
        ),
        (
            "a: '\ud800'",
            "f.yml:1:5: error: character U+D800 is not allowed in YAML (write it as an escape in double quotes)",
        ),
        (b"a: b\nc: \xff", "f.yml:2:4: error: the file is not UTF-8: byte 0xff (save it as UTF-8)"),
        ("a:\n\tb: 1", "f.yml:2:1: error: YAML syntax: a tab in the indentation (indent with spaces)"),
        ('a: "b\nc: d\n', "f.yml:1:4: error: YAML syntax: a quoted text is not closed"),
        (
            "a: b: c",
            "f.yml:1:5: error: YAML syntax: mapping values are not allowed in this context "
            "(quote text that contains ': ', or check the indentation)",
        ),
        ("{<<: 3}", "f.yml:1:6: error: '<<' takes a mapping or a list of mappings"),
    ],
)
def test_what_is_not_a_plain_document_is_reported_with_its_place(text: str | bytes, message: str) -> None:
    assert read(text)[1] == [message]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 10) + "]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[" * 200_000, "nested deeper than 200 levels"),
        ("{a: " * 200_000, "nested deeper than 200 levels"),
        ("- " * 200_000, "nested deeper than 200 levels"),
        ("? " * 200_000, "nested deeper than 200 levels"),
        (bomb(30), "more than 100,000 values, counting what aliases stand for"),
        ("a: &a " + "x" * 200_000 + "\nb: [" + "*a, " * 200 + "]", "more than 16,777,216 characters"),
        ("[" + "x, " * 200_000 + "]", "more than 100,000 values"),
        ("a: " + "x" * 5_000_000, "the file is larger than 4 MiB"),
        ("&a [&b [&c [" + "[" * 190 + "]" * 190 + "], *c], [[[[[[[[[[*c]]]]]]]]]]]", "nested deeper than 200 levels"),
        ("<<: " * 5, "mapping values are not allowed"),
    ],
)
def test_hostile_files_are_refused_at_once(text: str, part: str) -> None:
    began = time.process_time()
    tree, faults = read(text)
    assert time.process_time() - began < 2
    assert tree is None
    assert part in faults[0]


def test_nesting_up_to_the_limit_is_read() -> None:
    tree, faults = read("[" * 199 + "x" + "]" * 199)
    assert faults == []
    assert tree is not None


def test_a_megabyte_of_text_is_one_value() -> None:
    tree, faults = read("a: " + "x" * 1_000_000)
    assert faults == []
    assert tree is not None
    assert plain(tree) == {"a": "x" * 1_000_000}


def test_the_pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = "a: [1, yes, &x {b: ~}]\nc: *x\nd: |\n  one\n  two\n"
    with_c = read(text)
    monkeypatch.setattr("orka.graph.tree._LOADER", yaml.SafeLoader)
    assert read(text) == with_c
    assert read("[" * 100_000)[1] == ["f.yml:1:201: error: nested deeper than 200 levels"]


def test_a_fault_shows_the_line_and_a_caret_under_its_column() -> None:
    findings = Findings("f.yml", "first\n  - key: valu\n")
    findings.error("no such value", Mark(2, 10), hint="did you mean 'value'?", agent="a", key="key")
    fault = findings.faults()[0]
    assert fault.render() == ("f.yml:2:10: error: no such value (did you mean 'value'?)\n    - key: valu\n           ^")
    assert fault.as_json() == {
        "severity": "error",
        "message": "no such value",
        "file": "f.yml",
        "line": 2,
        "column": 10,
        "hint": "did you mean 'value'?",
        "agent_id": "a",
        "key": "key",
        "source_line": "  - key: valu",
    }


def test_of_a_giant_line_only_the_part_around_the_fault_is_shown() -> None:
    findings = Findings("f.yml", "x" * 100_000 + "HERE" + "y" * 100_000)
    findings.error("look", Mark(1, 100_001))
    shown, caret = findings.faults()[0].render().splitlines()[1:]
    assert len(shown) < 130
    assert shown[caret.index("^") :].startswith("HERE")


def test_faults_come_in_file_order_once_each_and_not_more_than_200() -> None:
    findings = Findings("f.yml", "")
    for line in range(300, 0, -1):
        findings.warning("odd", Mark(line, 1))
        findings.warning("odd", Mark(line, 1))
    faults = findings.faults()
    assert len(faults) == 201
    assert [fault.line for fault in faults[:3]] == [101, 102, 103]
    assert faults[-1].message == "100 more faults are not shown"
