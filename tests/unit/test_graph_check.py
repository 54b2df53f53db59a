"""What a whole file is told about itself: the exact first line of every report, one mistake at a time."""

# ruff: noqa: E501  (reports stand here as they are printed)

import pytest

from orka.agents.registry import Registry
from orka.graph.load import check_graph
from orka.graph.models import KINDS
from orka.services import check_file
from orka.template.environment import Environment

SPECS = Registry().specs()
COMPILE = Environment().compile


def report(text: str, *, strict: bool = False) -> list[str]:
    """The first lines of all faults."""
    found = check_graph(text, source="f.yml", specs=SPECS, compile_template=COMPILE, strict=strict)
    assert (found.graph is None) == any(fault.severity == "error" for fault in found.faults)
    return [fault.render().splitlines()[0] for fault in found.faults]


def agents(*entries: str, listed: str = "[a]") -> list[str]:
    """Of a file whose list stands on line 1 and whose entries stand on lines 3 and following, one each."""
    return report(f"orchestrator: {{agents: {listed}}}\nagents:\n" + "".join(f"  - {entry}\n" for entry in entries))


ECHO = "{id: a, type: echo}"
B, C = "{id: b, type: echo}", "{id: c, type: echo}"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[]", ["f.yml:1:1: error: a graph is a mapping with 'orchestrator' and 'agents', not a list"]),
        ("agents: []", ["f.yml:1:1: error: the file has no 'orchestrator'"]),
        ("orchestrator: x", ["f.yml:1:15: error: 'orchestrator' of the file must be a mapping, not 'x'"]),
        ("orchestrator: {}", ["f.yml:1:15: error: 'orchestrator' has no 'agents'"]),
        ("orchestrator: {agents: []}", ["f.yml:1:24: error: 'orchestrator' lists no agents"]),
        (
            "orchestrator: {agents: a}",
            ["f.yml:1:24: error: 'agents' of 'orchestrator' must be a list, not 'a' (write [a])"],
        ),
        (
            "orchestrator: {agents: [a]}\nagents: {a: 1}",
            ["f.yml:2:9: error: 'agents' of the file must be a list, not a mapping"],
        ),
        (
            "orchestrator: {agents: [{id: a, type: echo}], dead_line: 3}\nagent: []",
            [
                "f.yml:1:47: warning: unknown key 'dead_line' in 'orchestrator' (did you mean 'deadline'?)",
                "f.yml:2:1: warning: unknown key 'agent' in the file (did you mean 'agents'?)",
            ],
        ),
        (
            "orchestrator: {agents: [{id: a, type: echo}], max_steps: no, durability: fast}",
            [
                "f.yml:1:58: error: 'max_steps' of 'orchestrator' must be a number, not no",
                "f.yml:1:74: error: 'durability' of 'orchestrator' must be 'group' or 'strict', not 'fast'",
            ],
        ),
    ],
)
def test_faults_of_the_frame(text: str, faults: list[str]) -> None:
    assert report(text) == faults


@pytest.mark.parametrize(
    ("entry", "faults"),
    [
        ("x", ["f.yml:3:5: error: an entry of 'agents' is a mapping with 'id' and 'type', not 'x'"]),
        ("{type: echo}", ["f.yml:3:5: error: an entry of 'agents' has no 'id'"]),
        ("{id: on, type: echo}", ["f.yml:3:10: error: 'id' must be text, not on (YAML reads on as true or false; write \"on\")"]),
        ("{id: b.c, type: echo}", ["f.yml:3:10: error: id 'b.c' holds '.' (use letters, digits, '_', '-' and blanks)"]),
        ("{id: b}", ["f.yml:3:10: error: agent 'b' has no 'type'"]),
        ("{id: b, type: [echo]}", ["f.yml:3:19: error: 'type' of 'b' must be text, not a list"]),
        ("{id: b, type: ecko}", ["f.yml:3:19: error: type 'ecko' of agent 'b' is not known (did you mean 'echo'?)"]),
        (
            "{id: b, type: zzz}",
            [
                "f.yml:3:19: error: type 'zzz' of agent 'b' is not known "
                f"(known are: {', '.join(sorted({*SPECS, *KINDS}))}; `--import MODULE` adds those of a module)"
            ],
        ),
        (
            "{id: b, type: streaming-executor, promt: x}",
            ["f.yml:3:19: error: type 'streaming-executor' is known but this version has no agent for it yet"],
        ),
        ("{id: b, type: satellite_state_writer}", ["f.yml:3:19: error: type 'satellite-state-writer' is known but this version has no agent for it yet"]),
        ("{id: b, type: echo, params: 3}", ["f.yml:3:33: error: 'params' of 'b' must be a mapping, not 3"]),
        (
            "{id: b, type: echo, timeout: 0, retry: {attempts: many}, on_error: retry, prompt: 5, is_terminal: maybe}",
            [
                "f.yml:3:34: error: 'timeout' of agent 'b' must be more than 0, not 0",
                "f.yml:3:55: error: 'retry.attempts' of agent 'b' must be a whole number, not 'many'",
                "f.yml:3:72: error: 'on_error' of agent 'b' must be 'continue' or 'stop', not 'retry'",
                "f.yml:3:87: error: 'prompt' of agent 'b' must be text, not 5 (write \"5\")",
                "f.yml:3:103: error: 'is_terminal' of agent 'b' must be true or false, not 'maybe'",
            ],
        ),
        ("{id: b, type: echo, retry: often}", ["f.yml:3:32: error: 'retry' of agent 'b' must be a whole number or a mapping, not 'often'"]),
        ("{id: b, type: classify}", ["f.yml:3:10: error: agent 'b' (classify) has no 'labels'"]),
        ("{id: b, type: classify, labels: []}", ["f.yml:3:37: error: 'labels' of agent 'b' (classify) is empty"]),
        ("{id: b, type: failing, delay: soon}", ["f.yml:3:35: error: 'delay' of agent 'b' (failing) must be a number, not 'soon'"]),
        ("{id: b, type: router, routing_map: {}}", ["f.yml:3:10: error: router 'b' has no 'decision_key'"]),
        (
            "{id: b, type: router, decision_key: a, routing_map: {x: [a, 7], y: q, default: r}, fallback_route: {s: 1}}",
            [
                "f.yml:3:65: error: 'routing_map' of router 'b' must hold ids, not 7 (write \"7\")",
                "f.yml:3:72: error: agent 'q' in 'routing_map' of router 'b' is not defined",
                "f.yml:3:84: error: agent 'r' in 'routing_map' of router 'b' is not defined",
                "f.yml:3:104: error: 'fallback_route' of router 'b' must hold ids, not a mapping",
            ],
        ),
        ("{id: b, type: fork}", ["f.yml:3:10: error: fork 'b' has no 'targets'"]),
        ("{id: b, type: fork, targets: a}", ["f.yml:3:34: error: 'targets' of fork 'b' must be a list, not 'a' (write [a])"]),
        (
            "{id: b, type: fork, targets: [[], [a, [q, []]]], mode: paralel}",
            [
                "f.yml:3:35: error: branch 1 of fork 'b' is empty",
                "f.yml:3:44: error: agent 'q' in 'targets' of fork 'b.1.1' is not defined",
                "f.yml:3:47: error: branch 2 of fork 'b' is empty",
                "f.yml:3:60: error: 'mode' of fork 'b' must be 'parallel' or 'sequential', not 'paralel' (did you mean 'parallel'?)",
            ],
        ),
        (
            "{id: b, type: fork, targets: [a, [a]], is_terminal: true}",
            [
                "f.yml:3:10: warning: fork 'b' is never reached (no list, route or branch names it)",
                "f.yml:3:34: warning: 'a' is in 2 branches of fork 'b' (a join keeps the output of the last one)",
                "f.yml:3:57: warning: 'is_terminal' has no effect on fork 'b'",
            ],
        ),
        ("{id: b, type: join}", ["f.yml:3:10: error: join 'b' has no 'group', and there is no fork to wait for ('group' names the fork's id)"]),
        ("{id: b, type: join, group: a}", ["f.yml:3:32: error: join 'b' waits for 'a', which is not a fork ('group' names the fork's id)"]),
        ("{id: b, type: join, group: x}", ["f.yml:3:32: error: join 'b' waits for fork 'x', which is not defined"]),
        ("{id: b, type: failover, children: []}", ["f.yml:3:39: error: 'children' of failover 'b' is empty"]),
        (
            "{id: b, type: failover, children: [{id: x, type: echo}, {id: x, type: echo}, q, 5, {id: a, type: echo}]}",
            [
                "f.yml:3:66: error: failover 'b' has two children 'x'",
                "f.yml:3:82: error: agent 'q' in 'children' of failover 'b' is not defined",
                "f.yml:3:85: error: 'children' of failover 'b' must hold ids, not 5 (write \"5\")",
                "f.yml:3:93: warning: child 'a' of a failover has the id of another agent (line 4)",
            ],
        ),
        ("{id: b, type: loop}", ["f.yml:3:10: error: loop 'b' has no 'internal_workflow'"]),
        ("{id: b, type: loop, internal_workflow: {}}", ["f.yml:3:44: error: the body of loop 'b' has no 'orchestrator'"]),
        (
            "{id: b, type: loop, internal_workflow: {orchestrator: {agents: [], max_steps: 3}}}",
            [
                "f.yml:3:59: error: 'orchestrator' of loop 'b' lists no agents",
                "f.yml:3:72: warning: 'max_steps' has no effect inside a loop (it belongs to the file's own 'orchestrator')",
            ],
        ),
        (
            "{id: b, type: loop, internal_workflow: {orchestrator: {agents: [a, q]}}, score_threshold: 85, "
            "score_extraction_config: {strategies: [{type: pattern, patterns: ['(']}, {type: agent_key}]}}",
            [
                "f.yml:3:72: warning: agent 'q' in the list of loop 'b' is not defined and will be skipped",
                "f.yml:3:95: warning: 'score_threshold' of loop 'b' is never reached: scores are 0 to 1 (did you mean 0.85?)",
                "f.yml:3:165: error: bad regular expression '(' in loop 'b': missing ), unterminated subpattern at position 0",
                "f.yml:3:172: error: strategy 'agent_key' of loop 'b' has no 'agents'",
            ],
        ),
        ("{id: b, type: map, agents: [a]}", ["f.yml:3:10: error: map 'b' has no 'items'"]),
        (
            "{id: b, type: map, items: 'a b', as: index, agents: [q]}",
            [
                "f.yml:3:31: error: bad expression in 'items' of 'b': expected token 'end of print statement', got 'b'",
                "f.yml:3:42: error: 'as' of map 'b' must be a name of letters, digits and '_' "
                "that templates do not know yet, not 'index'",
                "f.yml:3:58: error: agent 'q' in 'agents' of map 'b' is not defined",
            ],
        ),
        ("{id: a, type: failing}", ["f.yml:4:10: error: id 'a' is defined twice (first on line 3)"]),
        ("{id: b, type: echo, depends_on: [q]}", ["f.yml:3:10: warning: agent 'b' is never reached (no list, route or branch names it)", "f.yml:3:38: warning: agent 'q' in 'depends_on' of agent 'b' is not defined, so it waits for nothing"]),
        ("{id: b, type: template, prompt: '{{ x'}", ["f.yml:3:37: error: bad template in 'prompt' of 'b': unexpected end of template, expected 'end of print statement'."]),
    ],
)  # fmt: skip
def test_faults_of_one_entry(entry: str, faults: list[str]) -> None:
    assert agents(entry, ECHO) == faults


@pytest.mark.parametrize(
    ("entries", "listed", "faults"),
    [
        ((ECHO,), "[a, bb]", ["f.yml:1:28: error: agent 'bb' is not defined"]),
        ((ECHO, "{id: summarise, type: echo}"), "[sumarise]", ["f.yml:1:25: error: agent 'sumarise' is not defined (did you mean 'summarise'?)"]),
        ((ECHO, B), "[a]", ["f.yml:4:10: warning: agent 'b' is never reached (no list, route or branch names it)"]),
        (
            ("{id: a, type: echo, depends_on: b}", "{id: b, type: echo, depends_on: [a]}"),
            "[a, b]",
            ["f.yml:3:37: error: dependency cycle: a -> b -> a (each waits for the next; take one 'depends_on' away)"],
        ),
        (
            ("{id: a, type: fork, targets: [[b, c]]}", B, "{id: c, type: failover, children: [a]}"),
            "[a]",
            [
                "f.yml:3:10: error: fork 'a' runs inside itself: a -> c -> a "
                "(a router can go back to an earlier agent; a fork, loop, map or failover cannot contain itself)"
            ],
        ),
        (
            ("{id: a, type: map, items: input, agents: a}",),
            "[a]",
            [
                "f.yml:3:10: error: map 'a' runs inside itself: a -> a "
                "(a router can go back to an earlier agent; a fork, loop, map or failover cannot contain itself)"
            ],
        ),
        (
            ("{id: a, type: fork, targets: [[b, r]]}", B, "{id: r, type: router, decision_key: b, routing_map: {x: [a]}}"),
            "[a]",
            [],
        ),
        (
            ("{id: j, type: join}", "{id: f, type: fork, targets: [b, c]}", B, C),
            "[j, f]",
            ["f.yml:3:10: warning: join 'j' waits for 'f', which runs only later (list it after 'f', or give it 'depends_on: f')"],
        ),
        (
            ("{id: j, type: join, mode: quorum, min_success: 3}", "{id: f, type: fork, targets: [b, c]}", B, C),
            "[f, j]",
            ["f.yml:3:10: error: 'min_success' of join 'j' is 3, but fork 'f' has 2 branches"],
        ),
        (
            ("{id: j, type: join, group: f, mode: quorum, min_success: 3}", "{id: f, type: fork, targets: [b, c]}", B, C),
            "[f, j]",
            ["f.yml:3:10: error: 'min_success' of join 'j' is 3, but fork 'f' has 2 branches"],
        ),
        (
            ("{id: j, type: join}", "{id: f, type: fork, targets: [b]}", "{id: g, type: fork, targets: [b]}", B),
            "[f, g, j]",
            ["f.yml:3:10: error: join 'j' has no 'group', and there are 2 forks ('group' names the fork's id, one of 'f', 'g')"],
        ),
        (
            ("{id: r, type: router, decision_key: cc, routing_map: {x: [a]}}", ECHO),
            "[r]",
            ["f.yml:3:10: warning: 'decision_key' of router 'r' names 'cc', which nothing in this file defines"],
        ),
        (
            ("{id: r, type: router, decision_key: b.x, routing_map: {x: [a]}}", ECHO, B),
            "[r, b]",
            ["f.yml:3:10: warning: router 'r' decides by 'b', which runs only later (list it after 'b', or give it 'depends_on: b')"],
        ),
        (
            ("{id: a, type: loop, internal_workflow: {orchestrator: {agents: [w]}, agents: [{id: w, type: echo}]}}",),
            "[a, w]",
            ["f.yml:1:28: error: agent 'w' is not defined (it is defined inside loop 'a' and known only there)"],
        ),
        (
            ("{id: a, type: failover, children: [{id: w, type: echo}]}",),
            "[a, w]",
            ["f.yml:1:28: error: agent 'w' is not defined (it is a child of failover 'a'; define it under 'agents' to use it here too)"],
        ),
        (("{id: a, type: echo, value: {then: b}}", B), "[a]", []),
    ],
)  # fmt: skip
def test_faults_between_entries(entries: tuple[str, ...], listed: str, faults: list[str]) -> None:
    assert agents(*entries, listed=listed) == faults


def template(prompt: str) -> str:
    return f'{{id: a, type: template, prompt: "{prompt}"}}'


@pytest.mark.parametrize(
    ("prompt", "faults"),
    [
        ("{{ previous_outputs.b }}", ["f.yml:3:58: warning: 'prompt' of 'a' reads the output of 'b', which runs only later (list it after 'b', or give it 'depends_on: b')"]),
        ("{{ get_agent_response('bb') }}", ["f.yml:3:61: warning: 'prompt' of 'a' reads the output of 'bb', which nothing in this file defines"]),
        ("{{ previous_outputs.past_loops }}{{ previous_outputs.items() }}{{ previous_outputs.a }}", []),
        ("{{ input | upper | shout }}", ["f.yml:3:37: warning: 'prompt' of 'a': `{{ input | upper | shout }}` (line 1): unknown filter 'shout' leaves its value as it is"]),
    ],
)  # fmt: skip
def test_suspicious_reads_of_a_template_are_warnings(prompt: str, faults: list[str]) -> None:
    assert agents(template(prompt), B, listed="[a, b]") == faults


def test_no_alarm_where_an_earlier_output_may_exist() -> None:
    reads_b = template("{{ previous_outputs.b }} {{ previous_outputs.w }}")
    router = "{id: r, type: router, decision_key: a, routing_map: {again: [a]}}"
    loop = "{id: l, type: loop, internal_workflow: {orchestrator: {agents: [w, b]}, agents: [{id: w, type: echo}]}}"
    assert agents(reads_b, B, router, loop, listed="[a, b, r, l]") == []
    fork = "{id: f, type: fork, targets: [[a], [b], [w]]}"
    assert agents(reads_b, B, fork, "{id: w, type: echo}", listed="[f]") == []


READS = "{id: a, type: template, prompt: '{{ previous_outputs.b }} {{ previous_outputs.c }}'}"
SPREAD = "{id: f, type: fork, targets: [b, [c]]}"
JOIN = "{id: j, type: join, group: f}"


def test_outputs_of_branches_that_nothing_has_joined_are_reported() -> None:
    end = (
        "which runs in fork 'f' and is not visible here: nothing joins the fork before (list a join of 'f' before 'a')"
    )
    assert agents(READS, B, C, SPREAD, JOIN, listed="[f, a, j]") == [
        f"f.yml:3:58: warning: 'prompt' of 'a' reads the output of 'b', {end}",
        f"f.yml:3:83: warning: 'prompt' of 'a' reads the output of 'c', {end}",
    ]


def test_outputs_of_a_nested_list_of_targets_wait_for_the_same_join() -> None:
    nested = "{id: f, type: fork, targets: [[d, [b, c]]]}"
    found = agents(READS, B, C, "{id: d, type: echo}", nested, JOIN, listed="[f, a, j]")
    assert [line.split(", which")[0] for line in found] == [
        "f.yml:3:58: warning: 'prompt' of 'a' reads the output of 'b'",
        "f.yml:3:83: warning: 'prompt' of 'a' reads the output of 'c'",
    ]


@pytest.mark.parametrize(
    ("listed", "entries"),
    [
        ("[f, j, a]", [SPREAD, JOIN]),
        ("[f, j, a]", [SPREAD, "{id: j, type: join}"]),
        ("[f, a]", [SPREAD]),
        ("[f, b, c, a]", [SPREAD]),
        ("[b, c, f, a]", [SPREAD]),
        ("[f, r, a]", [SPREAD, JOIN, "{id: r, type: router, decision_key: input, routing_map: {x: j}}"]),
        ("[f, r, a]", [SPREAD, "{id: r, type: router, decision_key: input, routing_map: {x: [b, c]}}"]),
        ("[r, a]", [SPREAD, "{id: r, type: router, decision_key: input, routing_map: {x: f}}"]),
        ("[f]", ["{id: f, type: fork, targets: [[b, c, a]]}"]),
        ("[f, r, a]", [SPREAD, "{id: r, type: echo, value: [b, c]}"]),
    ],
)
def test_no_alarm_where_a_branch_may_have_been_joined(listed: str, entries: list[str]) -> None:
    assert agents(READS, B, C, *entries, listed=listed) == []


@pytest.mark.parametrize("retry", ["3", "{attempts: 3}"])
@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("fork, targets: [a]", " (it belongs on the agents inside)"),
        ("failover, children: [a]", " (it belongs on the agents inside)"),
        ("loop, internal_workflow: {orchestrator: {agents: [a]}}", " (it belongs on the agents inside)"),
        ("map, items: [1], agents: a", " (it belongs on the agents inside)"),
        ("join, group: f", " (it belongs on the agents of its branches)"),
        (
            "router, decision_key: a, routing_map: {x: a}",
            " (it belongs on the agent that it decides by; 'fallback_route' is for what fits no route)",
        ),
    ],
)
def test_retry_of_a_control_node_has_no_effect(kind: str, hint: str, retry: str) -> None:
    others = [ECHO, "{id: f, type: fork, targets: [a]}"] if kind.startswith("join") else [ECHO]
    found = agents(f"{{id: b, retry: {retry}, type: {kind}}}", *others, listed="[f, b]" if others[1:] else "[b]")
    name = kind.split(",")[0]
    assert found == [f"f.yml:3:20: warning: 'retry' has no effect on {name} 'b'{hint}"]


def test_retry_of_a_whole_file_is_for_its_agents() -> None:
    assert agents("{id: b, type: fork, targets: [a]}", ECHO, listed="[b], retry: 3") == []


@pytest.mark.parametrize(
    "where",
    [
        "score_extraction_config: {strategies: [{type: pattern, patterns: [%s]}]}",
        "score_extraction_pattern: %s",
        "cognitive_extraction: {extract_patterns: {insights: [%s]}}",
    ],
)
@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (
            "((a{99}){99})+b",
            "loop 'l': the pattern '((a{99}){99})+b' repeats a group that itself repeats or has alternatives",
        ),
        ("(?u)(?ai)", "bad regular expression '(?u)(?ai)' in loop 'l': ASCII and UNICODE flags are incompatible"),
        ("a" * 1001, f"bad regular expression '{'a' * 57}...' in loop 'l': longer than 1000 characters"),
    ],
)
def test_patterns_that_a_run_would_refuse_are_refused_at_their_place(where: str, pattern: str, problem: str) -> None:
    shown = where % f"'{pattern}'"
    text = f"""orchestrator: {{agents: [l]}}
agents:
  - id: l
    type: loop
    internal_workflow: {{orchestrator: {{agents: [w]}}, agents: [{{id: w, type: echo}}]}}
    {shown}
"""
    column = 5 + shown.index("'")
    faults = check_file(text, "f.yml").faults
    assert [fault.render().splitlines()[0] for fault in faults] == [f"f.yml:6:{column}: error: {problem}"]


def test_a_file_full_of_patterns_is_refused() -> None:
    patterns = [f"{number:04}" + "x" * 900 for number in range(30)]
    loop = f"{{id: l, type: loop, internal_workflow: {{orchestrator: {{agents: [a]}}}}, cognitive_extraction: {{extract_patterns: {{insights: {patterns}}}}}}}"
    found = agents(ECHO, loop, listed="[l]")
    assert len(found) == 8
    assert found[0].endswith("error: loop 'l': more than 20,000 characters of regular expressions in this file")


def test_the_line_of_a_bad_template_is_the_line_of_the_file() -> None:
    text = """orchestrator: {agents: [a]}
agents:
  - id: a
    type: template
    prompt: |

      Hello
      there {{ input }
"""
    found = check_graph(text, source="f.yml", specs=SPECS, compile_template=COMPILE)
    assert [fault.render() for fault in found.faults] == [
        "f.yml:8:7: error: bad template in 'prompt' of 'a': unexpected '}'\n    there {{ input }\n    ^"
    ]


def test_strict_makes_errors_of_what_a_lenient_run_would_skip() -> None:
    text = """
orchestrator: {agents: [l]}
agents:
  - id: l
    type: loop
    internal_workflow:
      orchestrator: {agents: [w, nobody]}
      agents: [{id: w, type: template, prompt: "{{ input | shout }}"}]
"""
    assert [line.split(": ")[1] for line in report(text)] == ["warning", "warning"]
    assert report(text, strict=True) == [
        "f.yml:7:34: error: agent 'nobody' in the list of loop 'l' is not defined",
        "f.yml:8:48: error: 'prompt' of 'w': `{{ input | shout }}` (line 1): unknown filter 'shout' leaves its value as it is",
    ]


def test_an_option_that_looks_like_a_template_is_only_suspected() -> None:
    assert agents("{id: a, type: echo, value: '{{ oops'}") == [
        "f.yml:3:32: warning: 'value' of 'a' looks like a template but does not compile: "
        "unexpected end of template, expected 'end of print statement'."
    ]


def test_all_faults_of_a_file_come_together_in_file_order() -> None:
    text = """
orchestrator: {agents: [a, nope]}
agents:
  - {id: a, type: ecko}
  - {id: b, type: echo, timeout: x}
  - {id: c, type: template, prompt: "{% if %}"}
"""
    assert [line.split(" ")[0] for line in report(text)] == ["f.yml:2:28:", "f.yml:4:19:", "f.yml:5:34:", "f.yml:6:37:"]


def test_chains_of_shared_children_cannot_blow_a_file_up() -> None:
    entries = ["{id: f0, type: echo}"]
    entries += [
        f"{{id: f{n}, type: failover, children: [{{id: x{n}, type: failover, children: [f{n - 1}]}}, f{n - 1}]}}"
        for n in range(1, 30)
    ]
    assert "more than 50,000 nodes, counting shared children" in agents(*entries, listed="[f29]")[0]


def test_nesting_by_names_has_a_limit() -> None:
    chain = [f"{{id: f{n}, type: fork, targets: [f{n + 1}]}}" for n in range(1000)]
    faults = agents(*chain, "{id: f1000, type: echo}", listed="[f0]")
    assert faults == [
        "f.yml:3:10: error: 1001 nodes are nested inside each other, the outermost being fork 'f0' (at most 100)"
    ]
    chain = [f"{{id: f{n}, type: failover, children: [f{n + 1}]}}" for n in range(1000)]
    faults = agents(*chain, "{id: f1000, type: echo}", listed="[f0]")
    assert faults[0].startswith("f.yml:3:10: error: 1001 nodes are nested inside each other")


def test_keys_of_a_mapping_inside_an_agent_are_known_or_told() -> None:
    assert agents("{id: a, type: memory, config: {limitt: 3, vector_field: x, force_recreate_index: true}}") == [
        "f.yml:3:36: warning: unknown key 'limitt' in 'config' of agent 'a' (did you mean 'limit'?)"
    ]
    assert agents("{id: a, type: memory, operation: write, params: {limit: 3}}") == [
        "f.yml:3:27: warning: unknown key 'operation' in agent 'a' (it belongs under 'config')",
        "f.yml:3:54: warning: unknown key 'limit' in agent 'a' (it belongs under 'config')",
    ]


def test_a_type_that_says_something_else_than_its_options_is_told() -> None:
    assert agents("{id: a, type: memory-writer, config: {operation: read}}") == [
        "f.yml:3:54: warning: 'config.operation' of agent 'a' is 'read', and its type says 'write' "
        "('read' counts: make both say the same)"
    ]
    assert agents("{id: a, type: memory-writer, config: {operation: write}}") == []
